"""The report of a head: calibration of each label, predicted beside actual values, learning curves."""

import random
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from finery.evaluation import calibration, classification, comparison, plots, report, values

CURVES = [
    {"name": "training", "points": [(1, 2.0), (2, 1.0), (3, 0.5)]},
    {"name": "validation", "points": [(3, 0.7)]},
]


def of_head(**found: Any) -> dict[str, Any]:
    unasked = ("errors", "cut_answers", "general_questions_right", "prompt_tokens", "completion_tokens")
    figures = {name: {"value": value, "low": None, "high": None} for name, value in found.pop("figures").items()}
    model = {"model": "head", "figures": figures, "classification": None, **found}
    model |= dict.fromkeys([*unasked, "seconds_median", "seconds_p95"])
    labels = model["classification"]["labels"] if model["classification"] else []
    return {
        "metric": "m", "rows": 60, "labels": labels, "verdict": "", "sentence": "As it is.",
        "models": [model], "comparisons": [], "curves": CURVES,
    }  # fmt: skip


def several_labels() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    chances, labels = draw.random((60, 2)), ["<late>", "broken"]
    true = draw.random((60, 2)) < chances
    counts = classification.count_labels(true, chances > 0.5)
    each = [{"label": label, **calibration.report(*pair)} for label, pair in zip(labels, zip(chances.T.tolist(), true.T.tolist(), strict=True), strict=True)]  # fmt: skip  # noqa: E501
    return of_head(
        figures={"exact_match": 0.5},
        classification=classification.report_of_labels(counts, labels, exact_match=0.5),
        calibration=calibration.report(chances.ravel().tolist(), true.ravel().tolist()),
        label_calibration=each,
    )


def test_each_label_has_its_own_diagram() -> None:
    found = several_labels()
    drawn, page, text = report.pictures(found), report.html(found), report.markdown(found)
    assert sorted(drawn) == [
        "calibration-1-1-_late_.svg",
        "calibration-1-2-broken.svg",
        "calibration-1-head.svg",
        "f1_by_label.svg",
        "learning_curves.svg",
    ]
    for picture in drawn.values():
        assert picture in page
        ET.fromstring(picture)
    assert "&lt;late&gt;" in page
    assert "<late>" not in page + text
    late = found["models"][0]["label_calibration"][0]
    assert drawn["calibration-1-1-_late_.svg"].count("<circle") == len(late["bins"])
    assert "how often it was there" in drawn["calibration-1-2-broken.svg"]
    assert f"| {late['accuracy']:.1%} | {late['expected_calibration_error']:.1%} |" in text


def test_predicted_values_are_shown_beside_actual_ones() -> None:
    draw = random.Random(1)
    actual = [draw.gauss(-40, 9) for _ in range(60)]
    told = values.report([value + draw.gauss(0, 4) for value in actual], actual)
    found = of_head(figures={"mean_absolute_error": told["mean_absolute_error"]}, values=told)
    drawn, page, text = report.pictures(found), report.html(found), report.markdown(found)
    assert sorted(drawn) == ["learning_curves.svg", "values-1-head.svg"]
    picture = drawn["values-1-head.svg"]
    assert picture in page
    dots = [each for each in ET.fromstring(picture) if each.tag.endswith("circle")]
    assert len(dots) == len(told["bins"])
    # However far from 0 and 1 they lie, they lie within the picture.
    assert all(60 <= float(dot.attrib["cx"]) <= 360 and 30 <= float(dot.attrib["cy"]) <= 330 for dot in dots)
    first, last = told["bins"][0], told["bins"][-1]
    assert f"| up to {first['high']:.4g} | {first['predicted']:.4g} | {first['actual']:.4g} |" in text
    assert f"| above {last['low']:.4g} |" in text
    # Not a share: an error of 3 is not 300 %.
    assert f"| mean_absolute_error | {told['mean_absolute_error']:.4g} |" in text


def test_curves_are_lines_and_lone_points_dots() -> None:
    picture = report.pictures(several_labels())["learning_curves.svg"]
    lines = [each for each in ET.fromstring(picture) if each.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [3]
    assert picture.count("<circle") == 1
    assert "validation" in picture


def test_differences_of_shares_are_points_and_names_fit_beside_a_picture() -> None:
    rows = [comparison.Row(question=f"q{i}", reference="yes" if i % 2 else "no") for i in range(20)]
    answers = {
        "before": [comparison.Answer(text="yes")] * 20,
        "after": [comparison.Answer(text=row.reference) for row in rows],
    }
    found = comparison.Comparison(rows, answers).to_json()
    low, high = (100 * found["comparisons"][0]["differences"]["accuracy"][end] for end in ("low", "high"))
    assert f"| accuracy | +50.0 points ({low:+.1f} to {high:+.1f}) |" in report.markdown(found)
    longest = "m" * 30
    picture = ET.fromstring(plots.bars([longest], [("a model", [0.5])]))
    [name] = [each for each in picture if each.text == longest]
    # A letter has 7 pixels on average.
    assert float(name.attrib["x"]) >= 7 * len(longest)
