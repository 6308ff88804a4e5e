"""Graders are checked before they are kept, and grade as OpenAI's documents say."""

from typing import Any

import pytest

from finery.core.errors import InvalidRequest
from finery.evaluation import evaluators, formulas, graders, templates

ITEM = {"label": "blue", "tags": ["a", {"deep": 1}], "with space": "x"}
SAMPLE = graders.sample_of('{"colour": "blue"}', choices=[{"message": {"content": "hi"}}])
NAMES = {"item": ITEM, "sample": SAMPLE}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ item.label }}", "blue"),
        ("{{item.label}} and {{ sample.output_json.colour }}", "blue and blue"),
        ("{{ item.tags[1].deep }}", "1"),
        ("{{ item.tags }}", '["a", {"deep": 1}]'),
        ("{{ item['with space'] }}", "x"),
        ("{{ sample.choices[0].message.content }}", "hi"),
        ("no variable { at } all", "no variable { at } all"),
    ],
)
def test_templates_are_paths_into_item_and_sample(text: str, rendered: str) -> None:
    assert templates.render(text, NAMES) == rendered


@pytest.mark.parametrize(
    "text",
    [
        "{{ item.absent }}",
        "{{ item.tags[7] }}",
        "{{ item.label.x }}",
        "{{ 1 + 1 }}",
        "{{ item.__class__ }}",
        "{{ env.KEY }}",
    ],
)
def test_a_variable_that_leads_nowhere_is_named(text: str) -> None:
    with pytest.raises(templates.UnknownVariable, match=r"is not there|is no variable"):
        templates.render(text, NAMES)


@pytest.mark.parametrize(
    ("operation", "given", "reference", "score"),
    [
        ("eq", "blue", "blue", 1.0),
        ("eq", "Blue", "blue", 0.0),
        ("ne", "red", "blue", 1.0),
        ("like", "a blue car", "blue", 1.0),
        ("like", "a Blue car", "blue", 0.0),
        ("ilike", "a Blue car", "bLUE", 1.0),
    ],
)
def test_string_checks(operation: str, given: str, reference: str, score: float) -> None:
    grader = {"input": given, "reference": reference, "operation": operation}
    assert graders.string_check(grader, NAMES) == score


def test_formulas_are_arithmetic_over_names_and_nothing_else() -> None:
    values = {"a": 0.5, "b": 2.0}
    for formula, value in (
        ("a + b * 2", 4.5),
        ("min(a, b) - max(a, b)", -1.5),
        ("b ^ 3", 8.0),
        ("-(a / b)", -0.25),
        ("sqrt(b * 2) + floor(1.9) + abs(-1)", 4.0),
    ):
        assert formulas.compute(formula, values) == value
    for formula in (
        "c",
        "a.real",
        "__import__('os')",
        "a if b else 0",
        "[a]",
        "1 / 0",
        "'x' * 9",
        "9 ^ 9 ^ 9",
        "(" * 500,
        "a +",
    ):
        with pytest.raises(formulas.FormulaError):
            formulas.compute(formula, values)


CHECK = {"type": "string_check", "name": "same", "input": "{{ item.a }}", "reference": "x", "operation": "eq"}
MODEL = {"type": "score_model", "name": "judge", "model": "m", "input": [{"role": "user", "content": "{{ item.a }}"}]}


@pytest.mark.parametrize(
    ("grader", "said"),
    [
        ({**CHECK, "type": "vibes"}, "grader.type is 'vibes'"),
        ({**CHECK, "name": ""}, "grader.name"),
        ({**CHECK, "operation": "near"}, "eq, ne, like, ilike"),
        ({**CHECK, "input": "{{ secret.key }}"}, "begins with item or sample"),
        ({**CHECK, "reference": 3}, "grader.reference must be a text"),
        (
            {"type": "text_similarity", "name": "n", "input": "a", "reference": "b", "evaluation_metric": "bert"},
            "rouge_l",
        ),
        ({**MODEL, "range": [1, 0]}, "low and high"),
        ({**MODEL, "input": [{"role": "robot", "content": "x"}]}, r"input\[0\]"),
        ({**MODEL, "input": [{"role": "user", "content": {"type": "input_image"}}]}, "send text"),
        ({**MODEL, "type": "label_model", "labels": ["a"], "passing_labels": ["b"]}, "passing_labels"),
        ({"type": "python", "name": "n", "source": "def grade(:"}, "no Python"),
        (
            {"type": "multi", "name": "n", "graders": {"x": CHECK}, "calculate_output": "y"},
            "names y; the graders are: x",
        ),
        ({"type": "multi", "name": "n", "graders": {}, "calculate_output": "1"}, "graders by name"),
        ({"type": "azure_ai_evaluator", "name": "n", "evaluator_name": "builtin.magic"}, "builtin.f1_score"),
        (
            {"type": "azure_ai_evaluator", "name": "n", "evaluator_name": "builtin.f1_score", "data_mapping": {}},
            "needs response, ground_truth",
        ),
        ("nothing", "grader.type"),
    ],
)
def test_a_grader_that_could_never_grade_is_refused_by_its_field(grader: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        graders.check(grader)
    assert refused.value.param


def test_graders_of_the_documents_are_accepted() -> None:
    f1 = {
        "type": "azure_ai_evaluator",
        "name": "f1",
        "evaluator_name": "builtin.f1_score",
        "data_mapping": {"response": "{{sample.output_text}}", "ground_truth": "{{item.a}}"},
        "initialization_parameters": {"threshold": 0.7},
    }
    for grader in (
        CHECK,
        MODEL,
        f1,
        {"type": "text_similarity", "name": "n", "input": "a", "reference": "b", "evaluation_metric": "fuzzy_match"},
        {**MODEL, "type": "label_model", "labels": ["a", "b"], "passing_labels": ["b"]},
        {
            "type": "python",
            "name": "n",
            "source": "def grade(sample, item):\n    return 1.0",
            "image_tag": "2025-05-08",
        },
        {"type": "multi", "name": "n", "graders": {"x": CHECK, "y": MODEL}, "calculate_output": "0.5 * x + min(y, 1)"},
        {"type": "multi", "name": "n", "graders": CHECK, "calculate_output": "same"},
    ):
        graders.check(grader)
    assert evaluators.threshold_of(f1) == 0.7
    assert evaluators.metric_of(f1)("the cat sat", "a cat sat down") == pytest.approx(0.8)  # type: ignore[misc]


def test_a_score_passes_at_its_threshold_or_the_middle_of_its_range() -> None:
    assert graders.passes(MODEL, 0.5)
    assert not graders.passes({**MODEL, "range": [0, 10]}, 4.9)
    assert graders.passes({**MODEL, "range": [0, 10], "pass_threshold": 4}, 4.9)
    judged = {"type": "azure_ai_evaluator", "evaluator_name": "builtin.fluency"}
    assert graders.passes(judged, 3)
    assert not graders.passes(judged, 2)
