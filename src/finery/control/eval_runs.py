"""Runs of evals brought to their end: each item answered where a model is to answer, graded, and kept at once.

A restart goes on with the items that have no grade yet. What goes wrong with an item is that item's error; a run fails
only where its data can't be read.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from finery.control import asking, crowd, evals, grading, kept
from finery.control import models as base_models
from finery.control.asking import Ask
from finery.control.evals import COMPLETED, FAILED, IN_PROGRESS, QUEUED, UNFINISHED
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import FineryError
from finery.core.records import Kind, Record
from finery.evaluation import graders
from finery.evaluation.graders import Grade
from finery.storage import records

log = logging.getLogger(__name__)

Json = Mapping[str, Any]

_RANK = {"pass": "passed", "fail": "failed", "error": "errored"}


async def run_pending(plane: ControlPlane, ask: Ask) -> None:
    """Bring every unfinished run to its end, one after the other."""
    for run in await asyncio.to_thread(kept.unfinished, plane, Kind.EVAL_RUN, *UNFINISHED):
        try:
            await _run(plane, run, ask)
        except FineryError as error:
            await asyncio.to_thread(_fail, plane, run, error.code, error.message)
        except Exception:
            log.exception("eval run %s", run.id)
            await asyncio.to_thread(_fail, plane, run, "server_error", "The run failed; the server's log says why.")


async def _run(plane: ControlPlane, run: Record, ask: Ask) -> None:
    owner = kept.owner_of(plane, run)
    found = await asyncio.to_thread(lambda: list(evals.items(plane, owner, run.body["data_source"]["source"])))
    if run.status == QUEUED:
        counts = {**run.body["counts"], "total": len(found)}
        run = await asyncio.to_thread(kept.move, plane, run, IN_PROGRESS, counts=counts)
    with plane.database.read() as connection:
        done = {item.id for item in records.list_owned(connection, run.project_id, Kind.EVAL_ITEM, run.id)}
    model = run.body["model"] or next((base.id for base in base_models.list_bases(plane)), "")
    grader = grading.Grader(caller=owner, ask=ask, embedding_model=model)

    async def one(piece: tuple[int, Json]) -> None:
        number, given = piece
        await asyncio.to_thread(_keep, plane, run, number, given, *await _graded(run, owner, grader, given))

    await crowd.work_through(
        ((number, given) for number, given in enumerate(found) if item_id(run, number) not in done),
        one,
        at_once=plane.settings.inference_slots,
        go_on=lambda: _status(plane, run) == IN_PROGRESS,
    )
    if _status(plane, run) == IN_PROGRESS:
        await asyncio.to_thread(kept.move, plane, run, COMPLETED, event="eval.run.succeeded")


def item_id(run: Record, number: int) -> str:
    """The id of a run's graded item: the same whenever it is graded."""
    return f"outputitem_{run.id.removeprefix('evalrun_')}_{number}"


async def _graded(
    run: Record, owner: Caller, grader: grading.Grader, given: Json
) -> tuple[dict[str, Any], list[Grade]]:
    """What the model said of an item (or the item came with), and all grades of it."""
    criteria = run.body["testing_criteria"]
    sample = await _sample(run, owner, grader.ask, given)
    if "error" in sample:
        return sample, [
            Grade(name=each["name"], type=each["type"]).failed("sample_parse_error", sample["error"])
            for each in criteria
        ]
    return sample, [await grader.grade(each, item=given["item"], sample=sample["sample"]) for each in criteria]


