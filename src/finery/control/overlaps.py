"""Hashed runs of texts, as bytes beside a record, and made ready to be looked for. Knows no works and no rows."""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

from finery.control import naming
from finery.control.plane import ControlPlane
from finery.core.records import Record
from finery.safety import overlaps
from finery.safety.overlaps import Hashes, Runs
from finery.storage.blobs import Blob

MOST_READY_BYTES = 96 * 1024 * 1024
"""Of runs that are kept in memory, of all projects together; what was asked for longest ago makes way."""


def keep(plane: ControlPlane, record: Record, hashes: Hashes, write: Callable[[Any, Record], None]) -> Record:
    """Store runs, and let `write` put the record that names them beside whatever else belongs to the transaction."""
    written: list[Record] = []

    def name(connection: Any, blob: Blob) -> None:
        body = {**record.body, "sha256": blob.sha256, "runs": len(hashes)}
        written[:] = [dataclasses.replace(record, body=body)]
        write(connection, written[0])

    with plane.blobs.receive() as upload:
        upload.write(overlaps.to_bytes(hashes))
        naming.keep(plane, upload, name)
    return written[0]


def drop(plane: ControlPlane, found: Sequence[Record]) -> None:
    """Remove the runs of records that are gone."""
    for record in found:
        naming.drop(plane, record.body["sha256"])


def ready(plane: ControlPlane, named: Sequence[str], words: int) -> Runs:
    """The runs behind some hashes of blobs, in one; kept, since reading them takes a while.

    Raises:
        CorruptArtifact: they are gone; Unavailable: the store doesn't answer.
    """
    key = (words, tuple(sorted(set(named))))
    with _lock:
        found = _ready.pop(key, None)
        if found is not None:
            _ready[key] = found
            return found
    # A slow store keeps nobody else waiting; two who read the same at once get the same.
    found = Runs.of(words, [overlaps.from_bytes(b"".join(plane.blobs.stream(sha256))) for sha256 in key[1]])
    with _lock:
        _ready[key] = found
        while len(_ready) > 1 and sum(runs.hashes.nbytes for runs in _ready.values()) > MOST_READY_BYTES:
            _ready.pop(next(iter(_ready)))
    return found


_lock = threading.Lock()
_ready: dict[tuple[int, tuple[str, ...]], Runs] = {}
"""By the words of a run and the hashes of the bytes, what was asked for last at the end."""
