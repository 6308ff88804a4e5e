"""The median stopping rule on runs whose order is known."""

import pytest

from finery.control.sweeps import loses

GOOD, FAIR = {1: 1.0, 2: 0.5, 3: 0.2}, {1: 1.2, 2: 0.7, 3: 0.4}


@pytest.mark.parametrize(
    ("own", "others", "stopped"),
    [
        ({1: 2.0}, [GOOD, FAIR], True),
        ({1: 1.05}, [GOOD, FAIR], False),
        ({1: 2.0, 2: 0.55}, [GOOD, FAIR], False),
        ({1: 2.0}, [GOOD], False),
        ({1: 1.0, 2: 1.0}, [GOOD, {1: 0.1}], False),
        ({}, [GOOD, FAIR], False),
    ],
    ids=[
        "clearly behind",
        "between the others",
        "it caught up",
        "one other is no median",
        "too few came as far",
        "nothing was measured yet",
    ],
)
def test_a_run_loses_where_it_is_above_the_median(
    own: dict[int, float], others: list[dict[int, float]], stopped: bool
) -> None:
    assert loses(own, others) is stopped
