"""Batches: a file of requests in, files of answers and errors out.

Each answered line is kept at once, so a restart goes on where it was.
"""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

from finery.control import crowd, files, kept
from finery.control.asking import Ask
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest
from finery.core.files import File, FileStatus
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.storage import files as file_rows
from finery.storage import records
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
WINDOW_SECONDS = 24 * 3600

VALIDATING, IN_PROGRESS, FINALIZING, CANCELLING = "validating", "in_progress", "finalizing", "cancelling"
_UNFINISHED = (VALIDATING, IN_PROGRESS, FINALIZING, CANCELLING)
_CANCELLABLE = (VALIDATING, IN_PROGRESS)


def create(
    plane: ControlPlane,
    caller: Caller,
    *,
    input_file_id: str,
    endpoint: str,
    metadata: dict[str, str] | None,
    keep_seconds: int | None,
) -> Record:
    """Take a batch in.

    Raises:
        InvalidRequest: an endpoint that can't be batched, or a file that isn't there or isn't a batch's.
    """
    if endpoint not in ENDPOINTS:
        raise InvalidRequest(f"endpoint is {endpoint!r}; it is one of {', '.join(ENDPOINTS)}.", param="endpoint")
    files.check_keep_seconds(keep_seconds)
    file = files.get(plane, caller, input_file_id, param="input_file_id")
    if file.purpose != "batch":
        raise InvalidRequest(
            f"File {file.id} was uploaded for {file.purpose!r}; a batch's file must be uploaded for 'batch'.",
            param="input_file_id",
        )
    moment = now()
    batch = Record(
        id=new_id("batch_"),
        project_id=caller.project.id,
        kind=Kind.BATCH,
        status=VALIDATING,
        metadata=metadata,
        body={
            "endpoint": endpoint,
            "input_file_id": file.id,
            "keep_seconds": keep_seconds,
            "expires_at": moment + WINDOW_SECONDS,
            "counts": {"total": 0, "completed": 0, "failed": 0},
        },
        created_at=moment,
    )
    return kept.insert(plane, batch, by=caller)


def get(plane: ControlPlane, caller: Caller, batch_id: str) -> Record:
    """A batch of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    return kept.find(plane, caller, Kind.BATCH, batch_id, what="batch", param="batch_id")


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor) -> Page[Record]:
    """Batches of the caller's project, newest first."""
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.BATCH, cursor)


def cancel(plane: ControlPlane, caller: Caller, batch_id: str) -> Record:
    """Stop a batch; what was answered is still written.

    Raises:
        Conflict: it is over.
    """
    batch = get(plane, caller, batch_id)
    if batch.status == CANCELLING:
        return batch
    if batch.status not in _CANCELLABLE:
        raise Conflict(f"The batch {batch.id} is {batch.status} and can't be cancelled any more.")
    return kept.move(plane, batch, CANCELLING, within=_CANCELLABLE, by=caller, cancelling_at=now())


async def run_pending(plane: ControlPlane, ask: Ask) -> None:
    """Bring every unfinished batch to its end, one after the other."""
    for batch in await asyncio.to_thread(kept.unfinished, plane, Kind.BATCH, *_UNFINISHED):
        owner = kept.owner_of(plane, batch)
        try:
            await _run(plane, owner, batch.id, ask)
        except Conflict:
            continue  # It was cancelled between two steps; the caretaker comes back.
        except Exception:
            log.exception("batch %s", batch.id)
            await asyncio.to_thread(
                _fail, plane, get(plane, owner, batch.id), [_fault("The batch failed; the server's log says why.")]
            )


async def _run(plane: ControlPlane, owner: Caller, batch_id: str, ask: Ask) -> None:
    batch = get(plane, owner, batch_id)
    if batch.status == VALIDATING:
        file, faults = await asyncio.to_thread(_input, plane, batch)
        if faults:
            await asyncio.to_thread(_fail, plane, batch, faults)
            return
        if file is None or file.status == FileStatus.UPLOADED:
            return  # It is being checked; the caretaker comes back.
        counts = {"total": file.rows or 0, "completed": 0, "failed": 0}
        await asyncio.to_thread(_move, plane, batch, IN_PROGRESS, in_progress_at=now(), counts=counts)
        batch = get(plane, owner, batch_id)
    if batch.status == IN_PROGRESS:
        await _answer_lines(plane, owner, batch, ask)
        batch = get(plane, owner, batch_id)
        if batch.status == IN_PROGRESS and not _expired(batch):
            await asyncio.to_thread(_move, plane, batch, FINALIZING, finalizing_at=now())
            batch = get(plane, owner, batch_id)
    await asyncio.to_thread(_finalize, plane, batch)


