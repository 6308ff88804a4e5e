"""Azure AI Model Inference, as `azure-ai-inference` speaks it: /chat/completions, /embeddings and /info.

At the root, under /models, and under a deployment's own address, where the path says which model is meant. A request
that names none is for the project's only deployment. Streams are those of OpenAI's chat: bare line feeds, no comments,
no `event:` lines, which this client could not read.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from finery.api.access import AsksModels, ReadsModels
from finery.api.azure import versions
from finery.api.context import Plane
from finery.api.openai import chat, embeddings
from finery.api.openai.chat_body import CreateChatCompletion
from finery.api.openai.embeddings import CreateEmbeddings
from finery.control import chat as asked
from finery.control import deployments
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import InvalidRequest
from finery.core.ids import new_id
from finery.modeling.sources import LocalModel

ExtraParameters = Annotated[Literal["error", "drop", "pass-through"], Header(alias="extra-parameters")]
"""What to do with fields that the API has no word for; the service's default is to refuse them."""

router = APIRouter(tags=["azure"], dependencies=[Depends(versions.check)])


class InferChat(CreateChatCompletion):
    """A chat completion whose model may be left out; unknown fields are noticed."""

    model_config = ConfigDict(extra="allow")
    model: str = ""


class InferEmbeddings(CreateEmbeddings):
    """A request for embeddings whose model may be left out; unknown fields are noticed."""

    model_config = ConfigDict(extra="allow")
    model: str = ""
    input_type: Literal["text", "query", "document"] | None = None
    """Tells models apart that embed questions in a way of their own, which ours don't."""


@router.post("/chat/completions", response_model=None)
@router.post("/models/chat/completions", response_model=None)
async def create_chat_completion(
    plane: Plane, caller: AsksModels, body: InferChat, extra: ExtraParameters = "error"
) -> Response:
    """Answer a conversation."""
    _check(body, extra)
    name = await _meant(plane, caller, body.model)
    return await chat.create(plane, caller, body.model_copy(update={"model": name}))


@router.post("/embeddings")
@router.post("/models/embeddings")
async def create_embeddings(
    plane: Plane, caller: AsksModels, body: InferEmbeddings, extra: ExtraParameters = "error"
) -> dict[str, Any]:
    """Texts as vectors."""
    _check(body, extra)
    name = await _meant(plane, caller, body.model)
    return {"id": new_id("embd-"), **await embeddings.create(plane, caller, body.model_copy(update={"model": name}))}


@router.get("/info")
@router.get("/models/info")
def info(plane: Plane, caller: ReadsModels) -> dict[str, str]:
    """Which model answers where none is named."""
    return _info(plane, caller, deployments.only_one(plane, caller).name)


@router.get("/openai/deployments/{deployment}/info")
def info_of_deployment(plane: Plane, caller: ReadsModels, deployment: str) -> dict[str, str]:
    """Which model answers under a deployment's name."""
    return _info(plane, caller, deployment)


def publisher_of(model: LocalModel) -> str:
    """Who published a base model, as far as its source says."""
    kind, _, place = model.source.partition(":")
    return place.partition("/")[0] if kind == "hf" else "finery"


def _info(plane: ControlPlane, caller: Caller, name: str) -> dict[str, str]:
    model = asked.find(plane, caller, name)
    return {
        "model_name": model.name,
        "model_type": "chat-completion",
        "model_provider_name": publisher_of(model.base),
    }


def _check(body: BaseModel, extra: str) -> None:
    """Refuse unknown fields where the caller wants to hear of them."""
    unknown = sorted(body.model_extra or {})
    if unknown and extra == "error":
        raise InvalidRequest(
            f"{unknown[0]} is no parameter of this request. Leave it out, or send the header "
            "'extra-parameters: pass-through' or 'drop'.",
            param=unknown[0],
        )


async def _meant(plane: ControlPlane, caller: Caller, model: str) -> str:
    if model:
        return model
    return (await run_in_threadpool(deployments.only_one, plane, caller)).name
