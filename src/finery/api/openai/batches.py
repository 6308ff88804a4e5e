"""/v1/batches; and one line of a batch, answered as its endpoint would."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, ValidationError

from finery.api import errors
from finery.api.access import AsksModels, ReadsFiles
from finery.api.context import Metadata, Plane, Sent, paging
from finery.api.openai import chat, completions, embeddings, responses, wire
from finery.api.openai.chat_body import CreateChatCompletion
from finery.api.openai.completions import CreateCompletion
from finery.api.openai.embeddings import CreateEmbeddings
from finery.api.openai.responses_body import CreateResponse
from finery.api.openai.uploads import ExpiresAfter
from finery.control import batches, replays
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import FineryError
from finery.core.records import Record
from finery.storage.pages import Cursor

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BatchesCursor = Annotated[Cursor, Depends(paging(default=20, most=100))]

_TIMES = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


class CreateBatch(BaseModel):
    """The body of a new batch."""

    model_config = ConfigDict(extra="ignore")
    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


@router.post("")
def create(plane: Plane, caller: AsksModels, sent: Sent, body: CreateBatch) -> dict[str, Any]:
    """Take a batch in."""

    def make() -> dict[str, Any]:
        batch = batches.create(
            plane,
            caller,
            input_file_id=body.input_file_id,
            endpoint=body.endpoint,
            metadata=body.metadata,
            keep_seconds=body.output_expires_after.seconds if body.output_expires_after else None,
        )
        return _batch(batch)

    return replays.once(plane, caller, sent, body.model_dump(mode="json"), make)


@router.get("")
def list_batches(plane: Plane, caller: ReadsFiles, cursor: BatchesCursor) -> dict[str, Any]:
    """The project's batches, newest first."""
    return wire.page(batches.list_page(plane, caller, cursor), _batch)


@router.get("/{batch_id}")
def retrieve(plane: Plane, caller: ReadsFiles, batch_id: str) -> dict[str, Any]:
    """One batch."""
    return _batch(batches.get(plane, caller, batch_id))


@router.post("/{batch_id}/cancel")
def cancel(plane: Plane, caller: AsksModels, batch_id: str) -> dict[str, Any]:
    """Stop a batch; what was answered is still written."""
    return _batch(batches.cancel(plane, caller, batch_id))


async def answer_line(
    plane: ControlPlane, caller: Caller, endpoint: str, body: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """What the endpoint would answer: status and body."""
    body = {**body, "stream": False}
    try:
        match endpoint:
            case "/v1/chat/completions":
                return 200, await chat.complete(plane, caller, CreateChatCompletion.model_validate(body))
            case "/v1/completions":
                return 200, await completions.complete(plane, caller, CreateCompletion.model_validate(body))
            case "/v1/embeddings":
                return 200, await embeddings.complete(plane, caller, CreateEmbeddings.model_validate(body))
            case _:
                return 200, await responses.complete(plane, caller, CreateResponse.model_validate(body))
    except FineryError as error:
        return errors.status_of(error)[0], errors.body_of(error)
    except ValidationError as error:
        return 400, errors.invalid_body(error.errors()[0])


def _batch(record: Record) -> dict[str, Any]:
    body = record.body
    faults = body.get("errors")
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": body["endpoint"],
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": body["input_file_id"],
        "completion_window": "24h",
        "status": record.status,
        "output_file_id": body.get("output_file_id"),
        "error_file_id": body.get("error_file_id"),
        "created_at": record.created_at,
        "expires_at": body["expires_at"],
        **{name: body.get(name) for name in _TIMES},
        "request_counts": body["counts"],
        "metadata": record.metadata,
    }
