"""OpenAI's evals: what data looks like and how it is graded; runs of them, and the graded items of a run.

This is what their owner does; `eval_runs` brings runs to their end.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from finery.control import chat, files, kept
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.data.rows import iterate
from finery.evaluation import graders, templates
from finery.storage import records
from finery.storage.pages import Cursor, Page

MAX_CRITERIA = 50
MAX_ITEMS = 50_000

QUEUED, IN_PROGRESS, COMPLETED, FAILED, CANCELED = "queued", "in_progress", "completed", "failed", "canceled"
UNFINISHED = (QUEUED, IN_PROGRESS)

Json = Mapping[str, Any]


def create(
    plane: ControlPlane,
    caller: Caller,
    *,
    name: str | None,
    data_source_config: dict[str, Any],
    testing_criteria: list[dict[str, Any]],
    metadata: dict[str, str] | None,
) -> Record:
    """A new eval.

    Raises:
        InvalidRequest: no criteria or too many, or one that could never grade.
    """
    if not 1 <= len(testing_criteria) <= MAX_CRITERIA:
        raise InvalidRequest(
            f"testing_criteria has {len(testing_criteria)} graders; give 1 to {MAX_CRITERIA}.", param="testing_criteria"
        )
    for i, grader in enumerate(testing_criteria):
        graders.check(grader, param=f"testing_criteria[{i}]")
    made = Record(
        id=new_id("eval_"),
        project_id=caller.project.id,
        kind=Kind.EVAL,
        metadata=metadata or {},
        body={"name": name or "Eval", "data_source_config": data_source_config, "testing_criteria": testing_criteria},
        created_at=now(),
    )
    return kept.insert(plane, made)


def get(plane: ControlPlane, caller: Caller, eval_id: str) -> Record:
    """An eval of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    return kept.find(plane, caller, Kind.EVAL, eval_id, what="eval", param="eval_id")


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor) -> Page[Record]:
    """Evals of the caller's project."""
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.EVAL, cursor)


def update(
    plane: ControlPlane, caller: Caller, eval_id: str, *, name: str | None, metadata: dict[str, str] | None
) -> Record:
    """Give an eval another name or other metadata."""
    found = get(plane, caller, eval_id)
    with plane.database.write() as connection:
        body = {**found.body, "name": name} if name else found.body
        records.change(connection, found, body=body, metadata=found.metadata if metadata is None else metadata)
    return get(plane, caller, eval_id)


def delete(plane: ControlPlane, caller: Caller, eval_id: str) -> None:
    """Forget an eval with its runs and their items."""
    found = get(plane, caller, eval_id)
    with plane.database.write() as connection:
        for run in records.list_owned(connection, caller.project.id, Kind.EVAL_RUN, found.id):
            records.remove_owned(connection, caller.project.id, Kind.EVAL_ITEM, run.id)
        records.remove_owned(connection, caller.project.id, Kind.EVAL_RUN, found.id)
        records.remove(connection, caller.project.id, Kind.EVAL, found.id)


def create_run(
    plane: ControlPlane,
    caller: Caller,
    eval_id: str,
    *,
    name: str | None,
    data_source: dict[str, Any],
    metadata: dict[str, str] | None,
) -> Record:
    """Queue a run of an eval.

    Raises:
        InvalidRequest: a data source that can't be read, or a model that is missing. UnknownModel, NotFound likewise.
    """
    found = get(plane, caller, eval_id)
    model = data_source.get("model") or ""
    if data_source["type"] != "jsonl":
        if not model and data_source.get("input_messages"):
            raise InvalidRequest("data_source.model is missing: whose answers are wanted?", param="data_source.model")
        if model:
            chat.find(plane, caller, model)
            _check_messages(data_source.get("input_messages"))
    if not any(True for _ in items(plane, caller, data_source["source"])):
        raise InvalidRequest("The data source has no items; there is nothing to grade.", param="data_source.source")
    run = Record(
        id=new_id("evalrun_"),
        project_id=caller.project.id,
        kind=Kind.EVAL_RUN,
        owner=found.id,
        status=QUEUED,
        metadata=metadata or {},
        body={
            "name": name or "Run",
            "model": model,
            "data_source": data_source,
            "testing_criteria": found.body["testing_criteria"],
            "counts": {"total": 0, "passed": 0, "failed": 0, "errored": 0},
            "criteria": [],
            "usage": {},
        },
        created_at=now(),
    )
    return kept.insert(plane, run)


def get_run(plane: ControlPlane, caller: Caller, eval_id: str, run_id: str) -> Record:
    """A run of an eval.

    Raises:
        NotFound: the eval has none of that id.
    """
    run = kept.find(plane, caller, Kind.EVAL_RUN, run_id, what="eval run", param="run_id")
    if run.owner != eval_id:
        raise NotFound(f"The eval {eval_id} has no run '{run_id}'.", param="run_id")
    return run


