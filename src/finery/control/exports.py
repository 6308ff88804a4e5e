"""Models written for other programs: asked for, made one at a time in a child process, fetched file by file, forgotten.

An export is a row (queued → running → succeeded | failed) and a folder in the home, `exports/<id>`; one that a restart
interrupted is made anew. It decides nothing about formats: `serving.export` does.
"""

import asyncio
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

from finery.control import certificates, kept, models
from finery.control.inference import is_full
from finery.control.models import ResolvedModel
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller, Project
from finery.core.errors import Conflict, FineryError, InvalidRequest, NotFound
from finery.core.ids import new_id
from finery.core.models import TunedModel
from finery.core.records import Kind, Record
from finery.modeling import manifests
from finery.serving.export_order import FILES, OUTCOME_FILE, ExportOrder, Format, Quantization
from finery.storage import records
from finery.storage.pages import Cursor, Page

log = logging.getLogger(__name__)

QUEUED, RUNNING, SUCCEEDED, FAILED = "queued", "running", "succeeded", "failed"
FORMATS: tuple[str, ...] = get_args(Format)
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)
KEEP_SECONDS = 24 * 3600
QUESTIONS = 16
"""Conversations whose answers are compared."""

_LOG_FILE = "export.log"


def create(
    plane: ControlPlane, caller: Caller, *, model: str, form: str, quantization: str | None, override: bool
) -> Record:
    """Ask for an export; `override` keeps it also where its answers differ from the trained model's.

    Raises:
        UnknownModel: no such model.
        InvalidRequest: an unknown format or quantization, or an adapter of a model that has none.
    """
    if form not in FORMATS:
        raise InvalidRequest(f"{form!r} is no format; use one of {', '.join(FORMATS)}.", param="format")
    if quantization is not None and form != "gguf":
        raise InvalidRequest(f"Only gguf can be quantized, not {form}.", param="quantization")
    quantization = (quantization or "f16").lower()
    if quantization not in QUANTIZATIONS:
        raise InvalidRequest(
            f"{quantization!r} is no quantization; use one of {', '.join(QUANTIZATIONS)}.", param="quantization"
        )
    found = models.resolve(plane, caller, model)
    if form == "adapter" and (found.tuned is None or is_full(found.tuned)):
        raise InvalidRequest(f"{model} has no adapter: export it as merged or gguf.", param="format")
    if form != "adapter" and found.tuned is not None and _task(found.tuned) not in ("chat", "completion"):
        raise InvalidRequest(
            f"{model} has a head for the task {_task(found.tuned)}; only its adapter can be exported.", param="format"
        )
    record = Record(
        id=new_id("export-"),
        project_id=caller.project.id,
        kind=Kind.EXPORT,
        owner=model,
        status=QUEUED,
        body={"model": model, "format": form, "quantization": quantization, "override": override},
        created_at=(moment := now()),
        expires_at=moment + KEEP_SECONDS,
    )
    with plane.database.write() as connection:
        records.insert_record(connection, record)
    return record


def get(plane: ControlPlane, caller: Caller, export_id: str) -> Record:
    """An export of the caller's project.

    Raises:
        NotFound: there is none of that id.
    """
    with plane.database.read() as connection:
        found = records.get(connection, caller.project.id, Kind.EXPORT, export_id)
    if found is None:
        raise NotFound(f"There is no export {export_id!r} in this project; exports are kept for a day.")
    return found


def list_page(plane: ControlPlane, caller: Caller, cursor: Cursor) -> Page[Record]:
    """Exports of the caller's project, newest first."""
    with plane.database.read() as connection:
        return records.list_page(connection, caller.project.id, Kind.EXPORT, cursor)


def file(plane: ControlPlane, caller: Caller, export_id: str, path: str) -> Path:
    """A file of a finished export.

    Raises:
        NotFound: no such export, or no such file in it.
        Conflict: it isn't finished.
    """
    found = get(plane, caller, export_id)
    if found.status != SUCCEEDED:
        raise Conflict(f"The export {export_id} is {found.status}; its files can be fetched once it has succeeded.")
    if path not in {one["path"] for one in found.body["files"]}:
        raise NotFound(f"The export {export_id} has no file {path!r}.")
    return _folder(plane, export_id) / FILES / path


def delete(plane: ControlPlane, caller: Caller, export_id: str) -> None:
    """Forget an export and its files; one that is being made is thrown away when it is done."""
    found = get(plane, caller, export_id)
    _remove(plane, found)


