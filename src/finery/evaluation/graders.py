"""Graders as OpenAI's API has them, and Foundry's evaluators by their `builtin.` names: checked, and computed where no
model is needed. How models are asked is `control.grading`'s business.

A grader is the JSON object of the wire. Templates in it see `item` (a row of data) and `sample` (what a model said).
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finery.core.errors import InvalidRequest
from finery.evaluation import evaluators, formulas, metrics, python_grader, templates

Json = Mapping[str, Any]

TYPES = ("string_check", "text_similarity", "score_model", "label_model", "python", "multi", "azure_ai_evaluator")
OPERATIONS = ("eq", "ne", "like", "ilike")
SIMILARITIES = (
    "cosine",
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    *(f"rouge_{n}" for n in range(1, 6)),
    "rouge_l",
)
ROLES = ("user", "assistant", "system", "developer")

ERRORS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)
"""What can go wrong with a grade, in OpenAI's words."""


class GradeFailed(Exception):
    """No grade came of it; `kind` is one of `ERRORS`."""

    def __init__(self, kind: str, details: str) -> None:
        super().__init__(details)
        self.kind = kind
        self.details = details


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """What a grader says of one sample."""

    name: str
    type: str
    score: float = 0.0
    passed: bool = False
    errors: Mapping[str, str] = field(default_factory=dict)
    """Kind → details; a grade with one has no meaning."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Scores of the graders inside a multi grader."""
    sample: Json | None = None
    """What a grading model was asked and said."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """Tokens by grading model."""

    def failed(self, kind: str, details: str) -> "Grade":
        """The same without a score."""
        return dataclasses.replace(self, score=0.0, passed=False, errors={kind: details})


def check(grader: Any, *, param: str = "grader") -> None:
    """Refuse a grader that could never grade.

    Raises:
        InvalidRequest: naming the field at fault.
    """
    if not isinstance(grader, Mapping) or grader.get("type") not in TYPES:
        kind = grader.get("type") if isinstance(grader, Mapping) else grader
        raise InvalidRequest(f"{param}.type is {kind!r}; it must be one of {', '.join(TYPES)}.", param=f"{param}.type")
    if not isinstance(grader.get("name"), str) or not grader["name"]:
        raise InvalidRequest(f"{param}.name is missing; every grader has a name.", param=f"{param}.name")
    try:
        _CHECKS[grader["type"]](grader, param)
        for text in texts_of(grader):
            templates.check(text)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, code=error.code, param=error.param or param) from None


def inner(grader: Json) -> dict[str, Json]:
    """The graders inside a multi grader by name; OpenAI's SDK sends one, its documents a mapping."""
    graders = grader["graders"]
    return {graders["name"]: graders} if "type" in graders else dict(graders)


def texts_of(grader: Json) -> Iterator[str]:
    """Every template in a grader, but for those of graders inside it."""
    for name in ("input", "reference"):
        if isinstance(grader.get(name), str):
            yield grader[name]
    if not isinstance(grader.get("input"), str):
        for message in grader.get("input") or ():
            yield from content_texts(message["content"])
    for value in (grader.get("data_mapping") or {}).values():
        yield str(value)


def content_texts(content: Any) -> list[str]:
    """The texts of a message's content: a string, a part, or parts.

    Raises:
        InvalidRequest: something that is no text.
    """
    if isinstance(content, str):
        return [content]
    if isinstance(content, Mapping) and content.get("type") in ("input_text", "output_text", "text"):
        return [str(content.get("text", ""))]
    if isinstance(content, Sequence):
        return [text for part in content for text in content_texts(part)]
    kind = content.get("type") if isinstance(content, Mapping) else type(content).__name__
    raise InvalidRequest(f"A content of type {kind!r} can't be read by these models; send text.")


def sample_of(output_text: str, **more: Any) -> dict[str, Any]:
    """The `sample` that templates and python graders see; `output_json` is there where the text is JSON."""
    sample: dict[str, Any] = {"output_text": output_text, **more}
    try:
        sample["output_json"] = json.loads(output_text)
    except (ValueError, RecursionError):
        return sample
    return sample


def string_check(grader: Json, names: Json) -> float:
    """1 where the comparison holds. `like` means that the reference stands in the input, `ilike` whatever its case."""
    given, reference = templates.render(grader["input"], names), templates.render(grader["reference"], names)
    match grader["operation"]:
        case "eq":
            return float(given == reference)
        case "ne":
            return float(given != reference)
        case "like":
            return float(reference in given)
        case _:
            return float(reference.lower() in given.lower())


def text_similarity(grader: Json, names: Json) -> float:
    """The metric of input and reference, but for `cosine`, which needs a model."""
    given, reference = templates.render(grader["input"], names), templates.render(grader["reference"], names)
    return metrics.score(grader["evaluation_metric"], given, reference)