def list_runs(plane: ControlPlane, caller: Caller, eval_id: str, cursor: Cursor, status: str | None) -> Page[Record]:
    """Runs of an eval, those in one state where one is named."""
    found = get(plane, caller, eval_id)
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.EVAL_RUN, cursor, owner=found.id, status=status)


def cancel_run(plane: ControlPlane, caller: Caller, eval_id: str, run_id: str) -> Record:
    """Stop a run; what was graded stays.

    Raises:
        Conflict: it is over.
    """
    run = get_run(plane, caller, eval_id, run_id)
    if run.status not in UNFINISHED:
        raise Conflict(f"The run {run.id} is {run.status} and can't be cancelled any more.")
    return kept.move(plane, run, CANCELED, within=UNFINISHED, event="eval.run.canceled")


def delete_run(plane: ControlPlane, caller: Caller, eval_id: str, run_id: str) -> None:
    """Forget a run and its items."""
    run = get_run(plane, caller, eval_id, run_id)
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.EVAL_ITEM, run.id)
        records.remove(connection, caller.project.id, Kind.EVAL_RUN, run.id)


def list_items(
    plane: ControlPlane, caller: Caller, eval_id: str, run_id: str, cursor: Cursor, status: str | None
) -> Page[Record]:
    """Graded items of a run; `status` is pass or fail."""
    run = get_run(plane, caller, eval_id, run_id)
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.EVAL_ITEM, cursor, owner=run.id, status=status)


def get_item(plane: ControlPlane, caller: Caller, eval_id: str, run_id: str, item_id: str) -> Record:
    """One graded item.

    Raises:
        NotFound: the run has none of that id.
    """
    get_run(plane, caller, eval_id, run_id)
    return kept.find(plane, caller, Kind.EVAL_ITEM, item_id, what="output item", param="output_item_id")


def items(plane: ControlPlane, caller: Caller, source: Json) -> Iterator[dict[str, Any]]:
    """What a data source holds: `{"item", "sample"?}` each.

    Raises:
        InvalidRequest: a source of another kind, a file for something else, or too many items.
    """
    for number, found in enumerate(_items(plane, caller, source)):
        if number >= MAX_ITEMS:
            raise InvalidRequest(f"The source has more than {MAX_ITEMS} items.", param="data_source.source")
        yield found


def _items(plane: ControlPlane, caller: Caller, source: Json) -> Iterator[dict[str, Any]]:
    match source.get("type"):
        case "file_content":
            yield from source["content"]
        case "file_id":
            file = files.get(plane, caller, source["id"], param="data_source.source.id")
            with plane.blobs.as_path(file.sha256) as path:
                for _, row in iterate(path):
                    yield row if isinstance(row.get("item"), dict) else {"item": row}
        case "stored_completions":
            yield from _stored(plane, caller, source)
        case other:
            raise InvalidRequest(
                f"data_source.source.type is {other!r}; use file_content, file_id or stored_completions.",
                param="data_source.source.type",
            )


def _stored(plane: ControlPlane, caller: Caller, source: Json) -> Iterator[dict[str, Any]]:
    """Stored completions: what was asked as the item, what was answered as the sample."""
    most = source.get("limit") or MAX_ITEMS
    cursor = Cursor(after=None, limit=most, order="asc")
    with plane.database.read() as connection:
        found = records.list_page(
            connection,
            caller.project.id,
            Kind.COMPLETION,
            cursor,
            owner=source.get("model"),
            metadata=source.get("metadata"),
        )
    for record in found.items:
        after, before = source.get("created_after") or 0, source.get("created_before") or record.created_at
        if after <= record.created_at <= before:
            completion = record.body["completion"]
            message = completion["choices"][0]["message"]
            sample = graders.sample_of(message["content"] or "", choices=completion["choices"])
            yield {"item": {"input": record.body["messages"], "metadata": record.metadata}, "sample": sample}


def _check_messages(messages: Json | None) -> None:
    if messages is None:
        raise InvalidRequest(
            "data_source.input_messages is missing: what is the model asked?", param="data_source.input_messages"
        )
    if messages.get("type") == "item_reference":
        templates.check("{{" + str(messages["item_reference"]) + "}}", frozenset({"item"}))
        return
    for message in messages["template"]:
        for text in graders.content_texts(message["content"]):
            templates.check(text, frozenset({"item"}))


def prompt(messages: Json, item: Json) -> list[dict[str, Any]]:
    """The messages a model is asked about an item.

    Raises:
        UnknownVariable: the item lacks what a template names. InvalidRequest: a reference that leads to no messages.
    """
    names = {"item": item}
    if messages["type"] == "item_reference":
        found = templates.resolve(messages["item_reference"], names)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise InvalidRequest(f"{messages['item_reference']} is {json.dumps(found)[:100]}, not a list of messages.")
        return found
    return [
        {
            "role": message["role"],
            "content": "".join(templates.render(text, names) for text in graders.content_texts(message["content"])),
        }
        for message in messages["template"]
    ]
