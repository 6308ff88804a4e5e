"""Foundry's evaluators by their `builtin.` names: which metric each is, or what a judging model is asked.

Those of text compare `response` with `ground_truth`, from 0 to 1; those of quality have a model give 1 to 5. The
questions put to the judge are our own. It asks nobody.
"""

from collections.abc import Callable, Mapping
from typing import Any

from finery.core.errors import InvalidRequest
from finery.evaluation import metrics

PREFIX = "builtin."

_SCALE = "Answer with a whole number from 1 (not at all) to 5 (entirely)."

_TEXTS: dict[str, str] = {
    "f1_score": "token_f1",
    "bleu_score": "bleu",
    "gleu_score": "gleu",
    "meteor_score": "meteor",
    "rouge_score": "rouge_l",
}
_JUDGED: dict[str, tuple[tuple[str, ...], str]] = {
    "similarity": (("query", "response", "ground_truth"), "Does the response say the same as the ground truth?"),
    "relevance": (("query", "response"), "Does the response address what the query asks?"),
    "fluency": (("response",), "Is the response well written: grammar, words, flow?"),
    "coherence": (("query", "response"), "Is the response logical, and do its parts belong together?"),
    "groundedness": (("context", "response"), "Is everything in the response supported by the context?"),
    "response_completeness": (("response", "ground_truth"), "Has the response everything that the ground truth has?"),
}
_OPTIONAL = frozenset({"query"})


def check(grader: Mapping[str, Any], *, param: str) -> None:
    """Refuse an evaluator there is none of, or one without what it compares.

    Raises:
        InvalidRequest: naming what is missing.
    """
    name = _name(grader)
    if name not in _TEXTS and name not in _JUDGED:
        there = ", ".join(PREFIX + known for known in (*_TEXTS, *_JUDGED))
        raise InvalidRequest(
            f"{param}.evaluator_name is {grader.get('evaluator_name')!r}; there are: {there}.",
            param=f"{param}.evaluator_name",
        )
    mapping = grader.get("data_mapping")
    missing = [field for field in fields(grader) if not isinstance(mapping, Mapping) or field not in mapping]
    if missing:
        raise InvalidRequest(
            f"{param}.data_mapping needs {', '.join(missing)} for {PREFIX}{name}.", param=f"{param}.data_mapping"
        )
    if name in _JUDGED and not judge_model(grader):
        raise InvalidRequest(
            f"{PREFIX}{name} asks a model: name it in initialization_parameters.deployment_name.",
            param=f"{param}.initialization_parameters",
        )


def fields(grader: Mapping[str, Any]) -> list[str]:
    """What the evaluator must be given of each item."""
    name = _name(grader)
    wanted = ("response", "ground_truth") if name in _TEXTS else _JUDGED[name][0]
    return [field for field in wanted if field not in _OPTIONAL]


def metric_of(grader: Mapping[str, Any]) -> Callable[[str, str], float] | None:
    """(response, ground truth) → 0 to 1, or None where a model judges."""
    name = _name(grader)
    if name not in _TEXTS:
        return None
    metric = _TEXTS[name]
    kind = str(_parameters(grader).get("rouge_type", "")).lower().replace("rouge", "rouge_").replace("__", "_")
    if name == "rouge_score" and kind in metrics.METRICS:
        metric = kind
    return metrics.METRICS[metric].score


def judge_model(grader: Mapping[str, Any]) -> str | None:
    """The model or deployment that judges."""
    given = _parameters(grader)
    found = given.get("deployment_name") or given.get("model")
    return str(found) if found else None


def question(grader: Mapping[str, Any], values: Mapping[str, str]) -> list[dict[str, str]]:
    """The messages that a judge is asked; its answer is `{"score": 1 to 5}`."""
    wanted, asked = _JUDGED[_name(grader)]
    parts = [f"{name.replace('_', ' ').capitalize()}: {values[name]}" for name in wanted if name in values]
    return [
        {"role": "system", "content": f"You judge the answers of an assistant. {asked} {_SCALE}"},
        {"role": "user", "content": "\n\n".join(parts)},
    ]


def threshold_of(grader: Mapping[str, Any]) -> float:
    """The score from which on it is a pass: as given, else Foundry's 0.5 for texts and 3 for judged ones."""
    given = _parameters(grader).get("threshold")
    if isinstance(given, int | float):
        return float(given)
    return 0.5 if _name(grader) in _TEXTS else 3.0


def _name(grader: Mapping[str, Any]) -> str:
    return str(grader.get("evaluator_name")).removeprefix(PREFIX)


def _parameters(grader: Mapping[str, Any]) -> Mapping[str, Any]:
    given = grader.get("initialization_parameters")
    return given if isinstance(given, Mapping) else {}
