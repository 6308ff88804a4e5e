"""Bytes by their SHA-256, in an object store (obstore: a folder, S3, Azure Blob). Knows no rows.

The order is always: bytes safe, then the row that names them. A blob without a row is garbage and does no harm; a row
without its blob can't come to be.

What comes in is spooled on this machine's disk first: only at its end is its name known, and an object appears whole
or not at all. To a store on the network it then goes in parts, and from there it is read in pieces, a request each, so
that a slow reader holds no connection to the store; it is hashed on the way, for networks and their stores have more
places where a byte can turn than a disk has.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from finery.core.errors import CorruptArtifact, InvalidRequest, StorageFull, Unavailable
from finery.storage import stores

PATIENCE_SECONDS = 20.0
"""How long a store on the network may be silent."""

_CHUNK_BYTES = 1024 * 1024
_PIECE_BYTES = 4 * 1024 * 1024
"""Read at once from a store on the network, and held by each reader."""
_PARTS: dict[str, Any] = {"chunk_size": 5 * 1024 * 1024, "max_concurrency": 4}
"""How a blob goes to a store on the network. S3 takes no smaller parts; four of them are in memory at once."""
_NAME_LENGTH = 64
_EMPTY = hashlib.sha256().hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """What was stored."""

    sha256: str
    bytes: int


class BlobStore:
    """Stores and gives back bytes; the same bytes are kept once."""

    def __init__(self, folder: Path, url: str = "", seconds: float = PATIENCE_SECONDS) -> None:
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
        self._store = LocalStore(prefix=own) if own is not None else stores.connect(url, seconds)

    def check(self) -> None:
        """Try all that will be asked of a store on the network.

        Raises:
            Unavailable: it isn't there or doesn't allow it, and what to do.
        """
        if self._folder is None:
            stores.probe(self._store, self.place)

    def put(self, chunks: Iterable[bytes]) -> Blob:
        """Store bytes as they come; they are durable when this returns.

        Raises:
            StorageFull: no space left; nothing is kept.
        """
        with self.receive() as upload:
            upload.write_all(chunks)
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
        """Whether the bytes are here.

        Raises:
            Unavailable: the store doesn't answer.
        """
        return self._size_of(sha256) is not None

    def list_all(self) -> Iterator[str]:
        """The SHA-256 of every blob.

        Raises:
            Unavailable: the store doesn't answer.
        """
        with self._asking():
            for found in obstore.list(self._store):
                for item in found:
                    name = str(item["path"]).rpartition("/")[2]
                    if _key(name) == item["path"] and len(name) == _NAME_LENGTH:
                        yield name

    def stream(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes, or those from `start` to before `end`, in chunks.

        The first ones are fetched before this returns: so what can't be read is said while there is still somebody who
        can be told. What turns up later ends the chunks with the same errors.

        Raises:
            CorruptArtifact: the blob is gone, or isn't what its name says.
            Unavailable: the store doesn't answer.
        """
        if start == end or sha256 == _EMPTY:
            # Nothing is no range that a store would give.
            if not self.has(sha256):
                raise _missing(sha256)
            return iter(())
        if self._folder is not None:
            whole = start == 0 and end is None
            result = self._get(sha256, {} if whole else {"range": (start, end) if end else {"offset": start}})
            return (bytes(chunk) for chunk in result.stream(min_chunk_size=_CHUNK_BYTES))
        first = self._get(sha256, {"range": (start, min(end or start + _PIECE_BYTES, start + _PIECE_BYTES))})
        size = int(first.meta["size"])
        with self._asking():
            piece = bytes(first.bytes())
        return self._pieces(sha256, piece, start, min(end or size, size), check=start == 0 and end in (None, size))

    def _pieces(self, sha256: str, piece: bytes, start: int, end: int, *, check: bool) -> Iterator[bytes]:
        digest = hashlib.sha256()
        while True:
            start += len(piece)
            digest.update(piece)
            if not piece or start > end or (check and start == end and digest.hexdigest() != sha256):
                # Before the last piece is given away: nobody takes the wrong bytes for all of them.
                raise CorruptArtifact(
                    f"The object store {self.place} holds other bytes than {sha256} says. Restore it from a backup."
                )
            yield piece
            if start == end:
                return
            result = self._get(sha256, {"range": (start, min(end, start + _PIECE_BYTES))})
            with self._asking():
                piece = bytes(result.bytes())

    @contextmanager
    def as_path(self, sha256: str) -> Iterator[Path]:
        """A file with the bytes, for as long as the block lasts; to be read only.

        Raises:
            CorruptArtifact: the blob is gone; or, in a store on the network, isn't what its name says.
            Unavailable: the store doesn't answer.
        """
        if self._folder is not None:
            yield self._folder / _key(sha256)
            return
        with tempfile.NamedTemporaryFile(dir=self._scratch) as spool:
            with _no_space_is_storage_full():
                for chunk in self.stream(sha256):
                    spool.write(chunk)
                spool.flush()
            yield Path(spool.name)

    def save_to(self, sha256: str, path: Path) -> None:
        """Write the bytes to a new file and check them on the way; where that fails there is no file.

        Raises:
            CorruptArtifact: what is stored isn't what the name says.
            Unavailable: the store doesn't answer.
        """
        digest = hashlib.sha256()
        try:
            with _no_space_is_storage_full(), path.open("wb") as file:
                for chunk in self.stream(sha256):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise CorruptArtifact(f"The stored data {sha256} was damaged on disk. Restore it from a backup.")
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def remove(self, sha256: str) -> None:
        """Forget the bytes, if they are there; the caller has looked that no row names them.

        Raises:
            Unavailable: the store doesn't answer.
        """
        with self._asking(), suppress(FileNotFoundError):
            obstore.delete(self._store, _key(sha256))

    def adopt(self, spool: Path, blob: Blob) -> None:
        """Take a spooled file in under its hash.

        Raises:
            Unavailable: the store doesn't answer, or kept less than it was given.
        """
        if self._size_of(blob.sha256) == blob.bytes:
            return
        if self._folder is not None:
            obstore.put(self._store, _key(blob.sha256), spool)
            # Who deletes the same bytes in this moment leaves a mark, and whoever names bytes looks for it.
            with suppress(FileNotFoundError):
                self._make_durable(blob.sha256)
            return
        with self._asking():
            obstore.put(self._store, _key(blob.sha256), spool, **_PARTS)
        if self._size_of(blob.sha256) != blob.bytes:
            raise Unavailable(f"The object store {self.place} didn't keep all it was given.", code="store_unavailable")

    def _size_of(self, sha256: str) -> int | None:
        try:
            with stores.said_plainly(self.place):
                return int(obstore.head(self._store, _key(sha256))["size"])
        except FileNotFoundError:
            return None

    def _get(self, sha256: str, options: Any) -> Any:
        try:
            with self._asking():
                return obstore.get(self._store, _key(sha256), options=options or None)
        except FileNotFoundError as error:
            raise _missing(sha256) from error

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if self._folder is not None:
            yield
            return
        with stores.said_plainly(self.place):
            yield

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

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        self._digest.update(chunk)
        self._size += len(chunk)
        self._spool.write(chunk)

    def write_all(self, chunks: Iterable[bytes]) -> None:
        """Add all of them at the end."""
        for chunk in chunks:
            self.write(chunk)

    def keep(self) -> Blob:
        """Store what was written, unless it is there; it is durable when this returns."""
        self._spool.flush()
        blob = Blob(sha256=self.sha256, bytes=self._size)
        self._store.adopt(Path(self._spool.name), blob)
        return blob


def _folder_of(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        raise InvalidRequest(f"FINERY_BLOB_URL is {url!r}; a folder is named as file:///path/of/the/folder.")
    return Path(unquote(parts.path))


def _missing(sha256: str) -> CorruptArtifact:
    return CorruptArtifact(f"The stored data {sha256} is missing.")


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
