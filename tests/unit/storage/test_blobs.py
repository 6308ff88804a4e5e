"""Bytes by their hash."""

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from finery.core.errors import CorruptArtifact, StorageFull
from finery.storage.blobs import BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_bytes_come_back(blobs: BlobStore, tmp_path: Path) -> None:
    parts = [b"one", b"", b"two" * 100_000]
    blob = blobs.put(parts)
    whole = b"".join(parts)
    assert (blob.sha256, blob.bytes) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert b"".join(blobs.stream(blob.sha256)) == whole
    blobs.save_to(blob.sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == whole
    with blobs.as_path(blob.sha256) as path:
        assert path.read_bytes() == whole


def test_the_same_bytes_are_kept_once(blobs: BlobStore, tmp_path: Path) -> None:
    assert blobs.put([b"same"]) == blobs.put([b"sa", b"me"])
    assert len([p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]) == 1


def test_an_upload_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.put(broken())
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_a_full_disk_is_said_and_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    def full() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="full"):
        blobs.put(full())
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_a_flipped_bit_is_found(blobs: BlobStore, tmp_path: Path) -> None:
    blob = blobs.put([b"precious"])
    with blobs.as_path(blob.sha256) as path:
        path.write_bytes(b"preciouz")
    with pytest.raises(CorruptArtifact):
        blobs.save_to(blob.sha256, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_missing_blob_is_said(blobs: BlobStore) -> None:
    assert not blobs.has("0" * 64)
    with pytest.raises(CorruptArtifact):
        list(blobs.stream("0" * 64))
