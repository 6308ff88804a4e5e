"""Finery's records as OpenAI's objects. The shapes are those of the `openai` package's types; fields that OpenAI
doesn't have stand beside them (clients keep unknown fields)."""

from collections.abc import Callable
from typing import Any, TypeVar

from finery.core.files import File
from finery.core.hyperparameters import EXTRAS
from finery.core.jobs import Job, JobStatus
from finery.core.models import Checkpoint, TunedModel
from finery.modeling.sources import LocalModel
from finery.serving.protocol import Finish
from finery.storage.pages import Cursor, Page

T = TypeVar("T")

_OWN_HYPERPARAMETERS = {
    "dpo": ("beta",),
    "reinforcement": ("compute_multiplier", "eval_interval", "eval_samples", "reasoning_effort"),
}
"""Beside those that every method has."""

_METRICS = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
    "train_reward_mean",
    "valid_reward_mean",
    "completion_tokens_mean",
    "kl_mean",
)


def page(found: Page[T], convert: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """A cursor page: the SDK asks on with `after` = the last item's id while `has_more`."""
    data = [convert(item) for item in found.items]
    return {
        "object": "list",
        "data": data,
        "has_more": found.has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def listed(items: list[dict[str, Any]], cursor: Cursor) -> dict[str, Any]:
    """A cursor page of objects that are all here."""
    ordered = items if cursor.order == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    start = ids.index(cursor.after) + 1 if cursor.after in ids else 0
    rest = ordered[start:]
    return page(Page(items=rest[: cursor.limit], has_more=len(rest) > cursor.limit), lambda item: item)


def usage(finishes: list[Finish]) -> dict[str, Any]:
    """OpenAI's `usage` of answers to one prompt, which counts once."""
    prompt = finishes[0].prompt_tokens
    completion = sum(finish.completion_tokens for finish in finishes)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": finishes[0].cached_tokens},
    }


def file(record: File) -> dict[str, Any]:
    """OpenAI's `file`."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": record.status,
        "status_details": record.status_details,
    }


def job(record: Job) -> dict[str, Any]:
    """OpenAI's `fine_tuning.job`, with Finery's further knobs beside its fields."""
    knobs = record.resolved or record.options
    hyperparameters = {name: knobs[name] for name in ("batch_size", "learning_rate_multiplier", "n_epochs")}
    return {
        "id": record.id,
        "object": "fine_tuning.job",
        "created_at": record.created_at,
        "error": record.error,
        "estimated_finish": record.estimated_finish,
        "fine_tuned_model": record.fine_tuned_model,
        "finished_at": record.finished_at,
        "hyperparameters": hyperparameters,
        "integrations": record.integrations,
        "metadata": record.metadata,
        "method": {"type": record.method, record.method: _method(record.method, knobs, hyperparameters)},
        "model": record.model,
        "organization_id": record.project_id,
        "result_files": list(record.result_files),
        "seed": record.seed,
        # A job that shall pause runs until its next checkpoint; OpenAI's enum has no word for that.
        "status": JobStatus.RUNNING if record.status == JobStatus.PAUSING else record.status,
        "trained_tokens": record.trained_tokens,
        "training_file": record.training_file,
        "user_provided_suffix": record.suffix,
        "validation_file": record.validation_file,
        # A job of an older Finery knows fewer of them.
        **{knob.name: knobs.get(knob.name, knob.default) for knob in EXTRAS},
    }


def _method(method: str, knobs: dict[str, Any], hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's object of one method."""
    own = {name: knobs[name] for name in _OWN_HYPERPARAMETERS.get(method, ())}
    block: dict[str, Any] = {"hyperparameters": hyperparameters | own}
    if method == "reinforcement":
        block |= {"grader": knobs["grader"], "response_format": knobs["response_format"]}
    return block


def event(record: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's `fine_tuning.job.event`."""
    return {
        "id": record["id"],
        "object": "fine_tuning.job.event",
        "created_at": record["created_at"],
        "level": record["level"],
        "message": record["message"],
        "type": record["type"],
        "data": record["data"],
    }


def checkpoint(record: Checkpoint) -> dict[str, Any]:
    """OpenAI's `fine_tuning.job.checkpoint`."""
    return {
        "id": record.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": record.created_at,
        "fine_tuned_model_checkpoint": record.model_name,
        "fine_tuning_job_id": record.job_id,
        "metrics": {name: record.metrics[name] for name in _METRICS if record.metrics.get(name) is not None},
        "step_number": record.step,
    }


def base_model(record: LocalModel) -> dict[str, Any]:
    """OpenAI's `model`, for a base model of this machine; it was created when it was brought here."""
    created = int(record.folder.stat().st_mtime)
    return {"id": record.id, "object": "model", "created": created, "owned_by": "finery"}


def tuned_model(record: TunedModel, project: str) -> dict[str, Any]:
    """OpenAI's `model`, for a tuned one."""
    return {
        "id": record.name,
        "object": "model",
        "created": record.created_at,
        "owned_by": project,
        "parent": record.base_model,
        "job_id": record.job_id,
    }


def deleted(identifier: str, kind: str) -> dict[str, Any]:
    """OpenAI's answer to a delete."""
    return {"id": identifier, "object": kind, "deleted": True}
