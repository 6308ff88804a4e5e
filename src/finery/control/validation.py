"""Between `validating_files` and `queued`: a job's rows as its trainer will get them, and "auto" as numbers."""

import logging
from typing import Any

from finery import telemetry
from finery.control import data_gate, models, reinforcement, rows, runs
from finery.control.jobs import MIN_TRAINING_ROWS, message
from finery.control.plane import ControlPlane
from finery.core import hyperparameters, tracing
from finery.core.access import Caller, Project
from finery.core.datasets import Format
from finery.core.errors import FineryError, InvalidRequest
from finery.core.files import File, FileStatus
from finery.core.jobs import Job, JobStatus, require_transition
from finery.core.models import TunedModel
from finery.core.tracing import HEADER, Trace
from finery.modeling.sources import LocalModel
from finery.storage import files, jobs

log = logging.getLogger(__name__)


def validate_pending(plane: ControlPlane) -> None:
    """Validate every job that waits for it and whose files are checked."""
    with plane.database.read() as connection:
        pending = jobs.list_in(connection, JobStatus.VALIDATING_FILES)
    for job in pending:
        try:
            _validate(plane, job)
        except FineryError as error:
            _fail(plane, job, code=error.code, text=error.message, param=error.param)
        except Exception:
            log.exception("validating %s", job.id)
            _fail(plane, job, code="internal_error", text="The files could not be read; the server's log says why.")


def _validate(plane: ControlPlane, job: Job) -> None:
    training = _file(plane, job, job.training_file, "training_file")
    validation = _file(plane, job, job.validation_file, "validation_file") if job.validation_file else None
    if FileStatus.UPLOADED in (training.status, validation.status if validation else None):
        return  # Their check runs; the caretaker comes back.
    for file in filter(None, (training, validation)):
        if file.status == FileStatus.ERROR:
            raise InvalidRequest(f"File {file.id} can't be trained on: {file.status_details}", code="invalid_file")
    asked_by = Trace.parse(job.data.get(HEADER))
    with (
        tracing.within(None, job_id=job.id),
        telemetry.span("validate job", parent=asked_by, facts={"finery.job_id": job.id}),
    ):
        _make_ready(plane, job, training, validation)


def _make_ready(plane: ControlPlane, job: Job, training: File, validation: File | None) -> None:
    if validation and validation.format != training.format:
        raise InvalidRequest(
            f"The training file holds {training.format} rows, the validation file {validation.format} rows; "
            "they must be of one kind.",
            code="invalid_validation_file",
            param="validation_file",
        )
    task = _task(plane, job, training)
    data = rows.prepare(plane, training, validation, fraction=job.options["validation_split"], seed=job.seed)
    if data["training"]["rows"] < MIN_TRAINING_ROWS:
        raise InvalidRequest(
            f"{data['training']['rows']} rows are left for training; at least {MIN_TRAINING_ROWS} are needed.",
            param="training_file",
        )
    owner = Caller(project=Project(id=job.project_id, name="", created_at=0), key_id="")
    model = models.resolve(plane, owner, job.model)
    options = job.options
    if model.tuned:
        data["start_from"] = {"model": model.name, "files": model.tuned.manifest["files"]}
        options = _shaped_like_parent(plane, job, model.tuned)
    longest_allowed = _longest_allowed(options, model.base)
    form: Format | None = None
    if job.method == "reinforcement":
        form = "reinforcement"
        longest_allowed = reinforcement.longest_prompt(options, longest_allowed)
        reinforcement.check_rows(plane, data, options["grader"])
    longest = rows.check_tokens(plane, data, model.base, max_tokens=longest_allowed, form=form)
    if task in ("classification", "multi_label"):
        data["labels"] = rows.labels(plane, data)
    data_gate.screen(plane, job, [file for file in (training, validation) if file])
    data["model_name"] = runs.new_model_name(plane, job)
    data |= {HEADER: job.data[HEADER]} if HEADER in job.data else {}
    resolved = hyperparameters.resolve(
        options,
        method=job.method,
        num_examples=data["training"]["rows"],
        context_tokens=model.base.context_tokens,
        longest_example=longest,
        task=task,
    )
    _queue(plane, job, data, resolved)