async def _answer_lines(plane: ControlPlane, owner: Caller, batch: Record, ask: Ask) -> None:
    """Ask every line that has no answer yet, a few at once."""
    with plane.database.read() as connection:
        done = {line.id for line in records.list_owned(connection, owner.project.id, Kind.BATCH_LINE, batch.id)}
    waiting = (
        (line_id, row)
        for number, row in enumerate(_rows(plane, owner, batch))
        if (line_id := f"{batch.id}:{number}") not in done
    )
    await crowd.work_through(
        waiting,
        lambda line: _answer_line(plane, owner, batch, line, ask),
        at_once=plane.settings.inference_slots,
        go_on=lambda: get(plane, owner, batch.id).status == IN_PROGRESS and not _expired(batch),
    )


async def _answer_line(
    plane: ControlPlane, owner: Caller, batch: Record, line: tuple[str, dict[str, Any]], ask: Ask
) -> None:
    line_id, row = line
    status, body = await ask(owner, batch.body["endpoint"], row["body"])
    answer = {"status_code": status, "request_id": new_id("req_"), "body": body}
    result = {"id": new_id("batch_req_"), "custom_id": row["custom_id"], "response": answer, "error": None}
    record = Record(
        id=line_id,
        project_id=owner.project.id,
        kind=Kind.BATCH_LINE,
        owner=batch.id,
        status="completed" if status < 400 else "failed",
        body=result,
        created_at=now(),
    )

    def keep() -> None:
        with plane.database.write() as connection:
            records.insert_record(connection, record)
            current = records.get(connection, owner.project.id, Kind.BATCH, batch.id)
            assert current is not None
            counts = dict(current.body["counts"])
            counts[record.status] += 1
            records.change(connection, current, body={**current.body, "counts": counts})

    await asyncio.to_thread(keep)


def _finalize(plane: ControlPlane, batch: Record) -> None:
    """Write the files, then the last state."""
    with plane.database.read() as connection:
        lines = records.list_owned(connection, batch.project_id, Kind.BATCH_LINE, batch.id)
    lines.sort(key=lambda line: int(line.id.rpartition(":")[2]))
    facts: dict[str, Any] = {}
    for status, field in (("completed", "output"), ("failed", "error")):
        chosen = [line for line in lines if line.status == status]
        if chosen:
            file = files.store(
                plane,
                batch.project_id,
                filename=f"{batch.id}_{field}.jsonl",
                purpose="batch_output",
                chunks=((json.dumps(line.body, ensure_ascii=False) + "\n").encode() for line in chosen),
                keep_seconds=batch.body["keep_seconds"],
            )
            facts[f"{field}_file_id"] = file.id
    target = {FINALIZING: "completed", CANCELLING: "cancelled"}.get(batch.status, "expired")
    _move(plane, batch, target, **facts, **{f"{target}_at": now()})
    with plane.database.write() as connection:
        records.remove_owned(connection, batch.project_id, Kind.BATCH_LINE, batch.id)


def _input(plane: ControlPlane, batch: Record) -> tuple[File | None, list[dict[str, Any]]]:
    """The batch's file and what is wrong with it."""
    with plane.database.read() as connection:
        file = file_rows.get(connection, batch.project_id, batch.body["input_file_id"])
        report = file_rows.get_report(connection, batch.project_id, batch.body["input_file_id"]) or {}
    if file is None:
        return None, [_fault("The input file was deleted before the batch began.", code="file_not_found")]
    if file.status == FileStatus.ERROR:
        found = [f for f in report.get("findings", []) if f.get("level") == "error"]
        faults = [_fault(f["message"], code=f["code"], line=f.get("line")) for f in found[:100]]
        return file, faults or [_fault(file.status_details or "The input file can't be read.")]
    if file.status == FileStatus.PROCESSED:
        for number, row in enumerate(_rows_of(plane, file), 1):
            if row["url"] != batch.body["endpoint"]:
                text = f"The url is {row['url']!r}; the batch's endpoint is {batch.body['endpoint']!r}."
                return file, [_fault(text, code="mismatched_endpoint", line=number)]
    return file, []


def _rows(plane: ControlPlane, owner: Caller, batch: Record) -> Iterator[dict[str, Any]]:
    yield from _rows_of(plane, files.get(plane, owner, batch.body["input_file_id"]))


def _rows_of(plane: ControlPlane, file: File) -> Iterator[dict[str, Any]]:
    with plane.blobs.as_path(file.sha256) as path, path.open(encoding="utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _expired(batch: Record) -> bool:
    return bool(batch.body["expires_at"] <= now())


def _fault(text: str, *, code: str = "invalid_batch", line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": text, "line": line or None, "param": None}


def _fail(plane: ControlPlane, batch: Record, faults: list[dict[str, Any]]) -> None:
    _move(plane, batch, "failed", failed_at=now(), errors=faults)


def _move(plane: ControlPlane, batch: Record, status: str, /, **facts: Any) -> None:
    event = None if status in _UNFINISHED else f"batch.{status}"
    kept.move(plane, batch, status, event=event, **facts)
