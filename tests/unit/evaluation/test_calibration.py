"""Bins equal scikit-learn's on random cases; who is right as often as sure has no error."""

import random

import pytest

from finery.evaluation import calibration

CASES = 1000


def test_bins_equal_scikit_learns_calibration_curve() -> None:
    sklearn = pytest.importorskip("sklearn.calibration")
    draw = random.Random(2)
    for _ in range(CASES):
        # No confidence lies on an edge: scikit-learn counts such by the interval above, we by the one below.
        sure = [draw.random() for _ in range(draw.randint(1, 60))]
        right = [draw.random() < 0.6 for _ in sure]
        found = calibration.report(sure, right)
        shares, means = sklearn.calibration_curve(right, sure, n_bins=calibration.BINS, pos_label=True)
        assert [each["accuracy"] for each in found["bins"]] == pytest.approx(list(shares))
        assert [each["confidence"] for each in found["bins"]] == pytest.approx(list(means))
        gaps = [each["answers"] * abs(each["accuracy"] - each["confidence"]) for each in found["bins"]]
        assert found["expected_calibration_error"] == pytest.approx(sum(gaps) / len(sure))
        assert sum(each["answers"] for each in found["bins"]) == found["answers"] == len(sure)


def test_who_is_too_sure_has_the_larger_error() -> None:
    draw = random.Random(3)
    sure = [draw.random() for _ in range(20_000)]
    honest = calibration.report(sure, [draw.random() < each for each in sure])
    boastful = calibration.report([each**0.3 for each in sure], [draw.random() < each for each in sure])
    assert honest["expected_calibration_error"] < 0.02
    assert boastful["expected_calibration_error"] > 0.2
    assert boastful["confidence"] > boastful["accuracy"]


def test_the_ends_belong_to_bins_and_nothing_is_no_answer() -> None:
    found = calibration.report([0.0, 1.0], [False, True])
    assert [(each["low"], each["high"]) for each in found["bins"]] == [(0.0, 0.1), (0.9, 1.0)]
    assert found["expected_calibration_error"] == 0.0
    with pytest.raises(ValueError, match="0 confidences"):
        calibration.report([], [])
