"""Evaluations: models asked the same held-out rows, and compared. Each answer is kept at once, so a restart goes on.

The caretaker asks; `evaluation.comparison` says what the answers are worth. One evaluation runs at a time.
"""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from finery.control import asking, chat, crowd, datasets, files, jobs, kept, likelihoods
from finery.control.asking import Ask
from finery.control.models import ResolvedModel
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, FineryError, InvalidRequest
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.data.rows import iterate
from finery.evaluation import held_out, metrics, probes
from finery.evaluation.comparison import Answer, Comparison, Probe, Row
from finery.evaluation.held_out import HeldOut
from finery.storage import records
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

MAX_MODELS = 8
MAX_ROWS = 10_000
MAX_ANSWER_TOKENS = 4096

QUEUED, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = "queued", "in_progress", "completed", "failed", "cancelled"
UNFINISHED = (QUEUED, IN_PROGRESS)

_BASE, _PARENT = "base", "parent"
"""Words for models, seen from the last one named: its base, and what its job went on from."""


def create(
    plane: ControlPlane,
    caller: Caller,
    *,
    models: Sequence[str],
    data: str,
    metric: str | None = None,
    max_tokens: int | None = None,
    probe: bool = True,
    name: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Record:
    """Take an evaluation in. `data` is a file's id, or a dataset's name; the last model is compared with the others.

    Raises:
        UnknownModel: no such model or deployment. NotFound: no such file.
        InvalidRequest: too many models or one twice, no such metric, or rows that can't be asked, by line.
    """
    if metric is not None:
        metrics.find(metric)
    if max_tokens is not None and not 1 <= max_tokens <= MAX_ANSWER_TOKENS:
        raise InvalidRequest(f"max_tokens is {max_tokens}; it must be 1 to {MAX_ANSWER_TOKENS}.", param="max_tokens")
    file = files.get(plane, caller, datasets.file_of(plane, caller, data), param="data")
    asked = list(_read(plane, file.sha256))
    references = [each.reference for each in asked]
    evaluation = Record(
        id=new_id("evaluation_"),
        project_id=caller.project.id,
        kind=Kind.EVALUATION,
        status=QUEUED,
        metadata=metadata,
        body={
            "name": name,
            "models": _resolve(plane, caller, models),
            "data": data,
            "file_id": file.id,
            "sha256": file.sha256,
            "metric": metric or metrics.default(references),
            "labels": bool(metrics.labels_of(references)),
            "max_tokens": max_tokens or _enough_tokens(asked),
            "probe": probe,
            "counts": {"total": len(models) * (len(asked) + probe * len(probes.general_questions())), "completed": 0},
        },
        created_at=now(),
    )
    return kept.insert(plane, evaluation)


def get(plane: ControlPlane, caller: Caller, evaluation_id: str) -> Record:
    """An evaluation of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    return kept.find(plane, caller, Kind.EVALUATION, evaluation_id, what="evaluation", param="evaluation_id")


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor) -> Page[Record]:
    """Evaluations of the caller's project, newest first."""
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.EVALUATION, cursor)


def list_answers(plane: ControlPlane, caller: Caller, evaluation_id: str, cursor: Cursor) -> Page[Record]:
    """Every answer of an evaluation, in the order in which they came."""
    evaluation = get(plane, caller, evaluation_id)
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.EVALUATION_ANSWER, cursor, owner=evaluation.id)


def cancel(plane: ControlPlane, caller: Caller, evaluation_id: str) -> Record:
    """Stop an evaluation.

    Raises:
        Conflict: it is over.
    """
    evaluation = get(plane, caller, evaluation_id)
    if evaluation.status not in UNFINISHED:
        raise Conflict(f"The evaluation {evaluation.id} is {evaluation.status} and can't be cancelled any more.")
    return kept.move(plane, evaluation, CANCELLED, within=UNFINISHED, finished_at=now())


def delete(plane: ControlPlane, caller: Caller, evaluation_id: str) -> None:
    """Forget an evaluation and its answers; one that runs ends."""
    evaluation = get(plane, caller, evaluation_id)
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.EVALUATION_ANSWER, evaluation.id)
        records.remove(connection, caller.project.id, Kind.EVALUATION, evaluation.id)


def report_of(plane: ControlPlane, caller: Caller, evaluation_id: str) -> dict[str, Any]:
    """What came of an evaluation, as `Comparison.to_json` has it.

    Raises:
        Conflict: it isn't completed.
    """
    evaluation = get(plane, caller, evaluation_id)
    if evaluation.status != COMPLETED:
        raise Conflict(f"The evaluation {evaluation.id} is {evaluation.status}; only a completed one has a report.")
    return dict(evaluation.body["report"])


