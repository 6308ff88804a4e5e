"""Every metric against the library or the definition that others trust, on 1,000 random cases."""

import collections
import json
import math
import random
import re
import string

import numpy as np
import pytest

from finery.core.errors import InvalidRequest
from finery.evaluation import classification, likelihood, matches, metrics, similarity
from finery.evaluation.likelihood import Likelihood

CASES = 1000
LABELS = ["card lost", "card", "top up", "refund", "exchange rate"]
WORDS = [
    "the",
    "a",
    "cat",
    "Cat,",
    "sat",
    "on",
    "mat.",
    "mats",
    "sitting",
    "quickly",
    "ran",
    "RUN",
    "running",
    "dog's",
    "dogs",
    "42",
    "é",
]


def sentence(draw: random.Random, most: int = 14) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(0, most)))


def pairs(seed: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    return [(sentence(draw), sentence(draw)) for _ in range(CASES)]


def labelled(draw: random.Random) -> tuple[list[str], list[str | None], list[str]]:
    count = draw.randint(1, 40)
    labels = draw.sample(LABELS, draw.randint(1, len(LABELS)))
    return (
        [draw.choice(labels) for _ in range(count)],
        [draw.choice([*labels, None]) for _ in range(count)],
        sorted(labels),
    )


def test_several_labels_an_item_equal_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(7)
    for _ in range(CASES // 5):
        true, said = draw.random((2, draw.integers(1, 30), 4)) < draw.random()
        present = np.flatnonzero((true | said).any(axis=0))
        found = classification.report_of_labels(classification.count_labels(true, said), list("abcd"), exact_match=0.0)
        shown = [[row["precision"], row["recall"], row["f1"], row["support"]] for row in found["per_label"]]
        by_label = sklearn.precision_recall_fscore_support(true, said, zero_division=0)
        np.testing.assert_allclose(np.array(shown).T, np.array(by_label))
        for mean in ("macro", "micro"):
            # Labels that are nowhere don't count in ours.
            parts = (
                sklearn.precision_recall_fscore_support(true, said, labels=present, average=mean, zero_division=0)[:3]
                if len(present)
                else (0, 0, 0)
            )
            assert [found[mean][name] for name in ("precision", "recall", "f1")] == pytest.approx(list(parts))


def test_precision_recall_f1_and_confusion_equal_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    draw = random.Random(1)
    pytest.importorskip("sklearn").set_config(skip_parameter_validation=True)
    for _ in range(CASES):
        truth, predicted, labels = labelled(draw)
        said = [matches.NO_LABEL if label is None else label for label in predicted]
        found = classification.report(truth, predicted, labels)
        precision, recall, f1, support = sklearn.precision_recall_fscore_support(
            truth, said, labels=labels, zero_division=0
        )
        for i, row in enumerate(found["per_label"]):
            expected = (precision[i], recall[i], f1[i], support[i])
            assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(expected)
        there = sorted(set(truth) | {label for label in predicted if label is not None})
        for average in ("macro", "micro"):
            p, r, f, _ = sklearn.precision_recall_fscore_support(
                truth, said, labels=there, average=average, zero_division=0
            )
            got = found[average]
            assert (got["precision"], got["recall"], got["f1"]) == pytest.approx((p, r, f))
        assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, said))
        whole = sklearn.confusion_matrix(truth, said, labels=[*labels, matches.NO_LABEL])
        assert found["confusion"] == whole[:-1].tolist()


def test_a_resamples_figures_are_those_of_its_repeated_rows() -> None:
    draw = random.Random(2)
    generator = np.random.default_rng(2)
    for _ in range(50):
        truth, predicted, labels = labelled(draw)
        counts = generator.multinomial(len(truth), [1 / len(truth)] * len(truth), size=20)
        together = classification.scores(classification.tally(counts, truth, predicted, labels))
        for i, row in enumerate(counts):
            places = np.repeat(np.arange(len(truth)), row)
            alone = classification.report([truth[n] for n in places], [predicted[n] for n in places], labels)
            assert together.macro_f1[i] == pytest.approx(alone["macro"]["f1"])
            assert together.micro_f1[i] == pytest.approx(alone["micro"]["f1"])
            assert together.accuracy[i] == pytest.approx(alone["accuracy"])
            assert together.recall[i] == pytest.approx([each["recall"] for each in alone["per_label"]])


