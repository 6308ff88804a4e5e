"""The one door: what it refuses, what it says when nobody is behind it, and whose turn it is."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import postgres
from finery.core.errors import InvalidRequest, Unavailable
from finery.storage import traffic
from finery.storage.care import Care
from finery.storage.database import Database


@pytest.fixture
def hurt() -> Iterator[postgres.Cluster]:
    """A cluster of one's own: it is about to be killed."""
    if reason := postgres.missing():
        pytest.skip(reason)
    cluster = postgres.Cluster(durable=True).start()
    yield cluster
    cluster.remove()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "FINERY_DATABASE_URL is no URL"),
        ("mysql://somewhere/finery", "begins with mysql; it may be postgresql://"),
        ("postgresql+asyncpg://somewhere/finery", r"begins with postgresql\+asyncpg"),
    ],
)
def test_what_can_not_be_a_database_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Database(url)


def test_a_database_that_is_not_there_is_said_with_its_reason(cluster: postgres.Cluster) -> None:
    for url in ("postgresql://finery@127.0.0.1:1/finery", cluster.url("absent"), "postgresql://finery@no.such.host./x"):
        database = Database(url)
        with pytest.raises(Unavailable, match=r"doesn't answer.*It said: .+") as caught:
            database.migrate()
        assert caught.value.code == "database_unavailable"
        with pytest.raises(Unavailable) as caught, database.read():
            pass
        assert "It said" not in caught.value.message


@pytest.mark.slow
def test_a_killed_database_loses_nothing_that_was_acknowledged(hurt: postgres.Cluster) -> None:
    database = Database(hurt.url())
    database.migrate()
    stop = threading.Event()
    kept: list[int] = []
    unknown: list[int] = []

    def write_on() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                with database.write() as connection:
                    connection.exec_driver_sql(f"INSERT INTO prices VALUES ('m{number}', 1, 1, 1, 1)")
                kept.append(number)
            except Unavailable:
                unknown.append(number)
                stop.wait(0.02)

    writer = threading.Thread(target=write_on)
    writer.start()
    for _ in range(3):
        before = len(kept)
        while len(kept) < before + 20:
            stop.wait(0.01)
        hurt.kill()
        hurt.start()
    stop.set()
    writer.join()
    with database.read() as connection:
        there = {int(row[0][1:]) for row in connection.exec_driver_sql("SELECT model FROM prices")}
    assert set(kept) <= there <= set(kept) | set(unknown)
    assert unknown, "it was never seen to be away"
    database.close()


def test_who_reads_sees_one_moment(migrated_url: str) -> None:
    database = Database(migrated_url)
    count = "SELECT count(*) FROM prices"
    with database.read() as reader:
        if database.is_sqlite:
            reader.exec_driver_sql("BEGIN")
        assert reader.exec_driver_sql(count).scalar() == 0
        with database.write() as writer:
            writer.exec_driver_sql("INSERT INTO prices VALUES ('m', 1, 1, 1, 1)")
        assert reader.exec_driver_sql(count).scalar() == 0
    with database.read() as reader:
        assert reader.exec_driver_sql(count).scalar() == 1
    database.close()


def test_what_was_read_before_a_write_still_holds(migrated_url: str) -> None:
    """Counts added by many at once: adding is a read and a write, so any two at once would lose one."""
    first = Database(migrated_url)
    doors = [first] if first.is_sqlite else [first, Database(migrated_url)]

    def add(database: Database) -> None:
        for _ in range(25):
            with database.write() as connection:
                traffic.add(connection, "p", "m", 0, traffic.Tally(requests=1))

    threads = [threading.Thread(target=add, args=(doors[i % len(doors)],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with first.read() as connection:
        assert [tally.requests for _, tally in traffic.list_tallies(connection, "p", "m", since=0, until=1)] == [100]
    for database in doors:
        database.close()


def test_one_of_several_has_the_care_and_another_when_it_is_gone(cluster: postgres.Cluster) -> None:
    url = cluster.url()
    doors = [Database(url), Database(url)]
    first, second = (Care(database) for database in doors)
    assert first.take()
    assert not second.take()
    assert first.held()
    first.drop()
    assert second.take()
    assert second.held()
    assert not first.held()
    for database in doors:
        database.close()


@pytest.mark.slow
def test_who_lost_its_session_lost_the_care(hurt: postgres.Cluster) -> None:
    database = Database(hurt.url())
    care = Care(database)
    assert care.take()
    hurt.kill()
    assert not care.held()
    assert not care.take()
    hurt.start()
    assert care.take()
    assert care.held()
    database.close()


def test_the_only_control_plane_of_a_file_has_the_care(tmp_path: object) -> None:
    care = Care(Database(f"sqlite:///{tmp_path}/finery.db"))
    assert care.take()
    assert care.held()


def test_changes_are_counted_and_what_changes_nothing_is_none(migrated_file: Path, tmp_path: Path) -> None:
    shutil.copy(migrated_file, tmp_path / "finery.db")
    database = Database(f"sqlite:///{tmp_path / 'finery.db'}")
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('x')")
    assert database.changes == 1
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'y' WHERE version_num = 'nothing'")
    with contextlib.suppress(ZeroDivisionError), database.write() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        _ = 1 / 0
    assert database.changes == 1
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version WHERE version_num = 'x'")
    assert database.changes == 2
    database.close()
