"""/v1/evals: how data is graded, runs of that, and their graded items."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, model_validator

from finery.api.access import ReadsData, ReadsEvaluations, WritesEvaluations
from finery.api.context import Metadata, Plane, Sent, paging
from finery.api.openai import wire
from finery.control import evals, replays
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1/evals", tags=["evals"])

EvalsCursor = Annotated[Cursor, Depends(paging(default=20, most=100, order="asc"))]

_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cached_tokens": 0}
_NO_ERROR = {"code": "", "message": ""}
"""OpenAI's types have no null here."""


class DataSourceConfig(BaseModel):
    """What the items of an eval look like."""

    model_config = ConfigDict(extra="allow")
    type: Literal["custom", "logs", "stored_completions", "azure_ai_source"]
    item_schema: dict[str, Any] | None = None
    include_sample_schema: bool | None = False
    metadata: Metadata | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is answered: with the schema that items have in the end."""
        properties: dict[str, Any] = {"item": self.item_schema or {"type": "object"}}
        if self.include_sample_schema or self.type != "custom":
            properties["sample"] = {"type": "object", "properties": {"output_text": {"type": "string"}}}
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        more = {"metadata": self.metadata} if self.type != "custom" else {}
        return {"type": self.type, "schema": schema, **more}


class CreateEval(BaseModel):
    """The body of a new eval."""

    model_config = ConfigDict(extra="ignore")
    name: str | None = None
    data_source_config: DataSourceConfig
    testing_criteria: list[dict[str, Any]]
    metadata: Metadata | None = None


class UpdateEval(BaseModel):
    """The body that renames an eval."""

    name: str | None = None
    metadata: Metadata | None = None


class Content(BaseModel):
    """One item in a request's body."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class Source(BaseModel):
    """Where items come from."""

    model_config = ConfigDict(extra="allow")
    type: Literal["file_content", "file_id", "stored_completions"]
    content: Annotated[list[Content], Field(max_length=evals.MAX_ITEMS)] | None = None
    id: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    created_after: int | None = None
    created_before: int | None = None
    metadata: Metadata | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Source":
        if self.type == "file_content" and self.content is None:
            raise ValueError("content is missing")
        if self.type == "file_id" and self.id is None:
            raise ValueError("id is missing")
        return self


class Message(BaseModel):
    """One message of a template."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["user", "assistant", "system", "developer"]
    content: Any


class InputMessages(BaseModel):
    """What a model is asked: a template, or a reference to messages in the item."""

    type: Literal["template", "item_reference"]
    template: list[Message] | None = None
    item_reference: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "InputMessages":
        if (self.template if self.type == "template" else self.item_reference) is None:
            raise ValueError(f"{self.type} is missing")
        return self


class DataSource(BaseModel):
    """Items, and the model that answers them."""

    model_config = ConfigDict(extra="allow")
    type: Literal["jsonl", "completions", "responses"]
    source: Source
    model: str | None = None
    input_messages: InputMessages | None = None
    sampling_params: dict[str, Any] | None = None


class CreateRun(BaseModel):
    """The body of a new run."""

    model_config = ConfigDict(extra="ignore")
    name: str | None = None
    data_source: DataSource
    metadata: Metadata | None = None


@router.post("", status_code=201)
def create(plane: Plane, caller: WritesEvaluations, sent: Sent, body: CreateEval) -> dict[str, Any]:
    """Make an eval."""

    def make() -> dict[str, Any]:
        made = evals.create(
            plane,
            caller,
            name=body.name,
            data_source_config=body.data_source_config.to_json(),
            testing_criteria=body.testing_criteria,
            metadata=body.metadata,
        )
        return _eval(made)

    return replays.once(plane, caller, sent, body.model_dump(mode="json"), make)


@router.get("")
def list_evals(plane: Plane, caller: ReadsEvaluations, cursor: EvalsCursor) -> dict[str, Any]:
    """The project's evals, oldest first."""
    return wire.page(evals.list_page(plane, caller, cursor), _eval)


@router.get("/{eval_id}")
def retrieve(plane: Plane, caller: ReadsEvaluations, eval_id: str) -> dict[str, Any]:
    """One eval."""
    return _eval(evals.get(plane, caller, eval_id))


@router.post("/{eval_id}")
def update(plane: Plane, caller: WritesEvaluations, eval_id: str, body: UpdateEval) -> dict[str, Any]:
    """Give an eval another name or other metadata."""
    return _eval(evals.update(plane, caller, eval_id, name=body.name, metadata=body.metadata))


@router.delete("/{eval_id}")
def delete(plane: Plane, caller: WritesEvaluations, eval_id: str) -> dict[str, Any]:
    """Forget an eval with its runs."""
    evals.delete(plane, caller, eval_id)
    return {"object": "eval.deleted", "deleted": True, "eval_id": eval_id}


@router.post("/{eval_id}/runs", status_code=201)
def create_run(plane: Plane, caller: WritesEvaluations, sent: Sent, eval_id: str, body: CreateRun) -> dict[str, Any]:
    """Queue a run."""
    source = body.data_source.model_dump(mode="json", exclude_none=True)

    def make() -> dict[str, Any]:
        run = evals.create_run(plane, caller, eval_id, name=body.name, data_source=source, metadata=body.metadata)
        return _run(run)

    return replays.once(plane, caller, sent, body.model_dump(mode="json"), make)


