"""Every metric by its name: what it is computed from, and which way is better. The one registry of them.

Metrics of an item take (answer, reference) and give 0 to 1; those of labels come from `classification`, those of
likelihood from `likelihood`. It does not know which metric fits which data: `default` only looks at references.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from finery.core.errors import InvalidRequest
from finery.evaluation import matches, similarity

Kind = Literal["item", "label", "likelihood", "corpus"]

MAX_LABELS = 200
MAX_LABEL_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One way to measure answers."""

    name: str
    kind: Kind
    help: str
    score: Callable[[str, str], float] | None = None
    """(answer, reference) → 0 to 1, where the metric has a value for each item."""
    higher_is_better: bool = True
    package: str = ""
    """What must be installed beyond the server's own needs."""


def _rouge(kind: str) -> Callable[[str, str], float]:
    return functools.partial(similarity.rouge, kind)


_ALL = (
    Metric(name="accuracy", kind="item", score=matches.accuracy, help="Same text once case, punctuation, articles go."),
    Metric(name="exact_match", kind="item", score=matches.exact_match, help="The very same text."),
    Metric(name="contains", kind="item", score=matches.contains, help="The reference stands in the answer."),
    Metric(name="token_f1", kind="item", score=matches.token_f1, help="Words shared with the reference (SQuAD's F1)."),
    Metric(name="json_validity", kind="item", score=matches.json_validity, help="The answer is JSON."),
    Metric(name="json_fields", kind="item", score=matches.json_fields, help="Share of JSON fields that are right."),
    Metric(name="bleu", kind="item", score=similarity.sentence_bleu, package="sacrebleu", help="Sentence BLEU."),
    Metric(name="gleu", kind="item", score=similarity.gleu, package="nltk", help="Google-BLEU."),
    Metric(name="meteor", kind="item", score=similarity.meteor, package="nltk", help="METEOR without synonyms."),
    *(
        Metric(name=f"rouge_{n}", kind="item", score=_rouge(f"rouge{n}"), package="rouge_score", help=f"ROUGE-{n} F1.")
        for n in range(1, 6)
    ),
    Metric(name="rouge_l", kind="item", score=_rouge("rougeL"), package="rouge_score", help="ROUGE-L F1."),
    Metric(
        name="fuzzy_match",
        kind="item",
        score=similarity.fuzzy_match,
        package="rapidfuzz",
        help="rapidfuzz's weighted ratio.",
    ),
    Metric(name="label_accuracy", kind="label", help="The right label is named, perhaps among other words."),
    Metric(name="macro_f1", kind="label", help="Mean F1 of all labels, each alike."),
    Metric(name="micro_f1", kind="label", help="F1 of all answers together."),
    Metric(name="corpus_bleu", kind="corpus", package="sacrebleu", help="sacrebleu's corpus BLEU."),
    Metric(name="perplexity", kind="likelihood", higher_is_better=False, help="exp of the references' mean loss."),
    Metric(name="token_accuracy", kind="likelihood", help="Share of the references' tokens the model would choose."),
)

METRICS = {metric.name: metric for metric in _ALL}


def find(name: str) -> Metric:
    """A metric by its name.

    Raises:
        InvalidRequest: there is none of that name.
    """
    metric = METRICS.get(name)
    if metric is None:
        raise InvalidRequest(f"There is no metric {name!r}; there are: {', '.join(METRICS)}.", param="metric")
    return metric


def score(name: str, answer: str, reference: str) -> float:
    """One item's value of a metric that has one.

    Raises:
        InvalidRequest: no such metric, or one that has no value for a single item.
        NotOffered: its package isn't installed.
    """
    metric = find(name)
    if metric.score is None:
        raise InvalidRequest(f"The metric {name!r} has no value for a single item.", param="metric")
    return metric.score(answer, reference)


def labels_of(references: Sequence[str]) -> list[str]:
    """The labels that references are, sorted; empty where they are texts of their own and not labels."""
    different = sorted({reference.strip() for reference in references})
    short = all(len(label) <= MAX_LABEL_CHARACTERS and "\n" not in label and label for label in different)
    repeated = len(different) * 2 <= len(references) and 2 <= len(different) <= MAX_LABELS
    return different if short and repeated else []


def default(references: Sequence[str]) -> str:
    """The metric that suits references: accuracy for labels, fields for JSON objects, shared words for texts."""
    if labels_of(references):
        return "accuracy"
    if references and all(reference.strip().startswith("{") for reference in references):
        return "json_fields" if all(map(matches.json_validity, references)) else "token_f1"
    return "accuracy" if all(len(matches.normalise(text).split()) <= 3 for text in references) else "token_f1"
