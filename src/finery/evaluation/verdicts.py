"""Better, worse, or no clear difference: the verdict on a comparison, and the sentence that says why.

A verdict is only given where the whole interval of the difference lies on one side of zero. Answers decide; where they
leave it open, references that became clearly less likely make the model worse. Knows figures, not answers.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from finery.evaluation.intervals import Interval, McNemar
from finery.evaluation.metrics import Metric


class Verdict(StrEnum):
    """Was it worth it?"""

    BETTER = "better"
    NO_CLEAR_DIFFERENCE = "no_clear_difference"
    WORSE = "worse"

    @staticmethod
    def worst(verdicts: Sequence["Verdict"]) -> "Verdict":
        """The verdict over several comparisons: better only if better than all, worse if worse than any."""
        order = (Verdict.WORSE, Verdict.NO_CLEAR_DIFFERENCE, Verdict.BETTER)
        return next((verdict for verdict in order if verdict in verdicts), Verdict.NO_CLEAR_DIFFERENCE)


def judge(
    *,
    first: str,
    second: str,
    metric: Metric,
    rows: int,
    values: tuple[float, ...],
    difference: Interval | None,
    loss: Interval | None,
    test: McNemar | None,
    forgetting: dict[str, Any] | None,
) -> tuple[Verdict, str]:
    """The verdict on the second model against the first, and why.

    Args:
        values: the metric of the first and of the second.
        difference: second minus first, in the metric.
        loss: the same of the references' mean loss, where it is known.
        test: McNemar's, where answers are right or wrong.
        forgetting: what `comparison` found of general questions.
    """
    direction = 1 if metric.higher_is_better else -1
    sign = direction * difference.sign if difference else 0
    unlikelier = loss is not None and loss.sign > 0
    verdict = {1: Verdict.BETTER, -1: Verdict.WORSE}.get(sign, Verdict.NO_CLEAR_DIFFERENCE)
    if sign == 0 and unlikelier:
        verdict = Verdict.WORSE
    parts = [_figures(first, second, metric, rows, values, difference)]
    if test is not None:
        parts.append(f"McNemar's p {_p(test.p_value)}")
    if sign == 0 and loss is not None and loss.sign:
        parts.append(
            f"the references became {'less' if unlikelier else 'more'} likely ({loss.value:+.2f} nats a token)"
        )
    if forgetting is not None:
        kept = f"{forgetting['still_right']} of {forgetting['first_right']} general questions it knew"
        parts.append(f"it forgot: only {kept} are left" if forgetting["forgot"] else f"it kept {kept}")
    opening = {
        Verdict.BETTER: "Better",
        Verdict.WORSE: "Worse",
        Verdict.NO_CLEAR_DIFFERENCE: "No clear difference",
    }[verdict]
    return verdict, f"{opening}: {'; '.join(parts)}."


def _figures(
    first: str, second: str, metric: Metric, rows: int, values: tuple[float, ...], difference: Interval | None
) -> str:
    share = metric.kind != "likelihood" or metric.name == "token_accuracy"
    before, after = (f"{value:.1%}" if share else f"{value:.3g}" for value in values)
    said = f"{second} has {metric.name} {after} on {rows} rows, {first} {before}"
    if difference is None:
        return said
    factor, unit = (100, " points") if share else (1, "")
    change, low, high = (f"{factor * value:+.3g}" for value in (difference.value, difference.low, difference.high))
    return f"{said}: {change}{unit} ({difference.level:.0%} interval {low} to {high})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