@router.get("/{eval_id}/runs")
def list_runs(
    plane: Plane,
    caller: ReadsEvaluations,
    eval_id: str,
    cursor: EvalsCursor,
    status: Literal["queued", "in_progress", "completed", "canceled", "failed"] | None = None,
) -> dict[str, Any]:
    """An eval's runs, oldest first."""
    return wire.page(evals.list_runs(plane, caller, eval_id, cursor, status), _run)


@router.get("/{eval_id}/runs/{run_id}")
def retrieve_run(plane: Plane, caller: ReadsEvaluations, eval_id: str, run_id: str) -> dict[str, Any]:
    """One run."""
    return _run(evals.get_run(plane, caller, eval_id, run_id))


@router.post("/{eval_id}/runs/{run_id}")
@router.post("/{eval_id}/runs/{run_id}/cancel")
def cancel_run(plane: Plane, caller: WritesEvaluations, eval_id: str, run_id: str) -> dict[str, Any]:
    """Stop a run; older SDKs post to the run itself."""
    return _run(evals.cancel_run(plane, caller, eval_id, run_id))


@router.delete("/{eval_id}/runs/{run_id}")
def delete_run(plane: Plane, caller: WritesEvaluations, eval_id: str, run_id: str) -> dict[str, Any]:
    """Forget a run."""
    evals.delete_run(plane, caller, eval_id, run_id)
    return {"object": "eval.run.deleted", "deleted": True, "run_id": run_id}


@router.get("/{eval_id}/runs/{run_id}/output_items")
def list_items(
    plane: Plane,
    caller: ReadsData,
    eval_id: str,
    run_id: str,
    cursor: EvalsCursor,
    status: Literal["pass", "fail"] | None = None,
) -> dict[str, Any]:
    """A run's graded items."""
    return wire.page(evals.list_items(plane, caller, eval_id, run_id, cursor, status), _item)


@router.get("/{eval_id}/runs/{run_id}/output_items/{item_id}")
def retrieve_item(plane: Plane, caller: ReadsData, eval_id: str, run_id: str, item_id: str) -> dict[str, Any]:
    """One graded item."""
    return _item(evals.get_item(plane, caller, eval_id, run_id, item_id))


def _eval(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "id": record.id,
        "object": "eval",
        "name": body["name"],
        "created_at": record.created_at,
        "data_source_config": body["data_source_config"],
        "testing_criteria": body["testing_criteria"],
        "metadata": record.metadata,
    }


def _run(record: Record) -> dict[str, Any]:
    body = record.body
    names = [grader["name"] for grader in body["testing_criteria"]]
    return {
        "id": record.id,
        "object": "eval.run",
        "eval_id": record.owner,
        "name": body["name"],
        "model": body["model"],
        "status": record.status,
        "created_at": record.created_at,
        "data_source": body["data_source"],
        "error": body.get("error") or _NO_ERROR,
        "metadata": record.metadata,
        "report_url": f"/v1/evals/{record.owner}/runs/{record.id}/output_items",
        "result_counts": body["counts"],
        "per_model_usage": [{"model_name": model, **used} for model, used in body["usage"].items()],
        "per_testing_criteria_results": [
            {"testing_criteria": name, **counts} for name, counts in zip(names, body["criteria"], strict=False)
        ],
    }


def _item(record: Record) -> dict[str, Any]:
    body = record.body
    sample, drawn = body["sample"], body["sampling_params"]
    used = sample.get("usage") or {}
    cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    usage = {name: used.get(name, 0) for name in _NO_USAGE} | {"cached_tokens": cached}
    fault = sample.get("error")
    return {
        "id": record.id,
        "object": "eval.run.output_item",
        "created_at": record.created_at,
        "eval_id": body["eval_id"],
        "run_id": record.owner,
        "status": record.status,
        "datasource_item_id": body["number"],
        "datasource_item": body["item"],
        "results": [_result(grade) for grade in body["results"]],
        "sample": {
            "input": [_said(message) for message in sample["input"]],
            "output": [_said(message) for message in sample["output"]],
            "finish_reason": sample.get("finish_reason") or "",
            "model": body["model"],
            "usage": usage,
            "error": {"code": "sample_error", "message": fault} if fault else _NO_ERROR,
            "temperature": _number(drawn.get("temperature"), 1.0),
            "top_p": _number(drawn.get("top_p"), 1.0),
            "seed": int(_number(drawn.get("seed"), 42)),
            "max_completion_tokens": int(_number(drawn.get("max_completion_tokens"), 0)),
        },
    }


def _result(grade: dict[str, Any]) -> dict[str, Any]:
    details = "; ".join(f"{kind}: {text}" for kind, text in grade["errors"].items())
    return {
        "name": grade["name"],
        "type": grade["type"],
        "passed": grade["passed"],
        "score": grade["score"],
        "label": "pass" if grade["passed"] else "fail",
        **({"sample": grade["sample"]} if grade["sample"] else {}),
        **({"sample": {"error": details}} if details else {}),
    }


def _said(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {"role": message.get("role"), "content": content if isinstance(content, str) else str(content or "")}


def _number(value: Any, default: float) -> float:
    return default if value is None else value
