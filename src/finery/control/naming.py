"""Rows that name bytes, and bytes that no row names: neither may lose the other. Knows no kinds of rows.

Whoever removes bytes looks whether a row names them, marks them in the same transaction, removes them, and ends the
mark. Whoever names bytes looks for a mark in the transaction that names them. Writers take turns, so one of the two
sees the other: a row that is seen keeps the bytes; a mark that is seen makes the namer look again, after the removal,
whether the store has them. Nothing waits for the store inside a transaction, and what a dead process left is taken up.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from finery.control.plane import ControlPlane, now
from finery.core.errors import BlobsMissing, Unavailable
from finery.core.ids import new_id
from finery.storage import drops, files, jobs, models, records
from finery.storage.blobs import Blob, Upload
from finery.storage.drops import Drop

log = logging.getLogger(__name__)

T = TypeVar("T")

ABANDONED_SECONDS = 300
"""A removal takes much less; one that was begun before is nobody's any more."""
_KEPT_SECONDS = 24 * 3600
_WAITS = 100
_WAIT_SECONDS = 0.05


def keep(plane: ControlPlane, upload: Upload, name: Callable[[Any, Blob], None]) -> Blob:
    """Store an upload and let `name` write the row that names it, in a transaction of its own.

    Raises:
        Unavailable: the same bytes are being removed, and that takes long.
    """
    seen = ""
    for _ in range(_WAITS):
        blob = upload.keep()
        with plane.database.write() as connection:
            removal = drops.find(connection, blob.sha256)
            if removal is None or removal.mark == seen:
                drops.forget(connection, blob.sha256)
                name(connection, blob)
                return blob
        if removal.gone or removal.created_at + ABANDONED_SECONDS < now():
            seen = removal.mark
        else:
            time.sleep(_WAIT_SECONDS)
    raise Unavailable("The same bytes are being deleted in this moment. Try again.")


def name_uploaded(plane: ControlPlane, blobs: Collection[str], name: Callable[[Any], T]) -> T:
    """Let `name` write rows that name bytes which were uploaded before, in a transaction of its own.

    Raises:
        BlobsMissing: some of them aren't there (any more).
        Unavailable: some are being removed, and that takes long.
    """
    seen: dict[str, str] = {}
    for _ in range(_WAITS):
        missing = [sha256 for sha256 in blobs if not plane.blobs.has(sha256)]
        if missing:
            raise BlobsMissing(
                f"These blobs were not uploaded, or were removed meanwhile: {', '.join(missing)}. Upload them again."
            )
        with plane.database.write() as connection:
            removals = [found for sha256 in blobs if (found := drops.find(connection, sha256)) is not None]
            if all(seen.get(removal.sha256) == removal.mark for removal in removals):
                for removal in removals:
                    drops.forget(connection, removal.sha256)
                return name(connection)
        over = [one for one in removals if one.gone or one.created_at + ABANDONED_SECONDS < now()]
        seen |= {removal.sha256: removal.mark for removal in over}
        if len(over) < len(removals):
            time.sleep(_WAIT_SECONDS)
    raise Unavailable("The same bytes are being deleted in this moment. Try again.")


def drop_all(plane: ControlPlane, blobs: Iterable[str]) -> None:
    """Remove those of the bytes that no row names any more."""
    for sha256 in blobs:
        drop(plane, sha256)


def drop(plane: ControlPlane, sha256: str) -> None:
    """Remove bytes that no row names any more; where the store doesn't answer, later."""
    found = Drop(sha256=sha256, mark=new_id("drop_"), gone=False, created_at=now())
    with plane.database.write() as connection:
        if any(rows.blob_in_use(connection, sha256) for rows in (files, models, records, jobs)):
            return
        drops.begin(connection, found)
    try:
        plane.blobs.remove(sha256)
    except Unavailable as error:
        log.warning("%s… stays for now: %s", sha256[:12], error.message)
        return
    with plane.database.write() as connection:
        drops.end(connection, found)


def drop_left(plane: ControlPlane) -> None:
    """Take up removals that weren't ended, and forget those that were long ago."""
    with plane.database.read() as connection:
        left = drops.list_open(connection, now() - ABANDONED_SECONDS)
    for found in left:
        with plane.database.write() as connection:
            drops.forget(connection, found.sha256)
        drop(plane, found.sha256)
    with plane.database.write() as connection:
        drops.forget_old(connection, now() - _KEPT_SECONDS)
