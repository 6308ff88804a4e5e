"""Bytes by their SHA-256, in an object store (obstore: a folder, S3, Azure Blob). Knows no rows.

The order is always: bytes safe, then the row that names them. A blob without a row is garbage and does no harm; a row
without its blob can't come to be.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from finery.core.errors import CorruptArtifact, InvalidRequest, StorageFull, Unavailable

_CHUNK_BYTES = 1024 * 1024
_NAME_LENGTH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """What was stored."""

    sha256: str
    bytes: int


class BlobStore:
    """Stores and gives back bytes; the same bytes are kept once."""

    def __init__(self, folder: Path, url: str = "") -> None:
        """A store in a folder, or at a URL; the folder then is for what is on its way only.

        Raises:
            InvalidRequest: no URL of an object store.
        """
        own = _folder_of(url) if url.startswith("file:") else None if url else folder
        self._scratch = (own or folder) / "scratch"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._folder = own
        self.place = url or str(folder)
        """Where it is, for people."""
        self._store = LocalStore(prefix=own) if own is not None else _remote(url)

    def put(self, chunks: Iterable[bytes]) -> Blob:
        """Store bytes as they come; they are durable when this returns.

        Raises:
            StorageFull: no space left; nothing is kept.
        """
        with self.receive() as upload:
            for chunk in chunks:
                upload.write(chunk)
            return upload.keep()

    @contextmanager
    def receive(self) -> Iterator["Upload"]:
        """An upload to write into; what isn't kept by the end of the block is gone.

        Raises:
            StorageFull: no space left; nothing is kept.
        """
        with _no_space_is_storage_full(), tempfile.NamedTemporaryFile(dir=self._scratch) as spool:
            yield Upload(self, spool)

    def has(self, sha256: str) -> bool:
        """Whether the bytes are here."""
        try:
            obstore.head(self._store, _key(sha256))
        except FileNotFoundError:
            return False
        except BaseError as error:
            raise Unavailable(
                f"The object store {self.place} doesn't answer. Look whether it runs and FINERY_BLOB_URL leads to it.",
                code="store_unavailable",
            ) from error
        return True

    def list_all(self) -> Iterator[str]:
        """The SHA-256 of every blob."""
        for found in obstore.list(self._store):
            for item in found:
                name = str(item["path"]).rpartition("/")[2]
                if _key(name) == item["path"] and len(name) == _NAME_LENGTH:
                    yield name

    def stream(self, sha256: str) -> Iterator[bytes]:
        """The bytes, in pieces.

        Raises:
            CorruptArtifact: the blob is gone.
        """
        try:
            result = obstore.get(self._store, _key(sha256))
        except FileNotFoundError as error:
            raise CorruptArtifact(f"The stored data {sha256} is missing.") from error
        for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(chunk)

    @contextmanager
    def as_path(self, sha256: str) -> Iterator[Path]:
        """A file with the bytes, for as long as the block lasts; to be read only."""
        if self._folder is not None:
            yield self._folder / _key(sha256)
            return
        with tempfile.NamedTemporaryFile(dir=self._scratch) as spool:
            for chunk in self.stream(sha256):
                spool.write(chunk)
            spool.flush()
            yield Path(spool.name)

    def save_to(self, sha256: str, path: Path) -> None:
        """Write the bytes to a new file and check them on the way.

        Raises:
            CorruptArtifact: what is stored isn't what the name says.
        """
        digest = hashlib.sha256()
        with _no_space_is_storage_full(), path.open("wb") as file:
            for chunk in self.stream(sha256):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            path.unlink()
            raise CorruptArtifact(f"The stored data {sha256} was damaged on disk. Restore it from a backup.")

    def remove(self, sha256: str) -> None:
        """Forget the bytes; the caller has looked that no row names them."""
        obstore.delete(self._store, _key(sha256))

    def adopt(self, spool: Path, sha256: str) -> None:
        """Take a spooled file in under its hash."""
        if not self.has(sha256):
            obstore.put(self._store, _key(sha256), spool)
            self._make_durable(sha256)

    def _make_durable(self, sha256: str) -> None:
        # obstore's local store renames into place without fsync: the file and the folders on its way are ours to sync.
        if self._folder is None:
            return
        path = self._folder / _key(sha256)
        for place in (path, path.parent, path.parent.parent):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


class Upload:
    """Bytes on their way into the store: spooled beside it and hashed as they come."""

    def __init__(self, store: BlobStore, spool: IO[bytes]) -> None:
        self._store, self._spool = store, spool
        self._digest, self._size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        self._digest.update(chunk)
        self._size += len(chunk)
        self._spool.write(chunk)

    def keep(self) -> Blob:
        """Store what was written; it is durable when this returns."""
        self._spool.flush()
        blob = Blob(sha256=self._digest.hexdigest(), bytes=self._size)
        self._store.adopt(Path(self._spool.name), blob.sha256)
        return blob


def _folder_of(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        raise InvalidRequest(f"FINERY_BLOB_URL is {url!r}; a folder is named as file:///path/of/the/folder.")
    return Path(unquote(parts.path))


def _remote(url: str) -> ObjectStore:
    try:
        return from_url(url)
    except (BaseError, ValueError) as error:
        raise InvalidRequest(
            f"FINERY_BLOB_URL is {url!r}, which is no object store ({str(error).splitlines()[0]}). It may be "
            "file:///folder, s3://bucket/prefix or az://container/prefix."
        ) from error


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


@contextmanager
def _no_space_is_storage_full() -> Iterator[None]:
    try:
        yield
    except (OSError, BaseError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left" in str(error):
            raise StorageFull("The disk that holds Finery's data is full. Free some space and try again.") from error
        raise
