"""`finery files`: upload, look at, check, download and delete files."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from finery.cli import findings, progress
from finery.cli.console import fail, fields, note, say, say_json, table
from finery.cli.figures import ago, count, moment, size
from finery.cli.options import ApiKey, AsJson, BaseUrl, Limit, connect, noun
from finery.core.errors import InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finery.sdk import Finery, Json

app = noun("Training data and results.")

FileId = Annotated[str, typer.Argument(metavar="FILE_ID", show_default=False, help="Id of the file: file-…")]
LocalFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, show_default=False, help="A file on this machine."),
]
Purpose = Annotated[str, typer.Option("--purpose", metavar="WORD", help="What it is for: fine-tune, evals, batch …")]


@app.command("upload")
def upload(
    path: LocalFile,
    purpose: Purpose = "fine-tune",
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file and check it."""
    with connect(base_url, api_key) as finery:
        file = send(finery, path, purpose)
        report = checked_report(finery, file)
    if as_json:
        say_json(file)
    else:
        rows = f" · {count(report.get('rows'))} rows" if report.get("rows") else ""
        say(f"{file['id']}  {file['filename']} · {size(file['bytes'])}{rows}")
    findings.show(report, more=f"finery files check {path}")
    if file["status"] == "error":
        raise InvalidRequest(f"{path} can't be used for {purpose}: {findings.counted(report, 'error')}.")


@app.command("list")
def list_(
    purpose: Annotated[
        str | None, typer.Option("--purpose", metavar="WORD", help="Only files for this purpose.")
    ] = None,
    limit: Limit = 20,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List files, newest first."""
    with connect(base_url, api_key) as finery:
        files = list(finery.files.list(purpose=purpose, limit=limit))
    if as_json:
        say_json(files)
        return
    rows = [
        (f["id"], f["filename"], f["purpose"], size(f["bytes"]), f.get("status"), ago(f["created_at"])) for f in files
    ]
    table(("ID", "NAME", "PURPOSE", "SIZE", "STATUS", "CREATED"), rows, "No files yet: finery files upload DATA.jsonl")


@app.command("show")
def show(file_id: FileId, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a file and what its check found."""
    with connect(base_url, api_key) as finery:
        file = finery.files.retrieve(file_id)
        report = checked_report(finery, file)
    if as_json:
        say_json({**file, "report": report or None})
        return
    fields(
        (
            ("Id", file["id"]),
            ("Name", file["filename"]),
            ("Purpose", file["purpose"]),
            ("Size", size(file["bytes"])),
            ("Rows", count(report.get("rows"))),
            ("Format", report.get("format")),
            ("Status", file.get("status")),
            ("Details", file.get("status_details")),
            ("Created", moment(file["created_at"])),
            ("Expires", moment(file.get("expires_at"))),
        )
    )
    findings.show(report, more=f"finery files show {file_id} --json")


@app.command("check")
def check(path: LocalFile, purpose: Purpose = "fine-tune", as_json: AsJson = False) -> None:
    """Check a file here, without a server."""
    report = local_report(path, purpose)
    if as_json:
        say_json(report)
    else:
        findings.show(report, more=f"finery files check {path} --json")
        (say if report["ok"] else fail)(f"{path}: {report['summary']}")
    if not report["ok"]:
        raise typer.Exit(1)


@app.command("download")
def download(
    file_id: FileId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; default: standard output.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Download the bytes of a file."""
    with connect(base_url, api_key) as finery:
        write(finery.files.content(file_id), output)


@app.command("delete")
def delete(file_id: FileId, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Delete a file."""
    with connect(base_url, api_key) as finery:
        finery.files.delete(file_id)
    say(f"Deleted {file_id}")


def send(finery: "Finery", path: Path, purpose: str) -> "Json":
    """Upload a file with a bar and wait until the server has checked it."""
    with progress.bytes_bar(f"Uploading {path.name}") as show_bytes:
        file = finery.files.upload(path, purpose, show_bytes)
    if file.get("status") in {"processed", "error"}:
        return file
    with progress.waiting(f"The server checks {path.name}"):
        return finery.files.wait(file["id"])


def checked_report(finery: "Finery", file: "Json") -> dict[str, Any]:
    """The report of a file's check; empty for files that are not checked."""
    if file["purpose"] not in {"fine-tune", "evals", "batch"}:
        return {}
    from finery.sdk import ApiError

    try:
        return finery.files.report(file["id"])
    except ApiError as error:
        if error.status == 404:
            return {}
        raise


def local_report(path: Path, purpose: str) -> dict[str, Any]:
    """What preflight finds, on this machine.

    Raises:
        Unavailable: this is a bare client, without the parts that check.
    """
    try:
        from finery.data import preflight
    except ImportError as error:
        raise Unavailable(
            f"Checking here needs the server parts ({error.name} is missing): pip install 'finery[server]'. "
            "`finery files upload` has the server check."
        ) from None
    return preflight.check(path, purpose).to_json()


def write(pieces: "Iterator[bytes]", output: Path | None) -> None:
    """Bytes into a file, all or nothing, or to standard output.

    Raises:
        NotFound: the folder to write to isn't there.
    """
    if output is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    if not output.parent.is_dir():
        raise NotFound(f"The folder {output.parent} does not exist.")
    with _replacing(output) as file:
        for piece in pieces:
            file.write(piece)
    note(f"Wrote {output} ({size(output.stat().st_size)})")


@contextlib.contextmanager
def _replacing(path: Path) -> "Iterator[BinaryIO]":
    """A file that takes the place of `path` when everything was written, and leaves nothing behind otherwise."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