async def run_pending(plane: ControlPlane, ask: Ask) -> None:
    """Bring every unfinished evaluation to its end, one after the other."""
    for evaluation in await asyncio.to_thread(kept.unfinished, plane, Kind.EVALUATION, *UNFINISHED):
        try:
            await _run(plane, evaluation, ask)
        except FineryError as error:
            await asyncio.to_thread(_fail, plane, evaluation, error.message)
        except Exception:
            log.exception("evaluation %s", evaluation.id)
            await asyncio.to_thread(_fail, plane, evaluation, "The evaluation failed; the server's log says why.")


async def _run(plane: ControlPlane, evaluation: Record, ask: Ask) -> None:
    owner = kept.owner_of(plane, evaluation)
    if evaluation.status == QUEUED:
        evaluation = await asyncio.to_thread(kept.move, plane, evaluation, IN_PROGRESS, started_at=now())
    asked = await asyncio.to_thread(lambda: list(_read(plane, evaluation.body["sha256"])))
    done = await asyncio.to_thread(_answers, plane, evaluation)
    waiting = ((place, held) for place, held in _places(evaluation, asked) if place not in done)

    async def one(piece: tuple[str, HeldOut]) -> None:
        place, held = piece
        model = evaluation.body["models"][int(place.split(":")[0])]["model"]
        answer = await _answer(plane, owner, evaluation, model, held, ask)
        await asyncio.to_thread(_keep, plane, evaluation, place, answer)

    await crowd.work_through(
        waiting, one, at_once=plane.settings.inference_slots, go_on=lambda: _status(plane, evaluation) == IN_PROGRESS
    )
    if _status(plane, evaluation) == IN_PROGRESS:
        await asyncio.to_thread(_finish, plane, evaluation, asked)


