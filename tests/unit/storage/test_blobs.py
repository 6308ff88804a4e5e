"""Bytes by their hash, in each kind of store."""

import errno
import hashlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from finery.core.errors import CorruptArtifact, StorageFull
from finery.storage.blobs import BlobStore


@pytest.fixture(params=["folder", "s3", "az"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    if request.param == "folder":
        return BlobStore(tmp_path / "blobs")
    store = request.getfixturevalue(request.param)
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    return BlobStore(tmp_path / "blobs", store.place())


def put_beside(blobs: BlobStore, sha256: str, content: bytes) -> None:
    """Change what is stored behind the store's back."""
    obstore.put(blobs._store, f"{sha256[:2]}/{sha256}", content)


def spooled(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "blobs" / "scratch").rglob("*") if path.is_file()]


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
    assert len(list(blobs.list_all())) == 1
    assert spooled(tmp_path) == []


def test_an_upload_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.put(broken())
    assert list(blobs.list_all()) == []
    assert spooled(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    def full() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="full"):
        blobs.put(full())
    assert list(blobs.list_all()) == []
    assert spooled(tmp_path) == []


def test_a_flipped_bit_is_found(blobs: BlobStore, tmp_path: Path) -> None:
    blob = blobs.put([b"precious"])
    put_beside(blobs, blob.sha256, b"preciouz")
    with pytest.raises(CorruptArtifact):
        blobs.save_to(blob.sha256, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_missing_blob_is_said_before_its_first_byte(blobs: BlobStore, tmp_path: Path) -> None:
    assert not blobs.has("0" * 64)
    with pytest.raises(CorruptArtifact):
        blobs.stream("0" * 64)
    with pytest.raises(CorruptArtifact):
        blobs.stream("0" * 64, 3, 3)
    with pytest.raises(CorruptArtifact):
        blobs.save_to("0" * 64, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_any_range_of_a_large_blob_comes_back(blobs: BlobStore, tmp_path: Path) -> None:
    """Larger than a part on the way in and than a piece on the way out."""
    dice = random.Random(1)
    whole = dice.randbytes(13_000_001)
    blob = blobs.put(whole[at : at + 1_000_000] for at in range(0, len(whole), 1_000_000))
    assert b"".join(blobs.stream(blob.sha256)) == whole
    with blobs.as_path(blob.sha256) as path:
        assert path.read_bytes() == whole
    edges = (0, 1, 4 * 1024**2 - 1, 4 * 1024**2, 4 * 1024**2 + 1, 8 * 1024**2, len(whole) - 1, len(whole))
    for start, end in itertools.combinations_with_replacement(edges, 2):
        assert b"".join(blobs.stream(blob.sha256, start, end)) == whole[start:end]
    assert b"".join(blobs.stream(blob.sha256, 5_000_000)) == whole[5_000_000:]
    assert spooled(tmp_path) == []


def test_no_bytes_at_all_are_a_blob_too(blobs: BlobStore, tmp_path: Path) -> None:
    blob = blobs.put([])
    assert blobs.has(blob.sha256)
    assert list(blobs.stream(blob.sha256)) == list(blobs.stream(blob.sha256, 0, 0)) == []
    blobs.save_to(blob.sha256, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_what_is_removed_is_gone_and_may_be_removed_again(blobs: BlobStore) -> None:
    kept, gone = blobs.put([b"kept"]), blobs.put([b"gone"])
    assert set(blobs.list_all()) == {kept.sha256, gone.sha256}
    blobs.remove(gone.sha256)
    blobs.remove(gone.sha256)
    assert list(blobs.list_all()) == [kept.sha256]
    assert not blobs.has(gone.sha256)
    assert blobs.put([b"gone"]) == gone
    assert blobs.has(gone.sha256)


def test_other_objects_beside_the_blobs_are_not_listed(blobs: BlobStore) -> None:
    blob = blobs.put([b"kept"])
    for name in ("readme", "ab/readme", f"xy/{blob.sha256}", f"{blob.sha256[:2]}/deeper/{blob.sha256}"):
        obstore.put(blobs._store, name, b"not a blob")
    assert list(blobs.list_all()) == [blob.sha256]


def test_a_blob_that_was_kept_by_half_is_replaced(blobs: BlobStore) -> None:
    blob = blobs.put([b"precious"])
    put_beside(blobs, blob.sha256, b"prec")
    assert blobs.put([b"precious"]) == blob
    assert b"".join(blobs.stream(blob.sha256)) == b"precious"


def test_wrong_bytes_of_a_store_elsewhere_are_never_given_away_whole(blobs: BlobStore) -> None:
    if blobs._folder is not None:
        pytest.skip("a folder's bytes are checked where they are copied")
    content = random.Random(2).randbytes(9_000_000)
    blob = blobs.put([content])
    for wrong in (content[:-1] + b"?", content[:5_000_000], content + b"!", b"?"):
        put_beside(blobs, blob.sha256, wrong)
        given: list[bytes] = []
        with pytest.raises(CorruptArtifact, match="other bytes"):
            given.extend(blobs.stream(blob.sha256))
        assert sum(map(len, given)) < len(wrong)
        with pytest.raises(CorruptArtifact), blobs.as_path(blob.sha256):
            pass
