"""Verdicts on models whose truth is known, and reports that hold up to what models may say."""

import dataclasses
import json
import random
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest

from finery.evaluation import probes, report
from finery.evaluation.comparison import Answer, Comparison, Probe, Row
from finery.evaluation.likelihood import Likelihood

LABELS = ["card_lost", "top_up", "refund"]


def rows(count: int = 150) -> list[Row]:
    return [Row(question=f"question {i}", reference=LABELS[i % 3]) for i in range(count)]


def answers(given: Sequence[Row], right: float, *, loss: float = 1.0, seed: int = 0) -> list[Answer]:
    draw = random.Random(seed)
    return [
        Answer(
            text=row.reference if draw.random() < right else draw.choice(["", "I like <script>", "refund or top_up"]),
            prompt_tokens=10,
            completion_tokens=3,
            seconds=draw.random(),
            likelihood=Likelihood(logprob=-3 * loss * draw.uniform(0.9, 1.1), tokens=3, right=1),
        )
        for row in given
    ]


def compare(first: Sequence[Answer], second: Sequence[Answer], **options: object) -> dict[str, object]:
    return Comparison(rows(len(first)), {"base": first, "tuned": second}).to_json(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "losses", "verdict"),
    [
        (0.1, 0.9, (1.0, 0.2), "better"),
        (0.9, 0.1, (0.2, 1.0), "worse"),
        (0.5, 0.5, (1.0, 1.0), "no_clear_difference"),
        (0.0, 0.0, (1.0, 5.0), "worse"),
        (0.0, 0.0, (5.0, 1.0), "no_clear_difference"),
    ],
    ids=["it learned", "it unlearned", "the same", "no right answers and a much larger loss", "a smaller loss alone"],
)
def test_the_verdict_is_the_truth(first: float, second: float, losses: tuple[float, float], verdict: str) -> None:
    given = rows()
    found = compare(
        answers(given, first, loss=losses[0], seed=1),
        answers(given, second, loss=losses[1], seed=1 if first == second else 2),
    )
    assert found["verdict"] == verdict
    assert "150 rows" in str(found["sentence"])
    json.dumps(found, allow_nan=False)


def test_the_verdict_over_several_models_is_the_worst_one() -> None:
    given = rows()
    sides = {"base": answers(given, 0.1), "parent": answers(given, 0.95, seed=3), "tuned": answers(given, 0.6, seed=4)}
    found = Comparison(given, sides).to_json()
    assert [pair["verdict"] for pair in found["comparisons"]] == ["better", "worse"]
    assert found["verdict"] == "worse"
    assert "parent" in found["sentence"]


def test_what_got_worse_is_shown_first_as_what_got_better() -> None:
    given = rows(30)
    first = answers(given, 1.0)
    second = [dataclasses.replace(answer, text="no") if i == 7 else answer for i, answer in enumerate(first)]
    [pair] = Comparison(given, {"base": first, "tuned": second}).to_json()["comparisons"]
    assert (pair["num_better"], pair["num_worse"]) == (0, 1)
    assert (pair["worse"][0]["row"], pair["worse"][0]["second"]) == (8, "no")
    assert pair["mcnemar"] == {"only_first": 1, "only_second": 0, "p_value": 1.0}


def test_forgetting_is_told() -> None:
    given = rows()
    known = [question.text for question in probes.general_questions()]
    probe = Probe(
        questions=known, right={"base": [True] * len(known), "tuned": [False] * 20 + [True] * (len(known) - 20)}
    )
    found = Comparison(given, {"base": answers(given, 0.2), "tuned": answers(given, 0.9, seed=2)}).to_json(probe)
    [pair] = found["comparisons"]
    assert pair["forgetting"]["forgot"]
    assert pair["forgetting"]["still_right"] == len(known) - 20
    assert "it forgot" in found["sentence"]


def test_failed_answers_count_as_wrong_and_unscored_references_leave_no_likelihood() -> None:
    given = rows(30)
    failed = [Answer(error="the prompt is over the context")] * 30
    found = Comparison(given, {"base": answers(given, 1.0), "tuned": failed}).to_json()
    tuned = found["models"][1]
    assert tuned["errors"] == 30
    assert tuned["figures"]["accuracy"]["value"] == 0.0
    assert "perplexity" not in tuned["figures"]
    assert found["verdict"] == "worse"


def test_one_class_only_and_long_texts_are_compared_too() -> None:
    same = [Row(question="q", reference="yes")] * 10
    found = Comparison(same, {"a": [Answer(text="yes")] * 10, "b": [Answer(text="no")] * 10}).to_json()
    assert found["verdict"] == "worse"
    texts = [Row(question="q", reference=f"The parcel number {i} will arrive on Monday morning.") for i in range(12)]
    found = Comparison(
        texts, {"a": [Answer(text="No.")] * 12, "b": [Answer(text=row.reference) for row in texts]}
    ).to_json()
    assert (found["metric"], found["verdict"]) == ("token_f1", "better")
    fields = [Row(question="q", reference=json.dumps({"a": i, "b": "x"})) for i in range(12)]
    found = Comparison(
        fields, {"a": [Answer(text="{}")] * 12, "b": [Answer(text=row.reference) for row in fields]}
    ).to_json()
    assert (found["metric"], found["verdict"]) == ("json_fields", "better")


def test_a_report_holds_what_models_say_without_running_it() -> None:
    given = rows(40)
    found = Comparison(given, {"base": answers(given, 0.3), "tuned": answers(given, 0.9, seed=2)}).to_json()
    page = report.html(found, title="<b>")
    assert "<script" not in page
    assert "I like &lt;script&gt;" in page
    pictures = page.split("<svg")[1:]
    assert len(pictures) == 4
    for picture in pictures:
        ET.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")
    text = report.markdown(found)
    assert found["sentence"] in text
    assert "got worse" in text


def test_a_report_shows_how_sure_labels_were_and_how_often_rightly() -> None:
    given = rows(40)
    base, tuned = answers(given, 0.3), answers(given, 0.9, seed=2)
    surely = [dataclasses.replace(each, confidence=0.95 if i % 4 else 0.35) for i, each in enumerate(tuned)]
    found = Comparison(given, {"a/b": base, "tuned": surely}).to_json()
    before, after = (model["calibration"] for model in found["models"])
    assert before is None
    right = [answer.text == row.reference for answer, row in zip(tuned, given, strict=True)]
    [low, high] = after["bins"]
    assert (low["answers"], low["accuracy"]) == (10, sum(right[::4]) / 10)
    assert (high["answers"], high["confidence"]) == (30, pytest.approx(0.95))
    page, text = report.html(found), report.markdown(found)
    assert "Calibration: tuned" in page
    assert "Calibration: a/b" not in page
    assert f"expected calibration error {after['expected_calibration_error']:.1%}" in text
    assert "| 0.9 to 1.0 | 0.950 |" in text
    drawn = report.pictures(found)
    assert sorted(drawn) == [
        "calibration-2-tuned.svg",
        "confusion-1-a_b.svg",
        "confusion-2-tuned.svg",
        "differences-1-a_b.svg",
        "f1_by_label.svg",
    ]
    for picture in drawn.values():
        assert picture in page
        ET.fromstring(picture)


def test_general_questions_are_answered_by_words_in_the_answer() -> None:
    paris = probes.general_questions()[0]
    assert paris.is_right("The capital of France is Paris.")
    assert not paris.is_right("Parish")
    assert len({question.text for question in probes.general_questions()}) == len(probes.general_questions()) >= 50
