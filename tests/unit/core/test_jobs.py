"""The table of transitions."""

import itertools

import pytest

from finery.core.errors import Conflict
from finery.core.jobs import TRANSITIONS, JobStatus, require_transition


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(JobStatus)
    reached = {JobStatus.VALIDATING_FILES}.union(*TRANSITIONS.values())
    assert reached == set(JobStatus)


def test_from_every_state_a_terminal_one_can_be_reached() -> None:
    ending = {status for status in JobStatus if status.terminal}
    assert ending == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
    for _ in JobStatus:
        ending |= {status for status in JobStatus if TRANSITIONS[status] & ending}
    assert ending == set(JobStatus)


@pytest.mark.parametrize(("current", "target"), list(itertools.product(JobStatus, JobStatus)))
def test_only_steps_of_the_table_are_allowed(current: JobStatus, target: JobStatus) -> None:
    if target in TRANSITIONS[current]:
        require_transition("ftjob-x", current, target)
        return
    with pytest.raises(Conflict, match=f"ftjob-x is {current}"):
        require_transition("ftjob-x", current, target)
