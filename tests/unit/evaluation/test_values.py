"""Errors and the variance explained equal scikit-learn's; bins say where predictions lie beside what came."""

import random

import pytest

from finery.evaluation import values

CASES = 300


def test_errors_equal_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    draw = random.Random(4)
    for _ in range(CASES):
        middle, spread = draw.uniform(-1e6, 1e6), draw.uniform(0.1, 100)
        actual = [draw.gauss(middle, spread) for _ in range(draw.randint(2, 60))]
        predicted = [draw.gauss(value, spread) for value in actual]
        found = values.report(predicted, actual)
        assert found["mean_absolute_error"] == pytest.approx(sklearn.mean_absolute_error(actual, predicted))
        assert found["root_mean_squared_error"] == pytest.approx(sklearn.root_mean_squared_error(actual, predicted))
        assert found["r_squared"] == pytest.approx(sklearn.r2_score(actual, predicted), rel=1e-5, abs=1e-5)
        assert sum(each["answers"] for each in found["bins"]) == found["answers"] == len(actual)
        shown = sum(each["answers"] * each["predicted"] for each in found["bins"]) / len(actual)
        assert shown == pytest.approx(sum(predicted) / len(predicted)) == found["predicted"]


def test_tallies_of_parts_add_up() -> None:
    draw = random.Random(5)
    actual = [draw.expovariate(1.0) for _ in range(500)]
    predicted = [value + draw.gauss(0, 0.3) for value in actual]
    cuts = values.edges(actual)
    parts = values.tally(predicted[:200], actual[:200], cuts) + values.tally(predicted[200:], actual[200:], cuts)
    whole, wanted = values.report_of(parts, cuts), values.report(predicted, actual)
    assert whole["bins"] == [pytest.approx(each) for each in wanted["bins"]]
    assert whole["r_squared"] == pytest.approx(wanted["r_squared"])
    # As many actual values in each bin, however they are spread.
    exact = values.report(actual, actual)
    assert {each["answers"] for each in exact["bins"]} == {50}
    assert exact["calibration_error"] == 0
    assert exact["r_squared"] == 1


def test_who_exaggerates_has_the_larger_calibration_error() -> None:
    draw = random.Random(6)
    honest = [draw.gauss(0, 1) for _ in range(5000)]
    actual = [value + draw.gauss(0, 1) for value in honest]
    assert values.report(honest, actual)["calibration_error"] < 0.1
    found = values.report([3 * value for value in honest], actual)
    assert found["calibration_error"] > 1
    assert found["bins"][-1]["predicted"] > found["bins"][-1]["actual"] + 1


def test_values_that_are_all_the_same_have_one_edge_and_nothing_to_explain() -> None:
    found = values.report([3.0, 2.0, 4.0], [3.0, 3.0, 3.0])
    assert found["r_squared"] is None
    assert found["mean_absolute_error"] == pytest.approx(2 / 3)
    assert [(each["low"], each["high"], each["answers"]) for each in found["bins"]] == [(None, 3.0, 2), (3.0, None, 1)]
    with pytest.raises(ValueError, match="0 predicted"):
        values.report([], [])
