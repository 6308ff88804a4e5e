"""Where blobs are kept: what can be no store, and a folder by its URL."""

from pathlib import Path

import pytest

from finery import bootstrap
from finery.core.errors import Conflict, InvalidRequest, Unavailable
from finery.core.files import File, FileStatus
from finery.settings import Settings
from finery.storage import files, projects
from finery.storage.blobs import BlobStore


def test_a_folder_by_its_url_is_that_folder(tmp_path: Path) -> None:
    shared = tmp_path / "a shared folder"
    first = BlobStore(tmp_path / "one", f"file://{str(shared).replace(' ', '%20')}")
    second = BlobStore(tmp_path / "two", f"file://{str(shared).replace(' ', '%20')}")
    blob = first.put([b"bytes"])
    assert second.has(blob.sha256)
    with second.as_path(blob.sha256) as path:
        assert path.is_relative_to(shared)
    assert not (tmp_path / "one").exists(), "nothing is spooled on another disk than it is kept on"


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/folder", "file://host/folder", "s3://", "file:folder"])
def test_what_can_be_no_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidRequest, match="FINERY_BLOB_URL"):
        BlobStore(tmp_path, url)


def test_a_store_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_MAX_RETRIES", "0")
    store = BlobStore(tmp_path, "s3://bucket")
    with pytest.raises(Unavailable, match="s3://bucket doesn't answer"):
        store.has("0" * 64)


def test_a_database_with_another_store_than_its_own_is_refused(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    settings.home.mkdir()
    plane = bootstrap.control_plane(settings)
    blob = plane.blobs.put([b"precious"])
    with plane.database.write() as connection:
        project = projects.find_project(connection, "default")
        assert project is not None
        file = File(
            id="file-1",
            project_id=project.id,
            filename="f",
            purpose="user_data",
            bytes=blob.bytes,
            sha256=blob.sha256,
            status=FileStatus.PROCESSED,
            created_at=1,
        )
        files.insert_file(connection, file)
    plane.database.close()
    bootstrap.control_plane(settings).database.close()
    other = Settings(home=tmp_path / "home", database_url=database_url, blob_url=f"file://{tmp_path}/other")
    with pytest.raises(Conflict, match=r"Set FINERY_BLOB_URL to the store that belongs to this database"):
        bootstrap.control_plane(other)