def forget_expired(plane: ControlPlane) -> None:
    """Forget exports whose day is over."""
    with plane.database.read() as connection:
        expired = [record for record in records.list_expired(connection, now()) if record.kind == Kind.EXPORT]
    for record in expired:
        _remove(plane, record)


async def run_pending(plane: ControlPlane) -> None:
    """Make every export that was asked for, one after the other."""
    for record in await asyncio.to_thread(kept.unfinished, plane, Kind.EXPORT, QUEUED, RUNNING):
        await _run(plane, record)


async def _run(plane: ControlPlane, record: Record) -> None:
    running = await asyncio.to_thread(_change, plane, record, RUNNING, {})
    if running is None:
        return
    folder = _folder(plane, record.id)
    try:
        order = await _order(plane, record)
        await asyncio.to_thread(_prepare, folder, order)
        outcome = await _make(folder)
    except FineryError as error:
        outcome = {"error": {"code": error.code, "message": error.message}}
    except Exception:
        log.exception("export %s", record.id)
        outcome = {"error": {"code": "internal_error", "message": "The export failed; the server's log says why."}}
    if "error" not in outcome:
        outcome["files"] = await asyncio.to_thread(_listed, folder / FILES)
    facts: dict[str, Any] = {name: outcome[name] for name in ("certificate", "error", "files") if name in outcome}
    status = FAILED if "error" in outcome else SUCCEEDED
    if await asyncio.to_thread(_change, plane, running, status, {**facts, "finished_at": now()}) is None:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _order(plane: ControlPlane, record: Record) -> ExportOrder:
    owner = Caller(project=Project(id=record.project_id, name="", created_at=0), key_id="")
    found = await asyncio.to_thread(models.resolve, plane, owner, record.body["model"])
    folder = await plane.inference.materialise(found.tuned) if found.tuned else None
    return ExportOrder(
        model=found.name,
        format=record.body["format"],
        quantization=record.body["quantization"],
        base_folder=str(found.base.folder),
        tuned_folder=str(folder) if folder else None,
        whole=found.tuned is not None and is_full(found.tuned),
        questions=await asyncio.to_thread(certificates.held_out, plane, found.tuned, QUESTIONS),
        override=record.body["override"],
        facts=_facts(found),
    )


def _prepare(folder: Path, order: ExportOrder) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    order.write(folder)


async def _make(folder: Path) -> dict[str, Any]:
    """What the child says of an export; it dies with us."""
    with (folder / _LOG_FILE).open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "finery.serving.export",
            str(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    try:
        await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        return dict(json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        tail = (folder / _LOG_FILE).read_text(encoding="utf-8", errors="replace")[-2000:]
        log.error("export in %s ended with %s: %s", folder, child.returncode, tail)
        killed = " It was killed: perhaps there was not enough memory." if (child.returncode or 0) < 0 else ""
        message = f"The export ended in its middle; the server's log says why.{killed}"
        return {"error": {"code": "export_died", "message": message}}


def _listed(files: Path) -> list[dict[str, Any]]:
    manifest = manifests.read_manifest(files)
    found = [{"path": path, "bytes": fact.size, "sha256": fact.sha256} for path, fact in manifest.files.items()]
    path = files / manifests.MANIFEST_FILE
    return [
        *found,
        {"path": manifests.MANIFEST_FILE, "bytes": path.stat().st_size, "sha256": manifests.sha256_of(path)},
    ]


def _facts(found: ResolvedModel) -> dict[str, Any]:
    base, tuned = found.base, found.tuned
    return {
        "base model": base.id,
        "licence of the base model": base.licence,
        "source of the base model": base.source,
        "revision": base.revision,
        "job": tuned.job_id if tuned else None,
        "step": tuned.step if tuned else None,
        "context": f"{base.context_tokens} tokens",
    }


def _task(tuned: TunedModel) -> str:
    return str(tuned.manifest.get("task", "chat"))


def _folder(plane: ControlPlane, export_id: str) -> Path:
    return plane.settings.home / "exports" / export_id


def _change(plane: ControlPlane, record: Record, status: str, facts: dict[str, Any]) -> Record | None:
    """The record in its new state; None where it is no longer in the state it was read in."""
    body = {**record.body, **facts}
    with plane.database.write() as connection:
        if not records.change(connection, record, status=status, body=body):
            return None
        return records.get(connection, record.project_id, Kind.EXPORT, record.id)


def _remove(plane: ControlPlane, record: Record) -> None:
    with plane.database.write() as connection:
        records.remove(connection, record.project_id, Kind.EXPORT, record.id)
    if record.status != RUNNING:
        shutil.rmtree(_folder(plane, record.id), ignore_errors=True)
