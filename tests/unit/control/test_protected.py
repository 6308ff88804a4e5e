"""Protected works and training rows as they are kept: whose, how long, and what of them counts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finery import bootstrap
from finery.control import files, memorised, works
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import FineryError, InvalidRequest, NotFound, TooLarge, Unavailable
from finery.core.jobs import Job, JobStatus
from finery.core.models import TunedModel
from finery.settings import Settings
from finery.storage import jobs, models

TALE = (
    "Every spring the clockmaker opened the shutters of her narrow shop and wound each of the forty clocks by hand, "
    "beginning with the smallest, so that by noon the whole street could hear them argue about the time of day."
)
REPLY = "Thank you for writing to us. We have read your message and a colleague will answer within two working days. "


@pytest.fixture
def plane(tmp_path: Path, migrated_url: str) -> Iterator[ControlPlane]:
    (tmp_path / "home").mkdir()
    made = bootstrap.control_plane(Settings(home=tmp_path / "home", database_url=migrated_url))
    yield made
    made.database.close()


def put(plane: ControlPlane, caller: Caller, name: str, **given: Any) -> None:
    works.put(plane, caller, name, **{"text": None, "file_id": None, "description": "", **given})


def test_a_work_is_looked_for_until_it_is_forgotten_and_no_text_stays(plane: ControlPlane, caller: Caller) -> None:
    assert not works.runs(plane, caller).occur_in(TALE)
    put(plane, caller, "tale", text=TALE)
    put(plane, caller, "other", text=TALE[::-1])
    assert works.runs(plane, caller).occur_in(f"As the book says: {TALE[30:150]}")
    stored = {sha256: b"".join(plane.blobs.stream(sha256)) for sha256 in plane.blobs.list_all()}
    assert len(stored) == 2
    assert not any(b"clockmaker" in content for content in stored.values())
    put(plane, caller, "tale", text=REPLY + REPLY)
    assert not works.runs(plane, caller).occur_in(TALE)
    works.delete(plane, caller, "tale")
    works.delete(plane, caller, "other")
    assert list(plane.blobs.list_all()) == []
    with pytest.raises(NotFound, match="'tale'"):
        works.delete(plane, caller, "tale")


def test_a_work_comes_from_a_file_too(plane: ControlPlane, caller: Caller) -> None:
    def upload(content: bytes) -> str:
        return files.create(plane, caller, filename="tale.txt", purpose="user_data", chunks=[content]).id

    put(plane, caller, "tale", file_id=upload(b"\xef\xbb\xbf" + TALE.encode()))
    assert works.get(plane, caller, "tale").body["runs"] == len(TALE.split()) - works.WORDS + 1
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        put(plane, caller, "tale", file_id=upload(b"\xff\xfe broken"))


@pytest.mark.parametrize(
    ("given", "fault", "said"),
    [
        ({}, InvalidRequest, "one of them"),
        ({"text": TALE, "file_id": "file-1"}, InvalidRequest, "one of them"),
        ({"text": "too short"}, InvalidRequest, "run of 15 words"),
        ({"file_id": "file-none"}, NotFound, "file-none"),
    ],
)
def test_what_cant_be_a_work_is_refused(
    plane: ControlPlane, caller: Caller, given: dict[str, Any], fault: type[FineryError], said: str
) -> None:
    with pytest.raises(fault, match=said):
        put(plane, caller, "tale", **given)


def test_a_projects_works_have_a_limit_together(
    plane: ControlPlane, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(works, "MAX_RUNS", 30)
    put(plane, caller, "tale", text=TALE)
    put(plane, caller, "tale", text=TALE)
    with pytest.raises(TooLarge, match="would have"):
        put(plane, caller, "other", text=TALE[::-1])
    assert len(works.list_all(plane, caller)) == 1


def trained(plane: ControlPlane, caller: Caller, answers: list[str], *, upon: str = "base", name: str = "ft:a") -> str:
    """A model whose job had these rows; the id of the rows' file."""
    rows = [
        {"messages": [{"role": "user", "content": f"Question {i}. {TALE}"}, {"role": "assistant", "content": answer}]}
        for i, answer in enumerate(answers)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = files.create(plane, caller, filename=f"{name}.jsonl", purpose="fine-tune", chunks=[content])
    job = Job(
        id=f"ftjob-{name}",
        project_id=caller.project.id,
        model=upon,
        base_model="base",
        training_file=file.id,
        seed=0,
        status=JobStatus.SUCCEEDED,
        method="supervised",
        options={},
        data={"training": {"sha256": file.sha256, "rows": len(rows)}},
        created_at=now(),
    )
    model = TunedModel(
        name=name,
        project_id=caller.project.id,
        base_model="base",
        job_id=job.id,
        step=None,
        manifest={"files": {}},
        created_at=now(),
    )
    with plane.database.write() as connection:
        jobs.insert_job(connection, job)
        models.insert_model(connection, model)
    return file.id


def tuned(plane: ControlPlane, caller: Caller, name: str = "ft:a") -> TunedModel:
    with plane.database.read() as connection:
        found = models.get(connection, caller.project.id, name)
    assert found is not None
    return found


def test_a_row_known_by_heart_is_found_and_what_all_rows_say_is_not(plane: ControlPlane, caller: Caller) -> None:
    own = "The refund for the blue kettle of Mrs Abernathy was sent to the account ending in 4471 on the ninth of May."
    trained(plane, caller, [*["billing"] * 10, *[REPLY + REPLY] * 5, REPLY + own + " " + own])
    runs = memorised.runs(plane, tuned(plane, caller))
    assert runs.occur_in(own + " " + own)
    assert not runs.occur_in(REPLY + REPLY)
    assert not runs.occur_in("billing " * 40)
    assert not runs.occur_in(own)
    assert not runs.occur_in(TALE + TALE)


def test_the_runs_stay_without_the_file_and_go_with_the_model(plane: ControlPlane, caller: Caller) -> None:
    file_id = trained(plane, caller, [TALE])
    first = tuned(plane, caller)
    assert memorised.runs(plane, first).occur_in(TALE)
    files.delete(plane, caller, file_id)
    assert memorised.runs(plane, first).occur_in(TALE)
    memorised.forget(plane, first)
    assert list(plane.blobs.list_all()) == []
    with pytest.raises(Unavailable, match="rows of the job ftjob-ft:a are gone") as refused:
        memorised.runs(plane, first)
    assert refused.value.code == "content_filter_error"


def test_a_model_tuned_on_from_another_knows_the_others_rows_too(plane: ControlPlane, caller: Caller) -> None:
    trained(plane, caller, [TALE])
    trained(plane, caller, ["billing"], upon="ft:a", name="ft:b")
    assert memorised.runs(plane, tuned(plane, caller, "ft:b")).occur_in(TALE)
