"""Bytes that one deletes while another uploads them: nobody loses any, and none stay for nobody."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from finery import bootstrap
from finery.control import files, naming
from finery.control.plane import ControlPlane
from finery.core.errors import BlobsMissing, Unavailable
from finery.core.files import File
from finery.settings import Settings
from finery.storage import drops, projects


@pytest.fixture
def plane(tmp_path: Path, migrated_url: str) -> Iterator[ControlPlane]:
    (tmp_path / "home").mkdir()
    made = bootstrap.control_plane(Settings(home=tmp_path / "home", database_url=migrated_url))
    yield made
    made.database.close()


def upload(plane: ControlPlane, content: bytes) -> File:
    with plane.database.read() as connection:
        project = projects.find_project(connection, "default")
    assert project is not None
    return files.store(plane, project.id, filename="f", purpose="user_data", chunks=[content])


def test_an_upload_between_the_look_and_the_removal_keeps_its_bytes(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, remove, again = upload(plane, b"same"), plane.blobs.remove, []
    came = threading.Thread(target=lambda: again.append(upload(plane, b"same")))

    def late(sha256: str) -> None:
        came.start()
        came.join(0.5)  # It would have been done by now, and lost.
        remove(sha256)

    monkeypatch.setattr(plane.blobs, "remove", late)
    files._remove(plane, first)
    came.join(30)
    assert again[0].sha256 == first.sha256
    assert b"".join(plane.blobs.stream(first.sha256)) == b"same"
    with plane.database.read() as connection:
        assert drops.find(connection, first.sha256) is None


def test_many_who_upload_and_delete_the_same_bytes(plane: ControlPlane) -> None:
    failures: list[BaseException] = []

    def come_and_go(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(15):
                file = upload(plane, b"one" if dice.random() < 0.5 else b"two")
                assert plane.blobs.has(file.sha256), "named, so it is there"
                if dice.random() < 0.9:
                    files._remove(plane, file)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with plane.database.read() as connection:
        named = set(connection.exec_driver_sql("SELECT sha256 FROM files").scalars())
    assert set(plane.blobs.list_all()) == named


def test_what_a_silent_store_keeps_is_removed_later(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    file = upload(plane, b"kept too long")

    def silent(_: str) -> None:
        raise Unavailable("The object store doesn't answer.")

    with monkeypatch.context() as patched:
        patched.setattr(plane.blobs, "remove", silent)
        files._remove(plane, file)
    naming.drop_left(plane)
    assert plane.blobs.has(file.sha256), "it may still be on its way"
    monkeypatch.setattr(naming, "ABANDONED_SECONDS", -1)
    naming.drop_left(plane)
    assert not plane.blobs.has(file.sha256)
    monkeypatch.setattr(naming, "_KEPT_SECONDS", -1)
    naming.drop_left(plane)
    with plane.database.read() as connection:
        assert drops.find(connection, file.sha256) is None


def test_bytes_of_an_abandoned_removal_can_be_uploaded_again(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between its look and the store's answer."""
    file = upload(plane, b"again")
    left = drops.Drop(sha256=file.sha256, mark="drop_1", gone=False, created_at=1)
    with plane.database.write() as connection:
        drops.begin(connection, left)
    plane.blobs.remove(file.sha256)
    assert upload(plane, b"again").sha256 == file.sha256
    assert plane.blobs.has(file.sha256)
    naming.drop_left(plane)
    assert plane.blobs.has(file.sha256)
    monkeypatch.setattr(naming, "_WAITS", 2)
    with plane.database.write() as connection:
        drops.begin(connection, drops.Drop(sha256=file.sha256, mark="drop_2", gone=False, created_at=2**40))
    with pytest.raises(Unavailable, match="Try again"):
        upload(plane, b"again")


def test_what_was_uploaded_first_is_named_only_while_it_is_there(plane: ControlPlane) -> None:
    sha256 = plane.blobs.put([b"weights"]).sha256
    assert naming.name_uploaded(plane, {sha256}, lambda _: "named") == "named"
    removal = drops.Drop(sha256=sha256, mark="drop_1", gone=False, created_at=2**40)
    with plane.database.write() as connection:
        drops.begin(connection, removal)
    plane.blobs.remove(sha256)
    with plane.database.write() as connection:
        drops.end(connection, removal)
    with pytest.raises(BlobsMissing, match=sha256):
        naming.name_uploaded(plane, {sha256}, lambda _: "named")
    assert plane.blobs.put([b"weights"]).sha256 == sha256
    assert naming.name_uploaded(plane, {sha256}, lambda _: "named again") == "named again"
    with plane.database.read() as connection:
        assert drops.find(connection, sha256) is None, "the mark is over: the bytes have a name again"


def test_while_they_are_being_removed_nobody_names_them(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = plane.blobs.put([b"weights"]).sha256
    with plane.database.write() as connection:
        drops.begin(connection, drops.Drop(sha256=sha256, mark="drop_1", gone=False, created_at=2**40))
    monkeypatch.setattr(naming, "_WAITS", 2)
    with pytest.raises(Unavailable, match="Try again"):
        naming.name_uploaded(plane, {sha256}, lambda _: pytest.fail("it would be lost"))
