"""A folder is published whole or not at all, and what changed in it afterwards is found."""

import errno
import json
import os
import random
from pathlib import Path

import pytest

from finery.core.errors import CorruptArtifact, StorageFull
from finery.modeling import manifests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    final = tmp_path / "step-000025"
    with manifests.fill(final) as temp:
        (temp / "sub").mkdir()
        (temp / "weights.bin").write_bytes(random.Random(0).randbytes(9000))
        (temp / "sub" / "state.json").write_text('{"step": 25}')
        (temp / "empty").touch()
        manifests.write_manifest(temp, step=25, loss=0.125, name_of="é")
    return final


def test_what_was_written_is_read(folder: Path) -> None:
    manifest = manifests.verify(folder)
    assert manifest == manifests.check_sizes(folder) == manifests.read_manifest(folder)
    assert manifest.facts == {"step": 25, "loss": 0.125, "name_of": "é"}
    assert set(manifest.files) == {"weights.bin", "sub/state.json", "empty"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_every_flipped_bit_is_found(folder: Path) -> None:
    chance = random.Random(1)
    for path in [folder / "weights.bin", folder / "sub" / "state.json", folder / manifests.MANIFEST_FILE]:
        content = path.read_bytes()
        for _ in range(120):
            at, bit = chance.randrange(len(content)), 1 << chance.randrange(8)
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            if path.name == manifests.MANIFEST_FILE and _same_json(content, path.read_bytes()):
                continue  # a bit between the values: white space for other white space
            with pytest.raises(CorruptArtifact):
                manifests.verify(folder)
        path.write_bytes(content)
    manifests.verify(folder)


def test_what_is_cut_or_lost_is_found_cheaply(folder: Path) -> None:
    content = (folder / "weights.bin").read_bytes()
    for damaged in (content[:-1], content + b"x", b""):
        (folder / "weights.bin").write_bytes(damaged)
        with pytest.raises(CorruptArtifact, match=r"weights\.bin"):
            manifests.check_sizes(folder)
    (folder / "weights.bin").unlink()
    with pytest.raises(CorruptArtifact, match=r"weights\.bin is missing"):
        manifests.check_sizes(folder)
    (folder / manifests.MANIFEST_FILE).unlink()
    with pytest.raises(CorruptArtifact, match="never completed"):
        manifests.check_sizes(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": 3}', "[" * 100_000, '{"files": {"a": {"size": "x"}}}', "\x00"]
)
def test_what_is_no_manifest_is_said_to_be_none(folder: Path, content: str) -> None:
    (folder / manifests.MANIFEST_FILE).write_text(content)
    with pytest.raises(CorruptArtifact):
        manifests.read_manifest(folder)


def test_names_outside_of_the_folder_are_refused(folder: Path) -> None:
    for name in ("../secret", "/etc/passwd", "sub/../../x", "a\\b", ""):
        body = {"files": {name: {"size": 1, "sha256": "0" * 64}}, "facts": {}}
        sealed = {**body, "seal": manifests._seal(body)}
        (folder / manifests.MANIFEST_FILE).write_text(json.dumps(sealed))
        with pytest.raises(CorruptArtifact, match="outside"):
            manifests.check_sizes(folder)


def test_links_are_not_published(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(CorruptArtifact, match="link"):
        manifests.write_manifest(tmp_path)


def test_a_block_that_fails_leaves_nothing_and_the_old_folder_stays(folder: Path) -> None:
    def fail() -> None:
        with manifests.fill(folder) as temp:
            (temp / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    manifests.verify(folder)


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="step-1"), manifests.fill(tmp_path / "step-1"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_only_old_leftovers_are_swept(folder: Path) -> None:
    old, new = folder.parent / ".a.x.part", folder.parent / ".b.x.part"
    for path in (old, new):
        path.mkdir()
    os.utime(old, (1, 1))
    manifests.sweep(folder.parent)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".b.x.part", folder.name]


def test_a_new_folder_takes_the_place_of_an_old_one(folder: Path) -> None:
    with manifests.fill(folder) as temp:
        (temp / "new").write_text("x")
        manifests.write_manifest(temp, step=26)
    assert manifests.verify(folder).facts == {"step": 26}
    assert sorted(path.name for path in folder.iterdir()) == [manifests.MANIFEST_FILE, "new"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def _same_json(left: bytes, right: bytes) -> bool:
    try:
        return bool(json.loads(left) == json.loads(right))
    except ValueError:
        return False
