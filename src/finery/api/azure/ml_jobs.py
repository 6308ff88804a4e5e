"""Azure Machine Learning: fine-tuning jobs, as `azure-ai-ml` submits them."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsJobs, WritesJobs
from finery.api.azure import arm, errors, ml, versions
from finery.api.azure.arm import Wire
from finery.api.azure.ml import OfWorkspace, Workspace
from finery.api.context import Plane
from finery.control import models, named_jobs, specs
from finery.control.jobs import JobRequest
from finery.control.named_jobs import NamedJob
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.core.hyperparameters import KNOBS
from finery.core.jobs import JobStatus

router = APIRouter(
    prefix=f"{ml.WORKSPACE}/jobs",
    tags=["azure"],
    dependencies=[Depends(versions.check)],
    responses=errors.DOCUMENTED,
)

STATUSES = {
    JobStatus.VALIDATING_FILES: "Preparing",
    JobStatus.QUEUED: "Queued",
    JobStatus.RUNNING: "Running",
    JobStatus.PAUSING: "Running",
    JobStatus.PAUSED: "Paused",
    JobStatus.SUCCEEDED: "Completed",
    JobStatus.FAILED: "Failed",
    JobStatus.CANCELLED: "Canceled",
}

TASKS = {"chatcompletion": "chat", "textcompletion": "completion", "textclassification": "classification"}
"""Azure's task types that can be trained here, in small letters."""

SYNONYMS = {
    "num_train_epochs": "n_epochs",
    "per_device_train_batch_size": "batch_size",
    "lora_r": "lora_rank",
    "lr_scheduler_type": "schedule",
    "optim": "optimizer",
    "max_seq_length": "max_tokens_per_example",
}
"""Azure's and transformers' names of hyperparameters; Finery's own are taken as well."""

_SUFFIX = re.compile(r"[^A-Za-z0-9._-]+")


class Place(BaseModel):
    """Where a model or data is."""

    model_config = ConfigDict(extra="allow")
    uri: Annotated[str, Field(min_length=1, max_length=2048)]


class Details(BaseModel):
    """What is tuned, on what, and how."""

    model_config = ConfigDict(extra="allow")
    task_type: Annotated[str, Field(alias="taskType", max_length=64)]
    provider: Annotated[Literal["Custom", "AzureOpenAI"], Field(alias="modelProvider")] = "Custom"
    model: Place
    training_data: Annotated[Place, Field(alias="trainingData")]
    validation_data: Annotated[Place | None, Field(alias="validationData")] = None
    hyperparameters: Annotated[dict[str, str | int | float | None] | None, Field(alias="hyperParameters")] = None


class Properties(BaseModel):
    """A job; what isn't read here is told again as it came."""

    model_config = ConfigDict(extra="allow")
    kind: Annotated[Literal["FineTuning"], Field(alias="jobType")]
    details: Annotated[Details, Field(alias="fineTuningDetails")]
    outputs: dict[str, Any] | None = None


class PutJob(BaseModel):
    """The body of a job."""

    model_config = ConfigDict(extra="ignore")
    properties: Properties


@router.put("/{name}")
def put(
    plane: Plane, caller: WritesJobs, request: Request, workspace: OfWorkspace, name: str, body: PutJob
) -> JSONResponse:
    """Submit a job under a name."""
    asked = body.properties.model_dump(mode="json", by_alias=True)
    registered_as = _registered_as(body.properties) or name
    job, made = named_jobs.put(
        plane, caller, name, _request(plane, caller, body.properties.details, registered_as), asked, registered_as
    )
    return JSONResponse(_job(request, workspace, job), status_code=201 if made else 200)


@router.get("")
def list_jobs(plane: Plane, caller: ReadsJobs, request: Request, workspace: OfWorkspace) -> Wire:
    """The workspace's jobs, newest first."""
    return arm.paged(_job(request, workspace, job) for job in named_jobs.list_all(plane, caller))


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsJobs, request: Request, workspace: OfWorkspace, name: str) -> Wire:
    """One job."""
    return _job(request, workspace, named_jobs.get(plane, caller, name))


