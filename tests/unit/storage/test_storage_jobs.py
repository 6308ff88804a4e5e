"""Leases, events and checkpoints in a real database."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from finery.core.jobs import Job, JobStatus
from finery.core.models import Checkpoint
from finery.core.quotas import Quota
from finery.storage import jobs, projects, quotas, tenancy
from finery.storage.database import Database
from finery.storage.pages import Cursor


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    database = Database(migrated_url)
    yield database
    database.close()


def _hub(connection: Any) -> str:
    """The hub that the migrations made."""
    return tenancy.list_hubs(connection)[0].id


@pytest.fixture
def project_id(database: Database) -> str:
    with database.write() as connection:
        return projects.insert_project(connection, "default", _hub(connection)).id


def new_job(project_id: str, name: str, **values: Any) -> Job:
    fields = {
        "id": name,
        "project_id": project_id,
        "model": "base",
        "base_model": "base",
        "training_file": "file-1",
        "seed": 1,
        "status": JobStatus.QUEUED,
        "method": "supervised",
        "options": {},
        "created_at": 1,
    }
    return Job(**{**fields, **values})


def add_job(database: Database, project_id: str, name: str, **values: Any) -> Job:
    job = new_job(project_id, name, **values)
    with database.write() as connection:
        jobs.insert_job(connection, job)
    return job


def test_a_job_comes_back_as_it_was_put(database: Database, project_id: str) -> None:
    job = add_job(database, project_id, "a", metadata={"k": "v"}, result_files=("f",), options={"x": [1.5, None]})
    with database.read() as connection:
        assert jobs.get(connection, project_id, "a") == job
        assert jobs.get(connection, "another", "a") is None


def claim_at_once(databases: list[Database], project_id: str, *, jobs_waiting: int, claimers: int) -> None:
    """Claimers in threads, on several doors to one database, end every job they get: each job is got once."""
    with databases[0].write() as connection:
        for number in range(jobs_waiting):
            jobs.insert_job(connection, new_job(project_id, f"job-{number:05}"))
    claimed: list[str] = []

    def claim_all(worker: str, database: Database) -> None:
        while True:
            with database.write() as connection:
                job = jobs.next_claimable(connection, worker, now=100.0)
                if job is None:
                    return
                # Ended at once: the worker's next claim may not take it up again.
                moved = jobs.change(connection, job, JobStatus.SUCCEEDED, lease_epoch=job.lease_epoch + 1)
                assert moved
                claimed.append(job.id)

    threads = [
        threading.Thread(target=claim_all, args=(f"w{i}", databases[i % len(databases)])) for i in range(claimers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [f"job-{number:05}" for number in range(jobs_waiting)]


def doors(database: Database, url: str) -> list[Database]:
    """PostgreSQL is opened by several control planes, SQLite by one."""
    return [database] if database.is_sqlite else [database, Database(url), Database(url)]


def test_many_claimers_get_each_job_once(database: Database, migrated_url: str, project_id: str) -> None:
    claim_at_once(doors(database, migrated_url), project_id, jobs_waiting=96, claimers=16)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixteen_claimers_get_ten_thousand_jobs_once(database: Database, migrated_url: str, project_id: str) -> None:
    claim_at_once(doors(database, migrated_url), project_id, jobs_waiting=10_000, claimers=16)


def test_projects_take_turns_and_a_full_one_waits(database: Database, project_id: str) -> None:
    with database.write() as connection:
        other = projects.insert_project(connection, "other", _hub(connection)).id
        quotas.set_limit(connection, other, Quota.RUNNING_JOBS, 1)
        for name, owner in (("a1", project_id), ("a2", project_id), ("a3", project_id), ("b1", other), ("b2", other)):
            jobs.insert_job(connection, new_job(owner, name))
    got = []
    for turn in range(5):
        with database.write() as connection:
            job = jobs.next_claimable(connection, f"w{turn}", now=1.0)
            if job is not None:
                fields = {"lease_epoch": 1, "lease_until": 99.0, "worker_id": f"w{turn}", "started_at": turn + 1}
                assert jobs.change(connection, job, JobStatus.RUNNING, **fields)
            got.append(job.id if job else None)
    assert got == ["a1", "b1", "a2", "a3", None]


def test_rows_of_a_job_that_is_not_over_are_in_use(database: Database, project_id: str) -> None:
    job = add_job(database, project_id, "a", data={"training": {"sha256": "one"}, "validation": {"sha256": "two"}})
    with database.write() as connection:
        assert [jobs.blob_in_use(connection, name) for name in ("one", "two", "three")] == [True, True, False]
        assert jobs.change(connection, job, JobStatus.CANCELLED)
        assert not jobs.blob_in_use(connection, "one")


def test_jobs_are_listed_by_their_metadata(database: Database, project_id: str) -> None:
    add_job(database, project_id, "none")
    add_job(database, project_id, "some", metadata={"team": "red"})
    with database.read() as connection:
        assert [job.id for job in jobs.list_page(connection, project_id, Cursor(), metadata=None).items] == ["none"]
        for wanted, found in (({"team": "red"}, ["some"]), ({"team": "blue"}, []), ({}, ["some", "none"])):
            page = jobs.list_page(connection, project_id, Cursor(), metadata=wanted)
            assert [job.id for job in page.items] == found


def test_a_silent_workers_job_is_claimed_again_and_the_old_lease_is_void(database: Database, project_id: str) -> None:
    job = add_job(database, project_id, "a")
    with database.write() as connection:
        jobs.change(connection, job, JobStatus.RUNNING, lease_epoch=1, lease_until=50.0, worker_id="first")
        assert jobs.next_claimable(connection, "second", now=49.0) is None
        abandoned = jobs.next_claimable(connection, "second", now=51.0)
        assert abandoned is not None
        jobs.change(connection, abandoned, JobStatus.RUNNING, lease_epoch=2, lease_until=80.0, worker_id="second")
        assert jobs.get_leased(connection, "a", 1) is None
        assert jobs.get_leased(connection, "a", 2) is not None


def test_a_worker_that_comes_back_gets_its_own_job_at_once(database: Database, project_id: str) -> None:
    job = add_job(database, project_id, "a")
    with database.write() as connection:
        jobs.change(connection, job, JobStatus.RUNNING, lease_epoch=1, lease_until=1e12, worker_id="first")
        again = jobs.next_claimable(connection, "first", now=1.0)
    assert again is not None
    assert again.id == "a"


def test_a_change_of_what_was_read_before_another_change_does_nothing(database: Database, project_id: str) -> None:
    job = add_job(database, project_id, "a")
    with database.write() as connection:
        assert jobs.change(connection, job, JobStatus.CANCELLED)
        assert not jobs.change(connection, job, JobStatus.RUNNING)


def test_a_fact_told_twice_is_kept_once(database: Database, project_id: str) -> None:
    add_job(database, project_id, "a")
    first = {"key": "step:1", "type": "metrics", "message": "first", "data": {}, "created_at": 1}
    with database.write() as connection:
        assert jobs.insert_events(connection, "a", [first, {**first, "message": "twin"}]) == 1
        assert jobs.insert_events(connection, "a", [{**first, "message": "again"}, {**first, "key": "step:2"}]) == 1
        page = jobs.list_events(connection, "a", Cursor(order="asc"))
    assert [event["message"] for event in page.items] == ["first", "first"]
    assert [event["key"] for event in page.items] == ["step:1", "step:2"]


def test_pages_join_without_gap_or_twin(database: Database, project_id: str) -> None:
    add_job(database, project_id, "a")
    rows = [{"key": f"k{n}", "type": "message", "message": str(n), "data": {}, "created_at": 1} for n in range(25)]
    seen: list[str] = []
    after = None
    with database.write() as connection:
        jobs.insert_events(connection, "a", rows)
        while True:
            page = jobs.list_events(connection, "a", Cursor(after=after, limit=7))
            seen += [event["message"] for event in page.items]
            if not page.has_more:
                break
            after = page.items[-1]["id"]
    assert seen == [str(n) for n in reversed(range(25))]


def test_only_the_last_checkpoints_are_kept(database: Database, project_id: str) -> None:
    add_job(database, project_id, "a")
    with database.write() as connection:
        for step in range(1, 6):
            checkpoint = Checkpoint(id=f"c{step}", job_id="a", step=step, model_name=f"m{step}", created_at=1)
            assert jobs.insert_checkpoint(connection, checkpoint)
            assert not jobs.insert_checkpoint(connection, checkpoint)
        assert jobs.forget_old_checkpoints(connection, "a", keep=3) == ["m2", "m1"]
        page = jobs.list_checkpoints(connection, "a", Cursor())
    assert [checkpoint.step for checkpoint in page.items] == [5, 4, 3]


def test_an_error_inside_a_transaction_leaves_nothing(database: Database, project_id: str) -> None:
    def break_off() -> None:
        with database.write() as connection:
            projects.insert_project(connection, "half", _hub(connection))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        break_off()
    with database.read() as connection:
        assert projects.find_project(connection, "half") is None


def test_migrating_twice_changes_nothing(database: Database, project_id: str) -> None:
    add_job(database, project_id, "a")
    database.migrate()
    with database.read() as connection:
        assert jobs.get(connection, project_id, "a") is not None
