"""Models side by side on the same rows: figures with intervals, differences, a verdict in a sentence.

The last model is compared with each before it. All intervals come from the same resamples of rows, so that a difference
is a paired one. Knows answers, not how they were asked for.

Shapes: N rows, B resamples.
"""

import dataclasses
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finery.evaluation import calibration, classification, intervals, matches, metrics, similarity
from finery.evaluation.intervals import Interval
from finery.evaluation.likelihood import Likelihood
from finery.evaluation.metrics import Metric
from finery.evaluation.verdicts import Verdict, judge

SHOWN_EXAMPLES = 20
_MOST_COUNTS = 8_000_000
"""Numbers of a (B, N) matrix of resamples: 64 MB."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What was asked, and what should have come."""

    question: str
    reference: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a model made of a row."""

    text: str = ""
    error: str | None = None
    """Why there is no answer; it counts as a wrong one."""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    likelihood: Likelihood | None = None
    """The reference under the model, where it could be scored."""
    confidence: float | None = None
    """The probability that the model gave to just this answer, where it was asked for."""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Answer":
        """The inverse of `dataclasses.asdict`."""
        found = data.get("likelihood")
        return Answer(**{**data, "likelihood": Likelihood(**found) if found else None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """General questions, and which of them each model got right."""

    questions: Sequence[str]
    right: Mapping[str, Sequence[bool]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measure:
    """A figure, and its value in each resample."""

    value: float
    resampled_B: Floats | None

    def interval(self) -> dict[str, Any]:
        if self.resampled_B is None:
            return {"value": _finite(self.value), "low": None, "high": None}
        return _interval(intervals.around(self.value, self.resampled_B))


class Comparison:
    """Everything there is to say of some models' answers to the same rows."""

    def __init__(
        self, rows: Sequence[Row], answers: Mapping[str, Sequence[Answer]], *, metric: str | None = None, seed: int = 0
    ) -> None:
        """`answers` has each model's, in the order of `rows`; the model in question is the last.

        Raises:
            ValueError: no rows. InvalidRequest: no such metric.
        """
        self.rows = rows
        self.answers = answers
        self.references = [row.reference for row in rows]
        self.labels = metrics.labels_of(self.references)
        self.metric = metrics.find(metric or metrics.default(self.references))
        resamples = max(1000, min(intervals.RESAMPLES, _MOST_COUNTS // max(len(rows), 1)))
        self._counts_BN = intervals.resample_counts(len(rows), resamples=resamples, seed=seed)
        self._measured: dict[tuple[str, str], _Measure | None] = {}

    def to_json(self, probe: Probe | None = None) -> dict[str, Any]:
        """The whole comparison as plain JSON types."""
        *earlier, last = self.answers
        pairs = [self._pair(model, last, probe) for model in earlier]
        overall = Verdict.worst([pair["verdict"] for pair in pairs])
        sentence = next((pair["sentence"] for pair in pairs if pair["verdict"] == overall), self._alone(last))
        return {
            "metric": self.metric.name,
            "rows": len(self.rows),
            "labels": self.labels,
            "verdict": overall,
            "sentence": sentence,
            "models": [self._model(model, probe) for model in self.answers],
            "comparisons": pairs,
        }

    def _model(self, model: str, probe: Probe | None) -> dict[str, Any]:
        answers = self.answers[model]
        seconds = [answer.seconds for answer in answers if answer.error is None]
        predicted = self._predicted(model)
        figures = {name: measure.interval() for name in self._applicable() if (measure := self._measure(name, model))}
        return {
            "model": model,
            "figures": figures,
            "classification": classification.report(self._truth(), predicted, self.labels) if self.labels else None,
            "calibration": self._calibration(model),
            "errors": sum(answer.error is not None for answer in answers),
            "cut_answers": sum(answer.finish_reason == "length" for answer in answers),
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
            "completion_tokens": sum(answer.completion_tokens for answer in answers),
            "seconds_median": float(np.quantile(seconds, 0.5)) if seconds else None,
            "seconds_p95": float(np.quantile(seconds, 0.95)) if seconds else None,
            "general_questions_right": sum(probe.right[model]) if probe else None,
        }

    def _pair(self, first: str, second: str, probe: Probe | None) -> dict[str, Any]:
        differences = {
            name: _interval(found) for name in self._applicable() if (found := self._difference(name, first, second))
        }
        before, after = self._right(first), self._right(second)
        test = intervals.mcnemar(before, after) if before is not None and after is not None else None
        forgetting = _forgetting(first, second, probe)
        verdict, sentence = judge(
            first=first,
            second=second,
            metric=self.metric,
            rows=len(self.rows),
            values=tuple(self._value(self.metric.name, model) for model in (first, second)),
            difference=self._difference(self.metric.name, first, second),
            loss=self._difference("loss", first, second),
            test=test,
            forgetting=forgetting,
        )
        return {
            "first": first,
            "second": second,
            "verdict": verdict,
            "sentence": sentence,
            "differences": differences,
            "mcnemar": dataclasses.asdict(test) if test else None,
            "forgetting": forgetting,
            **self._examples(first, second),
        }

    def _alone(self, model: str) -> str:
        measure = self._measure(self.metric.name, model)
        said = f"{measure.value:.3g}" if measure else "unknown"
        return (
            f"{model} has {self.metric.name} {said} on {len(self.rows)} rows; there is no other model to compare with."
        )

    def _applicable(self) -> list[str]:
        """Metrics that mean something for these references and can be computed here."""
        texts = ["token_f1", "bleu", "rouge_l"]
        fitting = ["accuracy", "exact_match", "contains", "perplexity", "token_accuracy"]
        if self.labels:
            fitting += ["label_accuracy", "macro_f1", "micro_f1"]
        elif all(map(matches.json_validity, self.references)):
            fitting += ["json_validity", "json_fields"]
        else:
            fitting += texts
        wanted = dict.fromkeys([self.metric.name, *fitting])
        return [name for name in wanted if _installed(metrics.METRICS[name])]

    def _value(self, name: str, model: str) -> float:
        measure = self._measure(name, model)
        return measure.value if measure else math.nan

    def _difference(self, name: str, first: str, second: str) -> Interval | None:
        """Second minus first; None where there is nothing to compare."""
        before, after = self._measure(name, first), self._measure(name, second)
        if before is None or after is None or before.resampled_B is None or after.resampled_B is None:
            return None
        return intervals.around(after.value - before.value, after.resampled_B - before.resampled_B)

    def _measure(self, name: str, model: str) -> _Measure | None:
        if (name, model) not in self._measured:
            self._measured[name, model] = self._compute(name, model)
        return self._measured[name, model]

    def _compute(self, name: str, model: str) -> _Measure | None:
        if name in ("loss", "perplexity", "token_accuracy"):
            return self._likelihood(name, model)
        metric = metrics.METRICS[name]
        if metric.kind == "label" and name != "label_accuracy":
            return self._of_labels(name, model)
        if metric.kind == "corpus":
            texts = [answer.text for answer in self.answers[model]]
            return _Measure(value=similarity.corpus_bleu(texts, self.references), resampled_B=None)
        values_N = np.array(self.scores(name, model))
        return _Measure(value=float(values_N.mean()), resampled_B=self._counts_BN @ values_N / len(values_N))

    def scores(self, name: str, model: str) -> list[float]:
        """One value a row; an answer that failed has 0."""
        if name == "label_accuracy":
            return [float(said == true) for said, true in zip(self._predicted(model), self._truth(), strict=True)]
        return [
            0.0 if answer.error else metrics.score(name, answer.text, row.reference)
            for row, answer in zip(self.rows, self.answers[model], strict=True)
        ]

    def _likelihood(self, name: str, model: str) -> _Measure | None:
        found = [answer.likelihood for answer in self.answers[model]]
        scored = [each for each in found if each is not None]
        if len(scored) != len(found) or not sum(each.tokens for each in scored):
            return None
        tokens = np.array([each.tokens for each in scored], dtype=np.float64)
        sums = [each.right if name == "token_accuracy" else -each.logprob for each in scored]
        resampled_B = (self._counts_BN @ np.array(sums, dtype=np.float64)) / (self._counts_BN @ tokens)
        value = sum(sums) / float(tokens.sum())
        if name != "perplexity":
            return _Measure(value=value, resampled_B=resampled_B)
        # Beyond e^700 a float ends.
        return _Measure(value=math.exp(min(value, 700)), resampled_B=np.exp(np.minimum(resampled_B, 700)))

    def _of_labels(self, name: str, model: str) -> _Measure | None:
        if not self.labels:
            return None
        predicted = self._predicted(model)
        once = np.ones((1, len(self.rows)))
        alone, together = (
            classification.scores(classification.tally(counts, self._truth(), predicted, self.labels))
            for counts in (once, self._counts_BN)
        )
        if name == "macro_f1":
            return _Measure(value=float(alone.macro_f1[0]), resampled_B=together.macro_f1)
        return _Measure(value=float(alone.micro_f1[0]), resampled_B=together.micro_f1)

    def _calibration(self, model: str) -> dict[str, Any] | None:
        """Of labels alone: an answer in words of its own may be right and yet one of many."""
        scored = [
            (answer.confidence, right == 1.0)
            for answer, right in zip(self.answers[model], self.scores("label_accuracy", model), strict=True)
            if answer.confidence is not None
        ]
        if not self.labels or not scored:
            return None
        return calibration.report([sure for sure, _ in scored], [right for _, right in scored])

    def _predicted(self, model: str) -> list[str | None]:
        return [matches.label_of(answer.text, self.labels) for answer in self.answers[model]]

    def _truth(self) -> list[str]:
        return [reference.strip() for reference in self.references]

    def _right(self, model: str) -> list[bool] | None:
        """Right or wrong, by the metric where it says just that, else by accuracy for labels."""
        name = self.metric.name
        if name not in ("accuracy", "exact_match", "contains", "label_accuracy"):
            if not self.labels:
                return None
            name = "label_accuracy"
        return [value == 1.0 for value in self.scores(name, model)]

    def _examples(self, first: str, second: str) -> dict[str, Any]:
        """The rows whose answers changed most, each way."""
        name = self.metric.name if self.metric.score else ("label_accuracy" if self.labels else "token_f1")
        before, after = self.scores(name, first), self.scores(name, second)
        order = sorted(range(len(self.rows)), key=lambda i: after[i] - before[i])
        worse = [i for i in order if after[i] < before[i]]
        better = [i for i in reversed(order) if after[i] > before[i]]

        def shown(i: int) -> dict[str, Any]:
            return {
                "row": i + 1,
                "question": self.rows[i].question,
                "reference": self.rows[i].reference,
                "first": self.answers[first][i].text,
                "second": self.answers[second][i].text,
                "first_score": before[i],
                "second_score": after[i],
            }

        return {
            "num_better": len(better),
            "num_worse": len(worse),
            "better": [shown(i) for i in better[:SHOWN_EXAMPLES]],
            "worse": [shown(i) for i in worse[:SHOWN_EXAMPLES]],
        }


def _forgetting(first: str, second: str, probe: Probe | None) -> dict[str, Any] | None:
    """Of the general questions that the first got right, how many the second still does."""
    if probe is None or not probe.questions:
        return None
    before, after = probe.right[first], probe.right[second]
    counts = intervals.resample_counts(len(before))
    change = intervals.of_mean([float(b) - float(a) for a, b in zip(before, after, strict=True)], counts)
    kept = sum(a and b for a, b in zip(before, after, strict=True))
    lost = [q for q, a, b in zip(probe.questions, before, after, strict=True) if a and not b]
    return {
        "questions": len(before),
        "first_right": sum(before),
        "still_right": kept,
        "second_right": sum(after),
        "change": _interval(change),
        "forgot": change.sign < 0,
        "lost": lost[:SHOWN_EXAMPLES],
    }


def _installed(metric: Metric) -> bool:
    return not metric.package or importlib.util.find_spec(metric.package) is not None


def _interval(found: Interval) -> dict[str, Any]:
    return {"value": _finite(found.value), "low": _finite(found.low), "high": _finite(found.high)}


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
