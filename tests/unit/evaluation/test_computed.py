"""Grades without a model are those of the graders' own functions, and what needs a model is refused by name."""

from typing import Any

import pytest

from finery.core.errors import InvalidRequest
from finery.evaluation import computed, graders

CHECK = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
JUDGE = {"type": "score_model", "name": "judge", "model": "m", "input": [{"role": "user", "content": "?"}]}


def multi(formula: str, **inside: Any) -> dict[str, Any]:
    return {"type": "multi", "name": "all", "graders": inside, "calculate_output": formula}


def graded(grader: dict[str, Any], text: str, **item: Any) -> graders.Grade:
    return computed.grade(grader, item=item, sample=graders.sample_of(text))


def test_one_grader_and_many() -> None:
    assert graded(CHECK, "red", answer="red").score == 1.0
    other = {**CHECK, "operation": "ne"}
    found = graded(multi("2 * a + b", a=CHECK, b=other), "red", answer="blue")
    assert (found.score, dict(found.parts), found.errors) == (1.0, {"a": 0.0, "b": 1.0}, {})
    alone = {"type": "multi", "name": "one", "graders": CHECK, "calculate_output": "same / 4"}
    assert graded(alone, "red", answer="red").score == 0.25


@pytest.mark.parametrize(
    ("grader", "kind"),
    [
        ({**CHECK, "reference": "{{item.nothing}}"}, "invalid_variable_error"),
        ({**CHECK, "input": "{{sample.output_json.x}}"}, "invalid_variable_error"),
        (multi("a / b", a=CHECK, b=CHECK), "formula_parse_error"),
        (multi("a", a={**CHECK, "reference": "{{item.nothing}}"}), "invalid_variable_error"),
    ],
)
def test_what_goes_wrong_is_a_grade_of_nothing(grader: dict[str, Any], kind: str) -> None:
    found = graded(grader, "red", answer="blue")
    assert (found.score, set(found.errors)) == (0.0, {kind})


@pytest.mark.parametrize(
    ("grader", "param"),
    [
        (JUDGE, "g.type"),
        (multi("a", a=JUDGE), "g.graders.a.type"),
        ({**CHECK, "type": "text_similarity", "evaluation_metric": "cosine"}, "g.evaluation_metric"),
    ],
)
def test_graders_that_ask_a_model_are_refused(grader: dict[str, Any], param: str) -> None:
    graders.check(grader, param="g")
    with pytest.raises(InvalidRequest, match="asks a model") as refused:
        computed.check(grader, param="g")
    assert refused.value.param == param


def test_others_are_taken() -> None:
    similar = {**CHECK, "type": "text_similarity", "evaluation_metric": "rouge_l"}
    computed.check(multi("a + b", a=CHECK, b=similar), param="g")