def passes(grader: Json, score: float) -> bool:
    """Whether a score is a pass: at the grader's threshold, or the middle of its range where it has none."""
    if grader["type"] == "azure_ai_evaluator":
        return score >= evaluators.threshold_of(grader)
    low, high = range_of(grader)
    threshold = grader.get("pass_threshold")
    return score >= ((low + high) / 2 if threshold is None else threshold)


def range_of(grader: Json) -> tuple[float, float]:
    """Lowest and highest score; 0 to 1 unless a score model says otherwise."""
    low, high = grader.get("range") or (0.0, 1.0)
    return float(low), float(high)


def _check_string_check(grader: Json, param: str) -> None:
    _need_texts(grader, param, "input", "reference")
    if grader.get("operation") not in OPERATIONS:
        raise InvalidRequest(
            f"{param}.operation is {grader.get('operation')!r}; it must be one of {', '.join(OPERATIONS)}.",
            param=f"{param}.operation",
        )


def _check_text_similarity(grader: Json, param: str) -> None:
    _need_texts(grader, param, "input", "reference")
    if grader.get("evaluation_metric") not in SIMILARITIES:
        raise InvalidRequest(
            f"{param}.evaluation_metric is {grader.get('evaluation_metric')!r}; it must be one of "
            f"{', '.join(SIMILARITIES)}.",
            param=f"{param}.evaluation_metric",
        )
    _check_number(grader, param, "pass_threshold")


def _check_model(grader: Json, param: str) -> None:
    _need_texts(grader, param, "model")
    messages = grader.get("input")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest(f"{param}.input must be a list of messages.", param=f"{param}.input")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES or "content" not in message:
            raise InvalidRequest(
                f"{param}.input[{i}] must have a content and a role of {', '.join(ROLES)}.", param=f"{param}.input[{i}]"
            )


def _check_score_model(grader: Json, param: str) -> None:
    _check_model(grader, param)
    _check_number(grader, param, "pass_threshold")
    given = grader.get("range")
    ok = given is None or (
        isinstance(given, list) and len(given) == 2 and all(map(_is_number, given)) and given[0] < given[1]
    )
    if not ok:
        raise InvalidRequest(
            f"{param}.range is {given!r}; it must be two numbers, low and high.", param=f"{param}.range"
        )


def _check_label_model(grader: Json, param: str) -> None:
    _check_model(grader, param)
    labels, passing = grader.get("labels"), grader.get("passing_labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise InvalidRequest(f"{param}.labels must be a list of texts.", param=f"{param}.labels")
    if not isinstance(passing, list) or not set(passing) <= set(labels):
        raise InvalidRequest(f"{param}.passing_labels must be some of the labels.", param=f"{param}.passing_labels")


def _check_python(grader: Json, param: str) -> None:
    _need_texts(grader, param, "source")
    _check_number(grader, param, "pass_threshold")
    python_grader.check(grader["source"])


def _check_multi(grader: Json, param: str) -> None:
    _need_texts(grader, param, "calculate_output")
    if not isinstance(grader.get("graders"), Mapping) or not grader["graders"]:
        raise InvalidRequest(f"{param}.graders must be a grader, or graders by name.", param=f"{param}.graders")
    graders = inner(grader)
    for name, each in graders.items():
        check(each, param=f"{param}.graders.{name}")
        if each["type"] == "multi":
            raise InvalidRequest("A multi grader can't stand inside another.", param=f"{param}.graders.{name}")
    unknown = formulas.names_in(grader["calculate_output"]) - set(graders)
    if unknown:
        raise formulas.FormulaError(
            f"calculate_output names {', '.join(sorted(unknown))}; the graders are: {', '.join(graders)}.",
            param=f"{param}.calculate_output",
        )


def _check_evaluator(grader: Json, param: str) -> None:
    evaluators.check(grader, param=param)


def _need_texts(grader: Json, param: str, *names: str) -> None:
    for name in names:
        if not isinstance(grader.get(name), str):
            raise InvalidRequest(f"{param}.{name} must be a text.", param=f"{param}.{name}")


def _check_number(grader: Json, param: str, name: str) -> None:
    value = grader.get(name)
    if value is not None and not _is_number(value):
        raise InvalidRequest(f"{param}.{name} is {value!r}; it must be a number.", param=f"{param}.{name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS = {
    "string_check": _check_string_check,
    "text_similarity": _check_text_similarity,
    "score_model": _check_score_model,
    "label_model": _check_label_model,
    "python": _check_python,
    "multi": _check_multi,
    "azure_ai_evaluator": _check_evaluator,
}
