"""Where blobs are kept: what can be no store, what is said of one that doesn't work, and what a bad network does."""

import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import obstore
import pytest

from finery import bootstrap
from finery.core.errors import Conflict, InvalidRequest, Unavailable
from finery.core.files import File, FileStatus
from finery.settings import Settings
from finery.storage import files, projects
from finery.storage.blobs import BlobStore
from object_stores import AZURE_ACCOUNT, AZURE_KEY, Line, Store


def test_a_folder_by_its_url_is_that_folder(tmp_path: Path) -> None:
    shared = tmp_path / "a shared folder"
    first = BlobStore(tmp_path / "one", f"file://{str(shared).replace(' ', '%20')}")
    second = BlobStore(tmp_path / "two", f"file://{str(shared).replace(' ', '%20')}")
    blob = first.put([b"bytes"])
    assert second.has(blob.sha256)
    with second.as_path(blob.sha256) as path:
        assert path.is_relative_to(shared)
    assert not (tmp_path / "one").exists(), "nothing is spooled on another disk than it is kept on"


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://host/folder",
        "file://host/folder",
        "s3://",
        "az:///folder",
        "file:folder",
        "gs://bucket",
        "memory:///",
        "s3:bucket",
        "s3://bucket/../other",
        "s3://bucket?region=x",
        "az://container/a#b",
        "s3://key:secret@bucket",
    ],
)
def test_what_can_be_no_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidRequest, match="FINERY_BLOB_URL"):
        BlobStore(tmp_path, url)


def test_a_secret_in_the_url_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Keys belong into the environment") as caught:
        BlobStore(tmp_path, "s3://key:hush@bucket")
    assert "hush" not in caught.value.message


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_patience_is_no_setting(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="FINERY_BLOB_SECONDS"):
        BlobStore(tmp_path, "s3://bucket", seconds)


