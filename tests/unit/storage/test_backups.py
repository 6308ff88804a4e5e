"""A backup becomes the same home again, on either engine; a bad one becomes nothing."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import postgres
from finery import bootstrap
from finery.control.plane import ControlPlane
from finery.core.errors import Conflict, CorruptArtifact, NotFound, Unavailable
from finery.core.files import File, FileStatus
from finery.core.jobs import Job, JobStatus
from finery.settings import Settings
from finery.storage import audit, backups, files, jobs, projects, rows
from finery.storage.database import Database
from object_stores import Store


def plane_of(settings: Settings) -> ControlPlane:
    settings.home.mkdir(exist_ok=True)
    return bootstrap.control_plane(settings)


def upload(plane: ControlPlane, name: str, content: bytes) -> str:
    blob = plane.blobs.put([content])
    with plane.database.write() as connection:
        project = projects.find_project(connection, "default")
        assert project is not None
        file = File(
            id=name,
            project_id=project.id,
            filename=f"{name} é\u2028",
            purpose="user_data",
            bytes=blob.bytes,
            sha256=blob.sha256,
            status=FileStatus.PROCESSED,
            created_at=1,
        )
        files.insert_file(connection, file)
    return blob.sha256


def add_job(plane: ControlPlane, name: str, **values: object) -> Job:
    with plane.database.write() as connection:
        project = projects.find_project(connection, "default")
        assert project is not None
        fields = {
            "id": name,
            "project_id": project.id,
            "model": "m",
            "base_model": "m",
            "training_file": "f",
            "seed": 2**31 - 1,
            "status": JobStatus.RUNNING,
            "method": "supervised",
            "options": {"rate": 1e-4, "none": None},
            "created_at": 1,
            "lease_until": 1234567890.123456,
        }
        job = Job(**{**fields, **values})
        jobs.insert_job(connection, job)
        event = {"key": "k", "type": "metrics", "message": "é\n\u2028", "data": {"loss": 0.1}, "created_at": 1}
        jobs.insert_events(connection, name, [event])
        audit.append(
            connection,
            created_at=1,
            key_id="k",
            principal_id=None,
            project_id=project.id,
            action="jobs.create",
            target=name,
            details="{}",
        )
    return job


def all_rows(plane: ControlPlane) -> dict[str, list[str]]:
    with plane.database.read() as connection:
        return {table.name: list(rows.dump(connection, table)) for table in rows.tables(connection)}


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """A home on each engine; SQLite is where it is by default."""
    url = "" if database_url.startswith("sqlite") else database_url
    return Settings(home=tmp_path / "home", database_url=url)


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_backup_becomes_the_same_home_again(
    settings: Settings, tmp_path: Path, target: str, request: pytest.FixtureRequest
) -> None:
    plane = plane_of(settings)
    (settings.home / "tls").mkdir()
    (settings.home / "tls" / "ca.pem").write_text("certificate")
    upload(plane, "file-1", b"precious")
    add_job(plane, "job-1", metadata={"a": "b"})
    add_job(plane, "job-2", metadata=None, error={"code": None})
    before = all_rows(plane)
    manifest = backups.make(settings, tmp_path / "backup")  # The control plane has the database open.
    assert manifest["rows"]["jobs"] == 2
    plane.database.close()

    url = request.getfixturevalue("cluster").url() if target == "postgresql" else ""
    backups.restore(Settings(home=tmp_path / "new", database_url=url), tmp_path / "backup")
    again = plane_of(Settings(home=tmp_path / "new", database_url=url))
    assert all_rows(again) == before
    assert list(again.blobs.list_all()) == list(plane.blobs.list_all())
    for name in ("admin.key", "worker.key", "tls/ca.pem"):
        assert (again.settings.home / name).read_bytes() == (settings.home / name).read_bytes()
        assert (again.settings.home / name).stat().st_mode & 0o077 == 0
    # It goes on counting where it was.
    add_job(again, "job-3")
    with again.database.read() as connection:
        assert [job.id for job in jobs.list_in(connection, JobStatus.RUNNING)] == ["job-1", "job-2", "job-3"]
    again.database.close()


def test_numbers_that_are_no_json_become_none_in_postgresql(tmp_path: Path, cluster: postgres.Cluster) -> None:
    settings = Settings(home=tmp_path / "home")
    plane = plane_of(settings)
    add_job(plane, "job-1", options={"rate": float("nan"), "text": "NaN", "most": float("inf")})
    backups.make(settings, tmp_path / "backup")
    plane.database.close()
    new = Settings(home=tmp_path / "new", database_url=cluster.url())
    backups.restore(new, tmp_path / "backup")
    again = plane_of(new)
    with again.database.read() as connection:
        (job,) = jobs.list_in(connection, JobStatus.RUNNING)
    assert job.options == {"rate": None, "text": "NaN", "most": None}
    again.database.close()


def test_a_backup_of_an_older_schema_becomes_a_home_of_this_one(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "home").mkdir()
    old = Database(f"sqlite:///{tmp_path}/home/finery.db")
    old.migrate("0005")
    with old.write() as connection:
        connection.exec_driver_sql("INSERT INTO projects (id, name, created_at) VALUES ('p', 'default', 1)")
    old.close()
    assert backups.make(Settings(home=tmp_path / "home"), tmp_path / "backup")["schema"] == "0005"
    new = Settings(home=tmp_path / "new", database_url=database_url)
    backups.restore(new, tmp_path / "backup")
    again = plane_of(new)
    with again.database.read() as connection:
        found = projects.find_project(connection, "default")
    assert found is not None
    assert (found.id, found.hub_id[:4]) == ("p", "hub_")
    again.database.close()


def test_a_backup_takes_blobs_out_of_one_bucket_and_puts_them_into_another(
    s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings(home=tmp_path / "home", blob_url=s3.place())
    plane = plane_of(settings)
    sha256 = upload(plane, "file-1", b"precious" * 1_000_000)
    backups.make(settings, tmp_path / "backup")
    plane.database.close()
    plane.blobs.remove(sha256)

    elsewhere = Settings(home=tmp_path / "new", blob_url="s3://nowhere")
    with pytest.raises(Unavailable, match="there is no bucket 'nowhere'"):
        backups.restore(elsewhere, tmp_path / "backup")
    assert not elsewhere.home.exists()
    other = Settings(home=tmp_path / "new", blob_url=s3.place())
    backups.restore(other, tmp_path / "backup")
    again = plane_of(other)
    assert list(again.blobs.list_all()) == [sha256]
    assert b"".join(again.blobs.stream(sha256)) == b"precious" * 1_000_000
    again.database.close()


@pytest.mark.slow
def test_a_backup_under_load_has_every_blob_its_rows_name(tmp_path: Path) -> None:
    """By another process, as an operator makes it, while files come and go."""
    settings = Settings(home=tmp_path / "home")
    plane = plane_of(settings)
    dice, stop = random.Random(1), threading.Event()
    count = 0

    def come_and_go() -> None:
        nonlocal count
        while not stop.is_set():
            count += 1
            sha256 = upload(plane, f"file-{count}", dice.randbytes(2000))
            if count % 3 == 0:
                with plane.database.write() as connection:
                    (file,) = files.list_unchecked(connection) or [None]
                    assert file is None
                    connection.exec_driver_sql(f"DELETE FROM files WHERE id = 'file-{count}'")
                plane.blobs.remove(sha256)

    worker = threading.Thread(target=come_and_go)
    worker.start()
    command = [sys.executable, "-m", "finery.cli", "backup", str(tmp_path / "backup"), "--home", str(settings.home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    stop.set()
    worker.join()
    assert done.returncode == 0, done.stderr
    assert "Backed up to" in done.stdout
    plane.database.close()
    new = Settings(home=tmp_path / "new")
    backups.restore(new, tmp_path / "backup")
    again = plane_of(new)
    with again.database.read() as connection:
        named = connection.exec_driver_sql("SELECT sha256 FROM files").scalars().all()
    assert len(named) > 1, "nothing came while the backup was made"
    for sha256 in named:
        again.blobs.save_to(sha256, tmp_path / "out")
    again.database.close()


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A good one."""
    settings = Settings(home=tmp_path / "home")
    plane = plane_of(settings)
    upload(plane, "file-1", b"precious" * 100)
    add_job(plane, "job-1")
    backups.make(settings, tmp_path / "backup")
    plane.database.close()
    return tmp_path / "backup"


