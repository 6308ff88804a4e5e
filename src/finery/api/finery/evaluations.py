"""/finery/v1/evaluations: models asked the same held-out rows, and compared."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict

from finery.api.access import ReadsData, ReadsEvaluations, WritesEvaluations
from finery.api.context import Metadata, Plane, Sent, paging
from finery.api.openai import wire
from finery.control import evaluations, replays
from finery.core.records import Record
from finery.evaluation import report
from finery.storage.pages import Cursor

router = APIRouter(prefix="/finery/v1/evaluations", tags=["evaluations"])

EvaluationsCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]
Form = Annotated[Literal["json", "html", "markdown", "pictures"], Query(alias="format")]
AnswersCursor = Annotated[Cursor, Depends(paging(default=100, most=1000, order="asc"))]


class CreateEvaluation(BaseModel):
    """The body of a new evaluation."""

    model_config = ConfigDict(extra="forbid")
    models: list[str]
    data: str
    metric: str | None = None
    max_tokens: int | None = None
    probe: bool = True
    name: str | None = None
    metadata: Metadata | None = None


@router.post("")
def create(plane: Plane, caller: WritesEvaluations, sent: Sent, body: CreateEvaluation) -> dict[str, Any]:
    """Compare models on a file; the last one named is the one in question."""
    asked = body.model_dump(mode="json")
    return replays.once(plane, caller, sent, asked, lambda: _evaluation(evaluations.create(plane, caller, **asked)))


@router.get("")
def list_evaluations(plane: Plane, caller: ReadsEvaluations, cursor: EvaluationsCursor) -> dict[str, Any]:
    """The project's evaluations, newest first, without their reports."""
    return wire.page(evaluations.list_page(plane, caller, cursor), lambda found: _evaluation(found) | {"report": None})


@router.get("/{evaluation_id}")
def retrieve(plane: Plane, caller: ReadsEvaluations, evaluation_id: str) -> dict[str, Any]:
    """One evaluation, with its report once it is completed."""
    return _evaluation(evaluations.get(plane, caller, evaluation_id))


@router.post("/{evaluation_id}/cancel")
def cancel(plane: Plane, caller: WritesEvaluations, evaluation_id: str) -> dict[str, Any]:
    """Stop an evaluation."""
    return _evaluation(evaluations.cancel(plane, caller, evaluation_id))


@router.delete("/{evaluation_id}")
def delete(plane: Plane, caller: WritesEvaluations, evaluation_id: str) -> dict[str, Any]:
    """Forget an evaluation and its answers."""
    evaluations.delete(plane, caller, evaluation_id)
    return wire.deleted(evaluation_id, "evaluation")


@router.get("/{evaluation_id}/answers")
def list_answers(plane: Plane, caller: ReadsData, evaluation_id: str, cursor: AnswersCursor) -> dict[str, Any]:
    """Every answer that was given."""
    return wire.page(
        evaluations.list_answers(plane, caller, evaluation_id, cursor),
        lambda found: {"id": found.id, "object": "evaluation.answer", "status": found.status, **found.body},
    )


@router.get("/{evaluation_id}/report", response_model=None)
def show_report(plane: Plane, caller: ReadsEvaluations, evaluation_id: str, form: Form = "json") -> Response:
    """The report, as JSON, as a page or as Markdown; or its pictures, a JSON object of SVG texts by file name."""
    found = evaluations.report_of(plane, caller, evaluation_id)
    title = evaluations.get(plane, caller, evaluation_id).body["name"] or "Evaluation"
    return in_form(found, title, form)


def in_form(found: dict[str, Any], title: str, form: str) -> Response:
    """A report in the form that was asked for."""
    if form == "html":
        # The page needs nothing but its own style.
        policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(report.html(found, title=title), headers=policy)
    if form == "markdown":
        return PlainTextResponse(report.markdown(found, title=title), media_type="text/markdown")
    return JSONResponse(report.pictures(found) if form == "pictures" else found)


def _evaluation(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "id": record.id,
        "object": "evaluation",
        "name": body["name"],
        "models": body["models"],
        "data": body["data"],
        "file_id": body["file_id"],
        "metric": body["metric"],
        "max_tokens": body["max_tokens"],
        "probe": body["probe"],
        "status": record.status,
        "counts": body["counts"],
        "error": body.get("error"),
        "report": body.get("report"),
        "metadata": record.metadata,
        "created_at": record.created_at,
        "started_at": body.get("started_at"),
        "finished_at": body.get("finished_at"),
    }