def _longest_allowed(options: dict[str, Any], base: LocalModel) -> int:
    asked = options["max_tokens_per_example"]
    return base.context_tokens if asked == hyperparameters.AUTO else min(int(asked), base.context_tokens)


_SHAPE = ("training_method", "lora_rank", "lora_alpha", "lora_targets", "rank_stabilised", "dora")


def _shaped_like_parent(plane: ControlPlane, job: Job, parent: TunedModel) -> dict[str, Any]:
    """A job that goes on from a tuned model has that model's kind of weights.

    Raises:
        InvalidRequest: the job asks for another kind.
    """
    with plane.database.read() as connection:
        made_by = jobs.get(connection, job.project_id, parent.job_id)
    assert made_by is not None
    shape = {name: made_by.resolved[name] for name in _SHAPE}
    for name, value in shape.items():
        asked = job.options[name]
        if asked not in (value, hyperparameters.KNOBS[name].default):
            raise InvalidRequest(
                f"{name} is {asked!r}, but {parent.name} was trained with {value!r}; a job that goes on from it can't "
                f"change that. Leave {name} out, or start from {parent.base_model}.",
                param=name,
            )
    return job.options | shape


def _queue(plane: ControlPlane, job: Job, data: dict[str, Any], resolved: dict[str, Any]) -> None:
    require_transition(job.id, job.status, JobStatus.QUEUED)
    training = data["training"]
    counts = f"{training['rows']:,} rows and {training['tokens']:,} tokens for training"
    if data.get("validation"):
        counts += f", {data['validation']['rows']:,} rows for validation"
    with plane.database.write() as connection:
        if not jobs.change(connection, job, JobStatus.QUEUED, data=data, resolved=resolved):
            return  # Cancelled meanwhile.
        jobs.insert_events(
            connection,
            job.id,
            [message("queued", f"Files validated, moving job to queued state ({counts})")],
        )


def _fail(plane: ControlPlane, job: Job, *, code: str, text: str, param: str | None = None) -> None:
    with plane.database.write() as connection:
        current = jobs.get(connection, job.project_id, job.id)
        if current and current.status == JobStatus.VALIDATING_FILES:
            runs.end_badly(connection, current, code=code, text=text, param=param)


def _file(plane: ControlPlane, job: Job, file_id: str, param: str) -> File:
    with plane.database.read() as connection:
        file = files.get(connection, job.project_id, file_id)
    if file is None:
        raise InvalidRequest(f"File {file_id} was deleted before the job began.", code="file_not_found", param=param)
    return file


_TASKS = {"chat": "chat", "preference": "chat", "reinforcement": "chat", "completion": "completion"}
_METHODS = {"preference": "dpo", "reinforcement": "reinforcement"}


def require_method(training: File, method: str) -> None:
    """Refuse rows of another kind than the method learns from.

    Raises:
        InvalidRequest: saying which method they go with.
    """
    form = training.format or "chat"
    if _METHODS.get(form, "supervised") == method:
        return
    text = (
        f"The method {method} was asked for, but file {training.id} holds {form} rows. Preference rows go with dpo; "
        "rows whose messages end with the user's, and that have fields for a grader, with reinforcement; all others "
        "with supervised."
    )
    if form == "reinforcement":
        text = (
            f"There is no answer to learn from: the messages of file {training.id} end with the user's. End each row "
            "with an assistant message; or, if a grader shall judge answers that the model draws itself, ask for the "
            "method reinforcement."
        )
    raise InvalidRequest(text, code="invalid_training_file", param="method.type")


def _task(plane: ControlPlane, job: Job, training: File) -> str:
    """What is learned, as the rows say it; refuses rows of another kind than the method or task needs."""
    require_method(training, job.method)
    form = training.format or "chat"
    wanted = job.options["task"]
    task = _TASKS.get(form, form)
    if form == "classification" and rows.are_multi_label(plane, training):
        task = "multi_label"
    if wanted not in (hyperparameters.AUTO, task):
        raise InvalidRequest(
            f"The task {wanted!r} was asked for, but file {training.id} holds {form} rows.",
            code="invalid_training_file",
            param="task",
        )
    return task