def test_any_flipped_byte_is_found_and_nothing_is_made_of_it(backup: Path, tmp_path: Path) -> None:
    dice = random.Random(7)
    whole = sorted(path for path in backup.rglob("*") if path.is_file() and path.stat().st_size)
    for path in [*whole, *dice.choices(whole, k=20)]:
        content = path.read_bytes()
        place = dice.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << dice.randrange(8))]) + content[place + 1 :])
        with pytest.raises(CorruptArtifact, match=path.name):
            backups.restore(Settings(home=tmp_path / "new"), backup)
        path.write_bytes(content[:place])
        with pytest.raises(CorruptArtifact, match=path.name):
            backups.restore(Settings(home=tmp_path / "new"), backup)
        path.write_bytes(content)
    assert not (tmp_path / "new").exists()
    backups.restore(Settings(home=tmp_path / "new"), backup)


def test_what_is_in_the_way_of_a_restore_is_said(backup: Path, tmp_path: Path, cluster: postgres.Cluster) -> None:
    with pytest.raises(Conflict, match=r"isn't empty\. Restore into a new one"):
        backups.restore(Settings(home=tmp_path / "home"), backup)
    url = cluster.url()
    database = Database(url)
    database.migrate()
    with pytest.raises(Conflict, match="has tables already"):
        backups.restore(Settings(home=tmp_path / "new", database_url=url), backup)
    database.close()
    assert not (tmp_path / "new").exists()
    with pytest.raises(Conflict, match=r"isn't empty\. Name a new folder"):
        backups.make(Settings(home=tmp_path / "home"), backup)
    with pytest.raises(NotFound, match="There is no database"):
        backups.make(Settings(home=tmp_path / "nowhere"), tmp_path / "other")
    (backup / "backup.json").unlink()
    for folder in (backup, tmp_path / "nowhere"):
        with pytest.raises(NotFound, match="holds no whole backup"):
            backups.restore(Settings(home=tmp_path / "new"), folder)