@pytest.fixture(params=["s3", "az"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A service that the environment leads to."""
    running: Store = request.getfixturevalue(request.param)
    lead_to(running, monkeypatch)
    return running


def lead_to(store: Store, monkeypatch: pytest.MonkeyPatch, port: int = 0) -> None:
    for name, value in store.environment(port).items():
        monkeypatch.setenv(name, value)


def refused(tmp_path: Path, url: str, seconds: float = 2.0) -> str:
    """What a control plane says that doesn't start."""
    (tmp_path / "home").mkdir(exist_ok=True)
    with pytest.raises((Unavailable, InvalidRequest)) as caught:
        bootstrap.control_plane(Settings(home=tmp_path / "home", blob_url=url, blob_seconds=seconds))
    return caught.value.message


def test_a_store_that_works_lets_a_control_plane_start(tmp_path: Path, store: Store) -> None:
    (tmp_path / "home").mkdir()
    url = store.place()
    plane = bootstrap.control_plane(Settings(home=tmp_path / "home", blob_url=url))
    assert list(plane.blobs.list_all()) == []
    assert list(obstore.list(plane.blobs._store)) in ([], [[]]), "trying it leaves nothing behind"
    plane.database.close()


def test_a_wrong_bucket_is_refused_at_the_start(tmp_path: Path, store: Store) -> None:
    said = refused(tmp_path, f"{store.kind}://nowhere/prefix")
    word = {"s3": "bucket", "az": "container"}[store.kind]
    assert f"there is no {word} 'nowhere'. Make it (Finery makes none), or correct the name" in said


def test_a_wrong_key_is_refused_at_the_start(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    url = store.place()
    ask_for_keys = f"http://127.0.0.1:{store.port}/moto-api/reset-auth"
    if store.kind == "s3":
        httpx.post(ask_for_keys, content=b"0").raise_for_status()
    else:
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"AccountName={AZURE_ACCOUNT};AccountKey=AAAA{AZURE_KEY[4:]};"
            f"BlobEndpoint=http://127.0.0.1:{store.port}/{AZURE_ACCOUNT}",
        )
    try:
        said = refused(tmp_path, url)
    finally:
        if store.kind == "s3":
            httpx.post(ask_for_keys, content=b"inf").raise_for_status()
    assert f"{url} refuses Finery's key" in said
    assert {"s3": "AWS_ACCESS_KEY_ID", "az": "AZURE_STORAGE_ACCOUNT_KEY"}[store.kind] in said


@pytest.mark.parametrize("url", ["s3://bucket", "az://container"])
def test_no_key_at_all_is_refused_at_the_start(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    # Where a machine of the cloud would have one for us.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AZURE_MSI_ENDPOINT", "http://127.0.0.1:1/token")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    assert "without a key that is one. Set A" in refused(tmp_path, url)


def test_no_account_and_no_base64_are_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Set AZURE_STORAGE_ACCOUNT_NAME" in refused(tmp_path, "az://container")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("AZURE_STORAGE_KEY", "no base64!")
    assert "without a key that is one" in refused(tmp_path, "az://container")


def test_a_store_that_is_not_there_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    for address in ("http://127.0.0.1:1", "https://127.0.0.1:1", "http://no-such-host.invalid"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert "s3://bucket doesn't answer. Look whether it runs" in refused(tmp_path, "s3://bucket")


def test_a_silent_store_is_given_up_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", AZURE_ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_KEY", AZURE_KEY)
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{port}")
        assert "az://container doesn't answer" in refused(tmp_path, "az://container", seconds=0.5)


def test_azures_emulator_by_its_own_word(tmp_path: Path, az: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{az.port}")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")
    blobs = BlobStore(tmp_path, az.place())
    blobs.check()
    assert list(blobs.list_all()) == []


@pytest.fixture
def line(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A network to the service that can go bad."""
    made = Line(store.port)
    lead_to(store, monkeypatch, made.port)
    yield made
    made.close()


CONTENT = random.Random(3).randbytes(6_000_000)
"""Two parts on the way in, two pieces on the way out."""
NAME = hashlib.sha256(CONTENT).hexdigest()

FAULTS = [("s3", "refused"), ("s3", "mute"), ("s3", "cut"), ("az", "mute"), ("az", "cut")]


class Pair:
    """The same place twice: for one who gives up soon, and for one who waits as long as a busy machine takes."""

    def __init__(self, folder: Path, url: str) -> None:
        self.hasty = BlobStore(folder, url, 0.5)
        self.calm = BlobStore(folder, url, 60.0)

    def whole(self) -> set[str]:
        """The blobs there are, each of them what its name says."""
        found = set(self.calm.list_all())
        for sha256 in found:
            assert hashlib.sha256(b"".join(self.calm.stream(sha256))).hexdigest() == sha256
        return found


def bounded(call: Callable[[], object]) -> None:
    """It fails as it should, and doesn't hang: its patience is half a second, the rest is for a busy machine."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"doesn't answer") as caught:
        call()
    assert caught.value.code == "store_unavailable"
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(("store", "fault"), FAULTS, indirect=["store"])
def test_an_upload_into_a_bad_network_is_refused_and_leaves_nothing(
    store: Store, line: Line, tmp_path: Path, fault: str
) -> None:
    blobs = Pair(tmp_path, store.place())
    kept = blobs.calm.put([b"kept"])
    line.cut_after = 30
    line.set(fault)
    bounded(lambda: blobs.hasty.put([CONTENT]))
    line.set("open")
    assert blobs.whole() == {kept.sha256}
    assert blobs.calm.put([CONTENT]).sha256 == NAME
    assert blobs.whole() == {kept.sha256, NAME}
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(("store", "fault"), [*FAULTS, ("s3", "slow")], indirect=["store"])
def test_a_network_that_goes_bad_under_a_reader_ends_it_and_nothing_else(
    store: Store, line: Line, tmp_path: Path, fault: str
) -> None:
    blobs = Pair(tmp_path, store.place())
    blobs.calm.put([CONTENT])
    chunks = blobs.calm.stream(NAME)
    given = [next(chunks)]
    blobs.calm._store = blobs.hasty._store
    line.set(fault)
    bounded(lambda: given.extend(chunks))
    assert len(b"".join(given)) < len(CONTENT)
    assert CONTENT.startswith(b"".join(given))
    bounded(lambda: blobs.hasty.stream(NAME))
    bounded(lambda: blobs.hasty.save_to(NAME, tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
    line.set("open")
    assert Pair(tmp_path, blobs.calm.place).whole() == {NAME}


def test_connections_that_break_are_made_anew(store: Store, line: Line, tmp_path: Path) -> None:
    """An idle one was closed, a machine behind a balancer went away: nobody feels it."""
    blobs = Pair(tmp_path, store.place()).calm
    blobs.put([CONTENT])
    line.set("open")
    assert blobs.has(NAME)
    chunks = blobs.stream(NAME)
    given = next(chunks)
    line.set("open")
    assert given + b"".join(chunks) == CONTENT


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_service_that_goes_away_between_the_parts_leaves_no_object(store: Store, line: Line, tmp_path: Path) -> None:
    blobs = Pair(tmp_path, store.place())
    for connections in (1, 2, 3):
        over = threading.Event()

        def cut(at: int = line.connections + connections, over: threading.Event = over) -> None:
            while line.connections < at and not over.wait(0.001):
                pass
            line.set("refused")

        watcher = threading.Thread(target=cut)
        watcher.start()
        kept = True
        try:
            BlobStore(tmp_path, blobs.calm.place, 2.0).put([CONTENT])
        except Unavailable:
            kept = False
        over.set()
        watcher.join()
        line.set("open")
        assert blobs.whole() in ({NAME}, {NAME} if kept else set())
        blobs.calm.remove(NAME)


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