async def _sample(run: Record, owner: Caller, ask: Ask, given: Json) -> dict[str, Any]:
    """`sample` as templates see it, with `input`, `output` and usage; or `error`."""
    source = run.body["data_source"]
    if source["type"] == "jsonl" or not source.get("model"):
        kept_answer = dict(given.get("sample") or {})
        sample = graders.sample_of(str(kept_answer.pop("output_text", "")), **kept_answer)
        return {"sample": sample, "input": [], "output": [{"role": "assistant", "content": sample["output_text"]}]}
    try:
        messages = evals.prompt(source["input_messages"], given["item"])
    except FineryError as error:
        return {"error": error.message, "input": [], "output": []}
    drawn = dict(source.get("sampling_params") or {})
    form = (drawn.pop("text", None) or {}).get("format")
    if form:
        drawn["response_format"] = _response_format(form)
    body = {"seed": 42, **{name: value for name, value in drawn.items() if value is not None}}
    status, answer = await asking.patiently(
        ask, owner, "/v1/chat/completions", {**body, "model": source["model"], "messages": messages}
    )
    if status >= 400:
        return {"error": asking.fault(answer), "input": messages, "output": []}
    choice = answer["choices"][0]
    message = choice["message"]
    tools = message.get("tool_calls")
    return {
        "sample": graders.sample_of(
            message["content"] or "",
            choices=answer["choices"],
            model=answer["model"],
            output_tools=tools or [],
            input=messages,
        ),
        "input": messages,
        "output": [message],
        "finish_reason": choice["finish_reason"],
        "usage": answer["usage"],
    }


def _response_format(form: Json) -> dict[str, Any]:
    """The Responses API's `text.format` as chat completions have it."""
    if form.get("type") != "json_schema":
        return dict(form)
    return {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}


def _keep(plane: ControlPlane, run: Record, number: int, given: Json, sample: Json, grades: list[Grade]) -> None:
    """An item, and what it adds to its run, in one transaction."""
    errored = any(grade.errors for grade in grades)
    status = "error" if errored else ("pass" if all(grade.passed for grade in grades) else "fail")
    item = Record(
        id=item_id(run, number),
        project_id=run.project_id,
        kind=Kind.EVAL_ITEM,
        owner=run.id,
        status=status,
        body={
            "eval_id": run.owner,
            "number": number,
            "item": given["item"],
            "results": [dataclasses.asdict(grade) for grade in grades],
            "sample": {name: sample.get(name) for name in ("input", "output", "finish_reason", "usage", "error")},
            "model": run.body["model"],
            "sampling_params": run.body["data_source"].get("sampling_params") or {},
        },
        created_at=now(),
    )
    with plane.database.write() as connection:
        current = records.get(connection, run.project_id, Kind.EVAL_RUN, run.id)
        if current is None:
            return  # deleted meanwhile
        records.insert_record(connection, item)
        records.change(connection, current, body=_counted(current.body, status, sample, grades))


def _counted(body: dict[str, Any], status: str, sample: Json, grades: list[Grade]) -> dict[str, Any]:
    """A run's body with one more item counted."""
    counts = {**body["counts"], _RANK[status]: body["counts"][_RANK[status]] + 1}
    before = body["criteria"] or [{"passed": 0, "failed": 0} for _ in grades]
    criteria = [
        {"passed": known["passed"] + grade.passed, "failed": known["failed"] + (not grade.passed)}
        for known, grade in zip(before, grades, strict=True)
    ]
    usage = {model: dict(known) for model, known in body["usage"].items()}
    asked = [(body["model"], sample.get("usage"))]
    asked += [(grade.sample["model"], grade.sample["usage"]) for grade in grades if grade.sample]
    for model, used in asked:
        if used:
            _add(usage.setdefault(model, {}), used)
    return {**body, "counts": counts, "criteria": criteria, "usage": usage}


def _add(known: dict[str, int], used: Json) -> None:
    cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    more = {name: used[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    for name, count in {**more, "cached_tokens": cached, "invocation_count": 1}.items():
        known[name] = known.get(name, 0) + count


def _fail(plane: ControlPlane, run: Record, code: str, text: str) -> None:
    if _status(plane, run) in UNFINISHED:
        with plane.database.read() as connection:
            current = records.get(connection, run.project_id, Kind.EVAL_RUN, run.id)
        if current is not None:
            kept.move(plane, current, FAILED, event="eval.run.failed", error={"code": code, "message": text})


def _status(plane: ControlPlane, run: Record) -> str | None:
    with plane.database.read() as connection:
        current = records.get(connection, run.project_id, Kind.EVAL_RUN, run.id)
    return current.status if current else None
