"""Exports: models written for other programs, fetched and checked. Knows no httpx."""

import hashlib
import time
from pathlib import Path
from urllib.parse import quote

from finery.core.errors import CorruptArtifact
from finery.sdk.resources import Progress
from finery.sdk.wire import Json, Wire


class Exports:
    """Models written for other programs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, model: str, form: str, *, quantization: str | None = None, override: bool = False) -> Json:
        """Ask for a model as `adapter`, `merged` or `gguf`; it starts in the state `queued`."""
        body = {"model": model, "format": form, "quantization": quantization, "override": override}
        kept = {key: value for key, value in body.items() if value is not None}
        return self._wire.call("POST", "/finery/v1/exports", json=kept)

    def wait(self, export_id: str, *, poll_seconds: float = 0.5) -> Json:
        """The export, once it is over: its status is `succeeded` or `failed`."""
        while True:
            export = self.retrieve(export_id)
            if export.get("status") in ("succeeded", "failed"):
                return export
            time.sleep(poll_seconds)

    def retrieve(self, export_id: str) -> Json:
        """One export."""
        return self._wire.call("GET", f"/finery/v1/exports/{quote(export_id)}")

    def download(self, export_id: str, file: Json, folder: Path, progress: Progress | None = None) -> Path:
        """Fetch one of an export's `files` into a folder.

        Raises:
            CorruptArtifact: what came is not what the server lists.
        """
        target = folder / str(file["path"]).replace("\\", "/").rsplit("/", 1)[-1]
        digest, done = hashlib.sha256(), 0
        path = f"/finery/v1/exports/{quote(export_id)}/files/{quote(file['path'])}"
        with self._wire.stream("GET", path) as response, target.open("wb") as out:
            for chunk in response.iter_bytes(1 << 20):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(done, int(file["bytes"]))
        if digest.hexdigest() != file["sha256"]:
            target.unlink()
            raise CorruptArtifact(f"{target} didn't come as the server has it; fetch it again.")
        return target

    def delete(self, export_id: str) -> Json:
        """Forget an export and its files on the server."""
        return self._wire.call("DELETE", f"/finery/v1/exports/{quote(export_id)}")
