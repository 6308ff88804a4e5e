"""What Azure's objects hold beyond OpenAI's, by an object's `object`. Works on the answers that OpenAI's handlers gave.

Fields: Azure OpenAI's authoring specification of 2024-10-21. Knows no request.
"""

from collections.abc import Callable
from typing import Any

Wire = dict[str, Any]

_NEVER = 253402300799
"""Nothing here is withdrawn on a date: the last second of the year 9999."""


def annotate(answer: Wire) -> Wire:
    """An answer with Azure's fields; of a list, each of its items."""
    if answer.get("object") == "list":
        return {**answer, "data": [annotate(item) for item in answer["data"]]}
    add = _ADDITIONS.get(answer.get("object", ""))
    # What was deleted bears the name of its kind as well, and nothing more.
    return {**answer, **add(answer)} if add and "deleted" not in answer else answer


def _model(model: Wire) -> Wire:
    return {
        "created_at": model["created"],
        "status": "succeeded",
        "model": model.get("parent"),
        "fine_tune": model.get("job_id"),
        "lifecycle_status": "generally-available",
        "capabilities": {
            # A tuned model can be tuned further.
            "fine_tune": True,
            "inference": True,
            "completion": True,
            "chat_completion": True,
            "embeddings": True,
        },
        "deprecation": {"fine_tune": _NEVER, "inference": _NEVER},
    }


def _job(job: Wire) -> Wire:
    return {"suffix": job["user_provided_suffix"]}


_ADDITIONS: dict[str, Callable[[Wire], Wire]] = {"model": _model, "fine_tuning.job": _job}
