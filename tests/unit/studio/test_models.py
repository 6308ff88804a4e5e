"""A list to choose a model from stays short, and never loses what was chosen."""

import pytest

pytest.importorskip("nicegui", reason="the Studio's extra isn't installed")

from finery.studio.pages.models import OFFERED, offered

BASES = [{"id": "base"}]
TUNED = [{"id": f"ft:{number}", "job_id": "ftjob-1"} for number in range(OFFERED + 50)]


def test_bases_and_the_newest_are_offered() -> None:
    names = [model["id"] for model in offered(BASES + TUNED)]
    assert names == ["base", *(f"ft:{number}" for number in range(OFFERED))]


def test_what_was_chosen_is_offered_however_old() -> None:
    names = [model["id"] for model in offered(BASES + TUNED, f"ft:{OFFERED + 7}", None)]
    assert names[-1] == f"ft:{OFFERED + 7}"
    assert len(names) == len(set(names)) == OFFERED + 2
