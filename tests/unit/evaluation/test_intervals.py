"""Intervals cover the truth as often as they say, and the tests are those of scipy."""

import numpy as np
import pytest

from finery.evaluation import classification, intervals

SIMULATIONS = 3000
ITEMS = 300


def test_a_paired_interval_of_95_percent_covers_the_true_difference_95_percent_of_the_time() -> None:
    generator = np.random.default_rng(0)
    counts = intervals.resample_counts(ITEMS, resamples=500)
    hard = generator.uniform(size=(SIMULATIONS, ITEMS))
    first = generator.uniform(size=hard.shape) < 0.3 + 0.4 * hard
    second = generator.uniform(size=hard.shape) < 0.45 + 0.4 * hard
    covered = 0
    for before, after in zip(first, second, strict=True):
        found = intervals.of_mean(after.astype(float) - before, counts)
        covered += found.low <= 0.15 <= found.high
    assert covered / SIMULATIONS == pytest.approx(0.95, abs=0.015)


def test_an_interval_of_a_ratio_covers_the_true_loss_of_a_token() -> None:
    generator = np.random.default_rng(1)
    counts = intervals.resample_counts(ITEMS, resamples=500)
    covered = 0
    for _ in range(SIMULATIONS):
        tokens = generator.integers(2, 20, size=ITEMS)
        found = intervals.of_ratio(generator.gamma(tokens * 2.0, 0.5), tokens, counts)
        covered += found.low <= 1.0 <= found.high
    assert covered / SIMULATIONS == pytest.approx(0.95, abs=0.015)


def test_resampling_by_counts_is_resampling_by_places() -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(size=50)
    by_places = [values[generator.integers(0, 50, size=50)].mean() for _ in range(20_000)]
    found = intervals.of_mean(values, intervals.resample_counts(50, resamples=20_000))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_places, [0.025, 0.975])), abs=0.02)


def test_the_interval_says_on_which_side_of_zero_it_lies() -> None:
    counts = intervals.resample_counts(100, resamples=500)
    assert intervals.of_mean([1.0] * 100, counts).sign == 1
    assert intervals.of_mean([-1.0] * 100, counts).sign == -1
    assert intervals.of_mean([1.0, -1.0] * 50, counts).sign == 0
    with pytest.raises(ValueError, match="no items"):
        intervals.resample_counts(0)


def test_one_class_and_one_item_are_no_trouble() -> None:
    counts = intervals.resample_counts(1, resamples=10)
    resampled = classification.tally(counts, ["a"], [None], ["a"])
    assert classification.scores(resampled).macro_f1.tolist() == [0.0] * 10


def test_mcnemar_is_scipys_exact_binomial_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(3)
    for _ in range(1000):
        first, second = generator.uniform(size=(2, generator.integers(1, 200))) < generator.uniform(size=(2, 1))
        found = intervals.mcnemar(first.tolist(), second.tolist())
        trials = found.only_first + found.only_second
        expected = stats.binomtest(found.only_first, trials).pvalue if trials else 1.0
        assert found.p_value == pytest.approx(expected)
    assert intervals.mcnemar([True] * 3000 + [False] * 3100, [False] * 3000 + [True] * 3100).p_value < 1
