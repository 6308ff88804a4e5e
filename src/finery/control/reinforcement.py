"""What a job of reinforcement must be to be taken in: its grader one that a trainer can run, its rows readable by it.

Knows no trainer; how graders grade is `evaluation`'s business.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from finery.control.plane import ControlPlane
from finery.core.errors import InvalidRequest
from finery.core.hyperparameters import AUTO
from finery.data.rows import iterate
from finery.evaluation import computed, graders, templates

Json = Mapping[str, Any]

GRADER = "method.reinforcement.grader"
LEAST_COMPLETION_TOKENS = 8
"""Room that an answer must have behind the longest prompt."""
_GROUP_SIZE = 8
"""Answers to a prompt; `compute_multiplier` multiplies it."""


def check(method: str, options: Json, grader: Any, response_format: Any) -> dict[str, Any]:
    """The options that a job remembers besides its knobs; none for jobs of other methods.

    Raises:
        InvalidRequest: a grader that can't grade while training, or a knob that has no meaning there.
    """
    if method != "reinforcement":
        if options["loss"] == "grpo":
            raise InvalidRequest("The loss 'grpo' belongs to the method reinforcement.", param="loss")
        return {}
    if grader is None:
        raise InvalidRequest("The method reinforcement needs a grader, which says how good an answer is.", param=GRADER)
    graders.check(grader, param=GRADER)
    computed.check(grader, param=GRADER)
    _check_response_format(response_format)
    _check_options(options)
    return {"grader": grader, "response_format": response_format}


def group_size(compute_multiplier: float) -> int:
    """Answers to each prompt of a step: two at least, since one alone is no better than its group."""
    return max(2, round(_GROUP_SIZE * compute_multiplier))


def longest_prompt(options: Json, longest_allowed: int) -> int:
    """How long a prompt may be, so that there is room for its answers.

    Raises:
        InvalidRequest: there is room for no prompt at all.
    """
    asked = options["max_completion_tokens"]
    left = longest_allowed - (LEAST_COMPLETION_TOKENS if asked == AUTO else int(asked))
    if left < 1:
        raise InvalidRequest(
            f"max_completion_tokens is {asked}, but prompt and answer together have {longest_allowed}; lower it.",
            param="max_completion_tokens",
        )
    return left


def check_rows(plane: ControlPlane, data: Json, grader: Json) -> None:
    """Every row must have what the grader names of it.

    Raises:
        InvalidRequest: naming the line and what isn't there.
    """
    named = sorted({path for text in _texts(grader) for path in templates.variables(text) if path.startswith("item")})
    for part in ("training", "validation"):
        if part not in data:
            continue
        with plane.blobs.as_path(data[part]["sha256"]) as path:
            for line, row in iterate(path):
                _check_row(row, named, line, part)


def _check_row(row: Json, named: list[str], line: int, part: str) -> None:
    for variable in named:
        try:
            templates.resolve(variable, {"item": row})
        except InvalidRequest as error:
            raise InvalidRequest(
                f"The grader can't read line {line} of the {part} rows: {error.message}",
                code=f"invalid_{part}_file",
                param=f"{part}_file",
            ) from None


def _texts(grader: Json) -> Iterator[str]:
    for each in graders.inner(grader).values() if grader["type"] == "multi" else (grader,):
        yield from graders.texts_of(each)


def _check_response_format(given: Any) -> None:
    if given is not None and (not isinstance(given, Mapping) or given.get("type") != "text"):
        raise InvalidRequest(
            f"response_format is {given!r:.200}; answers are drawn freely while training. Leave it out, and let the "
            "grader judge the form: a template that reads sample.output_json gives 0 to what is no JSON.",
            code="unsupported_response_format",
            param="method.reinforcement.response_format",
        )


def _check_options(options: Json) -> None:
    if options["loss"] not in (AUTO, "grpo"):
        raise InvalidRequest(
            f"loss is {options['loss']!r}; reinforcement minimises 'grpo' alone. Leave it out.", param="loss"
        )
    if options["task"] not in (AUTO, "chat"):
        raise InvalidRequest(f"task is {options['task']!r}; reinforcement is for chat.", param="task")
    if options["lora_dropout"]:
        raise InvalidRequest(
            f"lora_dropout is {options['lora_dropout']}; reinforcement learns from what the very weights say that it "
            "trains, so nothing can be dropped. Leave it out.",
            param="lora_dropout",
        )
    if options["training_method"] == "full" and options["kl_weight"] not in (AUTO, 0):
        raise InvalidRequest(
            f"kl_weight is {options['kl_weight']}, but with training_method 'full' no base model is kept to stay near "
            "to. Set it to 0, or train adapters.",
            param="kl_weight",
        )
