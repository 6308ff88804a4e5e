"""Grades that need no model: string_check, text_similarity, python, and multi graders of these.

What needs a model is `control.grading`'s business; a trainer, which speaks to nobody, has only these.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from finery.core.errors import FineryError, InvalidRequest
from finery.evaluation import formulas, graders, python_grader, templates
from finery.evaluation.graders import Grade, GradeFailed
from finery.evaluation.python_grader import PythonGraderFailed

Json = Mapping[str, Any]


def _python(grader: Json, names: Json) -> float:
    return python_grader.run(grader["source"], names["sample"], names["item"])


COMPUTED: dict[str, Callable[[Json, Json], float]] = {
    "string_check": graders.string_check,
    "text_similarity": graders.text_similarity,
    "python": _python,
}
"""Graders that need no model, by type."""


def check(grader: Json, *, param: str) -> None:
    """Refuse a grader, checked by `graders.check`, that needs a model or a package that isn't installed.

    Raises:
        InvalidRequest: naming the grader and those that can be.
        NotOffered: its metric's package isn't installed.
    """
    parts = graders.inner(grader) if grader["type"] == "multi" else {}
    for name, part in parts.items():
        check(part, param=f"{param}.graders.{name}")
    if parts:
        return
    wants_vectors = grader["type"] == "text_similarity" and grader["evaluation_metric"] == "cosine"
    if grader["type"] not in COMPUTED or wants_vectors:
        kind = "cosine" if wants_vectors else grader["type"]
        raise InvalidRequest(
            f"The grader {grader['name']!r} ({kind}) asks a model, which a trainer can't: it speaks to nobody. "
            f"Graders that can be: {', '.join(COMPUTED)} (no cosine), and multi graders of these.",
            code="unsupported_grader",
            param=f"{param}.evaluation_metric" if wants_vectors else f"{param}.type",
        )
    if grader["type"] == "text_similarity":
        COMPUTED["text_similarity"]({**grader, "input": "a", "reference": "a"}, {})


def grade(grader: Json, *, item: Any, sample: Json) -> Grade:
    """The grade of one sample; never raises for what a grader does."""
    blank = Grade(name=grader["name"], type=grader["type"])
    try:
        if grader["type"] == "multi":
            inside = graders.inner(grader)
            return combined(grader, {name: grade(each, item=item, sample=sample) for name, each in inside.items()})
        return dataclasses.replace(blank, score=COMPUTED[grader["type"]](grader, {"item": item, "sample": sample}))
    except (FineryError, PythonGraderFailed, GradeFailed) as error:
        return blank.failed(*fault(error))


def combined(grader: Json, found: Mapping[str, Grade]) -> Grade:
    """The grade of a multi grader, from those of the graders inside it.

    Raises:
        FormulaError: its formula gives no number.
    """
    parts = {name: each.score for name, each in found.items()}
    tokens: dict[str, int] = {}
    errors: dict[str, str] = {}
    for each in found.values():
        errors |= each.errors
        for model, count in each.tokens.items():
            tokens[model] = tokens.get(model, 0) + count
    whole = Grade(name=grader["name"], type=grader["type"], parts=parts, tokens=tokens, errors=errors)
    if errors:
        return whole
    return dataclasses.replace(whole, score=formulas.compute(grader["calculate_output"], parts))


def fault(error: Exception) -> tuple[str, str]:
    """What went wrong, in OpenAI's words, and the details."""
    match error:
        case GradeFailed():
            return error.kind, error.details
        case PythonGraderFailed():
            return f"python_grader_{error.kind}_error", error.details
        case templates.UnknownVariable():
            return "invalid_variable_error", error.message
        case formulas.FormulaError():
            return "formula_parse_error", error.message
    return "other_error", str(error)