def squad_f1(prediction: str, truth: str) -> float:
    """The SQuAD evaluation's own steps, one by one."""

    def tokens(text: str) -> list[str]:
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    said, wanted = tokens(prediction), tokens(truth)
    if not said or not wanted:
        return float(said == wanted)
    same = sum((collections.Counter(said) & collections.Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(said), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def test_token_f1_is_squads() -> None:
    for answer, reference in pairs():
        assert matches.token_f1(answer, reference) == pytest.approx(squad_f1(answer, reference))


def test_bleu_equals_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    cases = pairs(3)
    for answer, reference in cases:
        expected = sacrebleu.sentence_bleu(answer, [reference]).score / 100
        assert similarity.sentence_bleu(answer, reference) == pytest.approx(expected)
    answers, references = map(list, zip(*cases, strict=True))
    expected = sacrebleu.corpus_bleu(answers, [references]).score / 100
    assert similarity.corpus_bleu(answers, references) == pytest.approx(expected)


def lcs(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for word in one:
        before = row[:]
        for j, theirs in enumerate(other, 1):
            row[j] = before[j - 1] + 1 if word == theirs else max(before[j], row[j - 1])
    return row[-1]


def test_rouge_is_the_f1_of_shared_ngrams_and_of_the_longest_subsequence() -> None:
    pytest.importorskip("rouge_score")
    from nltk.stem import porter

    stemmer = porter.PorterStemmer()

    def tokens(text: str) -> list[str]:
        words = re.findall(r"[a-z0-9]+", text.lower())
        return [stemmer.stem(word) if len(word) > 3 else word for word in words]

    def f1(shared: int, one: int, other: int) -> float:
        return 2 * shared / (one + other) if shared else 0.0

    for answer, reference in pairs(4):
        said, wanted = tokens(answer), tokens(reference)
        for n in (1, 2, 3):
            a, b = (collections.Counter(tuple(t[i : i + n]) for i in range(len(t) - n + 1)) for t in (said, wanted))
            expected = f1(sum((a & b).values()), sum(a.values()), sum(b.values()))
            assert metrics.score(f"rouge_{n}", answer, reference) == pytest.approx(expected)
        expected = f1(lcs(said, wanted), len(said), len(wanted))
        assert metrics.score("rouge_l", answer, reference) == pytest.approx(expected)


def test_gleu_is_the_smaller_of_precision_and_recall_of_ngrams() -> None:
    pytest.importorskip("nltk")

    def ngrams(text: str) -> collections.Counter[tuple[str, ...]]:
        words = text.split()
        return collections.Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))

    for answer, reference in pairs(5):
        a, b = ngrams(answer), ngrams(reference)
        longer = max(sum(a.values()), sum(b.values()))
        expected = sum((a & b).values()) / longer if a and b else float(a == b)
        assert similarity.gleu(answer, reference) == pytest.approx(expected)


def test_meteor_and_fuzzy_match_rank_as_they_should() -> None:
    pytest.importorskip("nltk")
    pytest.importorskip("rapidfuzz")
    wanted = "the parcel arrives on monday"
    for name in ("meteor", "fuzzy_match"):
        same, close, far = (
            metrics.score(name, text, wanted) for text in (wanted, "the parcels arrive on monday", "no idea")
        )
        assert 1.0 >= same >= close > far >= 0.0
        assert same > metrics.score(name, "the parcel came on monday", wanted)


def test_perplexity_and_token_accuracy_are_those_of_cross_entropy() -> None:
    generator = np.random.default_rng(6)
    for _ in range(CASES):
        logits = generator.normal(size=(generator.integers(1, 30), 11)) * 3
        target = generator.integers(0, 11, size=len(logits))
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        chosen = logprobs[np.arange(len(target)), target]
        cut = generator.integers(0, len(logits) + 1)
        right = logits.argmax(axis=1) == target
        found = [
            Likelihood(logprob=float(chosen[part].sum()), tokens=len(chosen[part]), right=int(right[part].sum()))
            for part in (slice(None, cut), slice(cut, None))
        ]
        assert likelihood.perplexity(found) == pytest.approx(math.exp(-chosen.mean()))
        assert likelihood.token_accuracy(found) == pytest.approx(right.mean())
    assert likelihood.perplexity([]) == math.inf
    assert likelihood.perplexity([Likelihood(logprob=-1e6, tokens=1, right=0)]) == math.inf


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("card_lost", "card_lost"),
        ("The intent is: Card_Lost.", "card_lost"),
        ("card_lost or top_up", None),
        ("card_lostness", None),
        ("", None),
    ],
)
def test_a_label_is_found_where_an_answer_names_one(answer: str, label: str | None) -> None:
    assert matches.label_of(answer, ["card_lost", "top_up"]) == label


def test_json_fields_are_counted_leaf_by_leaf() -> None:
    wanted = json.dumps({"name": "Ann", "tags": ["a", "b"], "age": 3, "ok": True})
    assert matches.json_fields(wanted, wanted) == 1.0
    said = json.dumps({"name": "ann", "tags": ["a", "x"], "age": 3.0, "ok": 1, "more": None})
    assert matches.json_fields(f"```json\n{said}\n```", wanted) == pytest.approx(3 / 6)
    assert matches.json_fields("no json", wanted) == 0.0
    assert matches.json_validity("[" * 100_000) == 0.0


def test_the_default_metric_follows_the_references() -> None:
    assert metrics.default(["a", "b"] * 20) == "accuracy"
    assert metrics.default(['{"a": 1}', '{"a": 2}']) == "json_fields"
    assert metrics.default(["A long answer with many words of its own.", "Another one, as long as that."]) == "token_f1"
    assert metrics.labels_of(["a", "b", "c"]) == []


def test_an_unknown_metric_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"no metric 'bertscore'.*token_f1"):
        metrics.find("bertscore")
    with pytest.raises(InvalidRequest, match="single item"):
        metrics.score("macro_f1", "a", "b")


def test_the_control_plane_loads_no_metric_library_at_its_start() -> None:
    import subprocess
    import sys

    program = (
        "import sys; import finery.api.app, finery.evaluation.metrics, finery.cli.app; "
        "print([m for m in ('sacrebleu', 'nltk', 'rouge_score', 'rapidfuzz', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
