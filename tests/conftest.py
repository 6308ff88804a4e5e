"""What all tests share: no real environment, tiny models, one server a session."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import object_stores
import postgres
from object_stores import Store
from servers import Server
from tiny_models import own_copy

# The same examples in every run, so that a change is judged by itself; look for new ones with
# `pytest --hypothesis-profile=default`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of base models with a tiny random Phi-3, as `finery models import` makes it."""
    from finery.modeling import sources

    raw = own_copy(tmp_path_factory.mktemp("raw") / "phi3", "phi3", tmp_path_factory)
    models = tmp_path_factory.mktemp("models")
    sources.import_folder(models, raw, "tiny-phi3")
    return models


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[Server]:
    """A running server with a tiny Phi-3; `FINERY_TEST_POSTGRES=1` puts it on PostgreSQL."""
    environment = {}
    if os.environ.get("FINERY_TEST_POSTGRES"):
        environment["FINERY_DATABASE_URL"] = request.getfixturevalue("cluster").url()
    running = Server(tmp_path_factory.mktemp("server") / "home", tiny_folder, **environment).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    """A running server with a tiny Phi-3 that speaks TLS: Azure's clients send tokens over nothing else."""
    running = Server(tmp_path_factory.mktemp("tls_server") / "home", tiny_folder, tls=True).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """A PostgreSQL cluster, where Debian's is installed."""
    if reason := postgres.missing():
        pytest.skip(reason)
    running = postgres.Cluster().start()
    yield running
    running.remove()


@pytest.fixture(scope="session")
def s3() -> Iterator[Store]:
    """An S3 service (moto), where it is installed."""
    yield from _store("s3")


@pytest.fixture(scope="session")
def az() -> Iterator[Store]:
    """An Azure Blob service (azurite), where it is installed."""
    yield from _store("az")


def _store(kind: str) -> Iterator[Store]:
    if reason := object_stores.missing(kind):
        pytest.skip(reason)
    running = Store(kind).start()
    yield running
    running.remove()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema; to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "finery.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_database(cluster: postgres.Cluster) -> str:
    """The name of a database on PostgreSQL with the newest schema; to be copied."""
    url = cluster.url()
    _migrate(url)
    return url.partition("@/")[2].partition("?")[0]


@pytest.fixture(scope="session")
def real_vllm() -> None:
    """For tests on real vLLM, which is installed apart and starts slowly."""
    if not os.environ.get("FINERY_VLLM"):
        pytest.skip("vLLM's own part takes minutes and gigabytes: make test-vllm")


def _migrate(url: str) -> None:
    from finery.storage.database import Database

    database = Database(url)
    database.migrate()
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind with the newest schema, without waiting for its migrations."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "finery.db")
        return f"sqlite:///{tmp_path / 'finery.db'}"
    cluster: postgres.Cluster = request.getfixturevalue("cluster")
    return cluster.url(template=request.getfixturevalue("migrated_database"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that Finery runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'finery.db'}"
    cluster: postgres.Cluster = request.getfixturevalue("cluster")
    return cluster.url()