async def _answer(
    plane: ControlPlane, owner: Caller, evaluation: Record, model: str, held: HeldOut, ask: Ask
) -> Answer:
    probing = not held.reference
    most = probes.MAX_ANSWER_TOKENS if probing else evaluation.body["max_tokens"]
    body = {**held.body, "model": model, "temperature": 0, "seed": 0, "max_tokens": most}
    if evaluation.body.get("labels") and not probing:
        body["logprobs"] = True if held.path == "/v1/chat/completions" else 0
    began = time.monotonic()
    status, answered = await asking.patiently(ask, owner, held.path, body)
    seconds = time.monotonic() - began
    likelihood = None
    if not probing:
        try:
            likelihood = await likelihoods.score(plane, owner, model, held.row)
        except FineryError as error:
            log.info("evaluation %s: %s", evaluation.id, error.message)
    if status >= 400:
        return Answer(error=asking.fault(answered), seconds=seconds, likelihood=likelihood)
    choice, usage = answered["choices"][0], answered["usage"]
    return Answer(
        text=held_out.said(choice["message"]) if "message" in choice else choice["text"],
        finish_reason=choice["finish_reason"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        seconds=seconds,
        likelihood=likelihood,
        confidence=_confidence(choice),
    )


def _confidence(choice: dict[str, Any]) -> float | None:
    """How likely the model found its answer, where that was asked for and told."""
    told = choice.get("logprobs") or {}
    logprobs = told.get("token_logprobs") or [token["logprob"] for token in told.get("content") or ()]
    if not logprobs or None in logprobs:
        return None
    return min(1.0, math.exp(sum(logprobs)))


def _finish(plane: ControlPlane, evaluation: Record, asked: Sequence[HeldOut]) -> None:
    answers = _answers(plane, evaluation)
    names = [model["name"] for model in evaluation.body["models"]]
    rows = [Row(question=held.question, reference=held.reference) for held in asked]
    by_model = {name: [answers[f"{m}:{n}"] for n in range(len(asked))] for m, name in enumerate(names)}
    probe = None
    if evaluation.body["probe"]:
        questions = probes.general_questions()
        right = {
            name: [question.is_right(answers[f"{m}:p{n}"].text) for n, question in enumerate(questions)]
            for m, name in enumerate(names)
        }
        probe = Probe(questions=[question.text for question in questions], right=right)
    report = Comparison(rows, by_model, metric=evaluation.body["metric"]).to_json(probe)
    kept.move(plane, evaluation, COMPLETED, report=report, finished_at=now())


def _keep(plane: ControlPlane, evaluation: Record, place: str, answer: Answer) -> None:
    model, _, number = place.partition(":")
    record = Record(
        id=f"{evaluation.id}:{place}",
        project_id=evaluation.project_id,
        kind=Kind.EVALUATION_ANSWER,
        owner=evaluation.id,
        status="failed" if answer.error else "completed",
        body={"model": int(model), "row": number, "answer": dataclasses.asdict(answer)},
        created_at=now(),
    )
    with plane.database.write() as connection:
        current = records.get(connection, evaluation.project_id, Kind.EVALUATION, evaluation.id)
        if current is None:
            return  # deleted meanwhile
        records.insert_record(connection, record)
        counts = {**current.body["counts"], "completed": current.body["counts"]["completed"] + 1}
        records.change(connection, current, body={**current.body, "counts": counts})


def _fail(plane: ControlPlane, evaluation: Record, text: str) -> None:
    with plane.database.read() as connection:
        current = records.get(connection, evaluation.project_id, Kind.EVALUATION, evaluation.id)
    if current is not None and current.status in UNFINISHED:
        kept.move(plane, current, FAILED, error=text, finished_at=now())


def _status(plane: ControlPlane, evaluation: Record) -> str | None:
    with plane.database.read() as connection:
        current = records.get(connection, evaluation.project_id, Kind.EVALUATION, evaluation.id)
    return current.status if current else None


def _answers(plane: ControlPlane, evaluation: Record) -> dict[str, Answer]:
    """What was answered so far, by model and row, such as `0:12`; general questions are `0:p3`."""
    with plane.database.read() as connection:
        found = records.list_owned(connection, evaluation.project_id, Kind.EVALUATION_ANSWER, evaluation.id)
    return {f"{record.body['model']}:{record.body['row']}": Answer.from_json(record.body["answer"]) for record in found}


def _places(evaluation: Record, asked: Sequence[HeldOut]) -> Iterator[tuple[str, HeldOut]]:
    """Everything there is to ask, model by model, so that adapters and caches are used while they are warm."""
    for m in range(len(evaluation.body["models"])):
        for n, held in enumerate(asked):
            yield f"{m}:{n}", held
        for n, question in enumerate(probes.general_questions() if evaluation.body["probe"] else ()):
            body = {"messages": [{"role": "user", "content": question.text}]}
            yield (
                f"{m}:p{n}",
                HeldOut(question=question.text, reference="", path="/v1/chat/completions", body=body, row={}),
            )


def _read(plane: ControlPlane, sha256: str) -> Iterator[HeldOut]:
    """The rows of a file as questions.

    Raises:
        InvalidRequest: a row that can't be asked, by its line; no rows, or too many.
    """
    number = 0
    with plane.blobs.as_path(sha256) as path:
        for number, (line, row) in enumerate(iterate(path), 1):
            if number > MAX_ROWS:
                raise InvalidRequest(f"The file has more than {MAX_ROWS} rows; evaluate on fewer.", param="data")
            try:
                yield held_out.read(row)
            except InvalidRequest as error:
                raise InvalidRequest(f"line {line}: {error.message}", param="data") from None
    if not number:
        raise InvalidRequest("The file has no rows; there is nothing to evaluate on.", param="data")


def _resolve(plane: ControlPlane, caller: Caller, names: Sequence[str]) -> list[dict[str, str]]:
    """Each model by the name it was asked for and by its own: a deployment may change while it is evaluated."""
    if not 1 <= len(names) <= MAX_MODELS or len(set(names)) < len(names):
        raise InvalidRequest(f"models has {len(names)} names; give 1 to {MAX_MODELS} different ones.", param="models")
    last = chat.find(plane, caller, names[-1])
    own = {names[-1]: _own_name(last)}
    for name in names[:-1]:
        if name == _BASE:
            own[name] = last.base.id
        elif name == _PARENT:
            own[name] = _parent(plane, caller, last)
        else:
            own[name] = _own_name(chat.find(plane, caller, name))
    return [{"name": name, "model": own[name]} for name in names]


def _own_name(model: ResolvedModel) -> str:
    return model.tuned.name if model.tuned else model.base.id


def _parent(plane: ControlPlane, caller: Caller, model: ResolvedModel) -> str:
    """What a tuned model's job went on from."""
    if model.tuned is None or model.tuned.job_id is None:
        raise InvalidRequest(f"'{model.name}' was not tuned here: it has no parent.", param="models")
    return jobs.get(plane, caller, model.tuned.job_id).model


def _enough_tokens(asked: Sequence[HeldOut]) -> int:
    """Room for the longest reference, written in short tokens."""
    longest = max(len(each.reference) for each in asked)
    return min(MAX_ANSWER_TOKENS, 16 + longest)