def test_a_backup_of_a_newer_finery_is_refused(backup: Path, tmp_path: Path) -> None:
    manifest = json.loads((backup / "backup.json").read_text())
    del manifest["sha256"]
    manifest["schema"] = "9999"
    manifest["sha256"] = backups._sha256([backups._canonical(manifest)])
    (backup / "backup.json").write_text(json.dumps(manifest))
    with pytest.raises(Conflict, match="schema 9999, which this version"):
        backups.restore(Settings(home=tmp_path / "new"), backup)


def test_a_restore_that_fails_leaves_the_database_as_empty_as_it_was(
    backup: Path, tmp_path: Path, cluster: postgres.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Settings(home=tmp_path / "new", database_url=cluster.url())

    def full(*_: object) -> int:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(rows, "load", full)
        with pytest.raises(OSError, match="no space"):
            backups.restore(new, backup)
    assert not new.home.exists()
    backups.restore(new, backup)


def test_a_damaged_blob_is_found_when_the_backup_is_made(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    plane = plane_of(settings)
    sha256 = upload(plane, "file-1", b"precious")
    with plane.blobs.as_path(sha256) as path:
        path.write_bytes(b"preciouz")
    with pytest.raises(CorruptArtifact, match=sha256):
        backups.make(settings, tmp_path / "backup")
    shutil.rmtree(tmp_path / "backup")
    with plane.blobs.as_path(sha256) as path:
        os.unlink(path)
    with pytest.raises(CorruptArtifact, match="names 1 blobs that the object store doesn't have"):
        backups.make(settings, tmp_path / "backup")
    plane.database.close()