@router.post("/{name}/cancel")
def cancel(plane: Plane, caller: WritesJobs, workspace: OfWorkspace, name: str) -> Response:
    """Cancel a job, at once."""
    named_jobs.cancel(plane, caller, name)
    return Response(status_code=200)


def _request(plane: ControlPlane, caller: Caller, details: Details, registered_as: str) -> JobRequest:
    task = TASKS.get(details.task_type.lower())
    if task is None:
        raise InvalidRequest(
            f"The task {details.task_type!r} can't be trained here; there are: ChatCompletion, TextCompletion, "
            "TextClassification.",
            param="fineTuningDetails.taskType",
        )
    model = ml.model_in(plane, caller, details.model.uri)
    options = _options(plane, caller, model, details.hyperparameters or {})
    seed = options.pop("seed", None)
    validation = details.validation_data
    return JobRequest(
        model=model,
        training_file=ml.file_in(plane, caller, details.training_data.uri, "trainingData.uri"),
        validation_file=ml.file_in(plane, caller, validation.uri, "validationData.uri") if validation else None,
        suffix=_SUFFIX.sub("-", registered_as).strip("-.")[:40] or None,
        seed=seed,
        options={**options, "task": task},
    )


def _options(plane: ControlPlane, caller: Caller, model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameters as Finery's knobs; Azure sends numbers as text."""
    options: dict[str, Any] = {}
    for sent, value in given.items():
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", sent).lower()
        name = SYNONYMS.get(name, name)
        if name not in KNOBS and name not in ("learning_rate", "seed"):
            raise InvalidRequest(
                f"{sent} is no hyperparameter; there are: learning_rate, seed, {', '.join([*SYNONYMS, *KNOBS])}.",
                param=f"hyperParameters.{sent}",
            )
        options[name] = _number(value)
    rate = options.pop("learning_rate", None)
    if rate is not None:
        if not isinstance(rate, int | float):
            raise InvalidRequest(f"learning_rate is {rate!r}; it must be a number.", param="learning_rate")
        base = models.resolve(plane, caller, model).base.id
        options["learning_rate_multiplier"] = rate / specs.base_learning_rate(
            base, str(options.get("training_method", "lora"))
        )
    return options


def _number(value: Any) -> Any:
    """A number that was sent as text, or the text."""
    for read in (int, float):
        try:
            return read(value)
        except (TypeError, ValueError):
            continue
    return {"true": True, "false": False}.get(str(value).lower(), value)


def _registered_as(properties: Properties) -> str | None:
    """The name that an output is to be registered under."""
    for output in (properties.outputs or {}).values():
        if isinstance(output, dict) and isinstance(output.get("assetName"), str) and output["assetName"]:
            return str(output["assetName"])[:255]
    return None


def _job(request: Request, workspace: Workspace, named: NamedJob) -> Wire:
    job = named.job
    properties = {
        "displayName": named.name,
        "experimentName": "Default",
        "isArchived": False,
        "fineTuningDetails": {
            "taskType": "ChatCompletion",
            "modelProvider": "Custom",
            "model": {"jobInputType": "mlflow_model", "uri": f"azureml:{job.model}"},
            "trainingData": {
                "jobInputType": "uri_file",
                "uri": f"{request.base_url}v1/files/{job.training_file}/content",
            },
            "hyperParameters": {name: str(value) for name, value in (job.resolved or job.options).items()},
        },
        "outputs": {},
        **{name: value for name, value in named.asked.items() if value is not None},
        "jobType": "FineTuning",
        "status": STATUSES[job.status],
        "properties": {
            **(named.asked.get("properties") or {}),
            "finery.job_id": job.id,
            "finery.fine_tuned_model": job.fine_tuned_model or "",
            "finery.error": (job.error or {}).get("message", ""),
        },
        "services": {"Studio": {"jobServiceType": "Studio", "endpoint": str(request.base_url)}},
    }
    return {
        "id": f"{workspace.id}/jobs/{named.name}",
        "name": named.name,
        "type": f"{ml.PROVIDER}/workspaces/jobs",
        "systemData": arm.system_data(job.created_at, job.finished_at or job.created_at),
        "properties": properties,
    }
