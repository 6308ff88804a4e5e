"""/openai/deployments/{deployment}/…: OpenAI's chat, completions and embeddings with the deployment in the path.

What the body says of a model is passed over, as Azure does.
"""

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from finery.api.access import AsksModels
from finery.api.azure import versions
from finery.api.context import Plane
from finery.api.openai import chat, completions, embeddings
from finery.api.openai.chat_body import CreateChatCompletion
from finery.api.openai.completions import CreateCompletion
from finery.api.openai.embeddings import CreateEmbeddings
from finery.core.ids import new_id

router = APIRouter(prefix="/openai/deployments/{deployment}", tags=["azure"], dependencies=[Depends(versions.check)])


class ChatOfDeployment(CreateChatCompletion):
    """A chat completion whose model is in the path."""

    model: str = ""


class CompletionOfDeployment(CreateCompletion):
    """A plain completion whose model is in the path."""

    model: str = ""


class EmbeddingsOfDeployment(CreateEmbeddings):
    """A request for embeddings whose model is in the path."""

    model: str = ""


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(plane: Plane, caller: AsksModels, deployment: str, body: ChatOfDeployment) -> Response:
    """Answer a conversation."""
    return await chat.create(plane, caller, body.model_copy(update={"model": deployment}))


@router.post("/completions", response_model=None)
async def create_completion(
    plane: Plane, caller: AsksModels, deployment: str, body: CompletionOfDeployment
) -> Response:
    """Let a text go on."""
    return await completions.create(plane, caller, body.model_copy(update={"model": deployment}))


@router.post("/embeddings")
async def create_embeddings(
    plane: Plane, caller: AsksModels, deployment: str, body: EmbeddingsOfDeployment
) -> dict[str, Any]:
    """Texts as vectors."""
    answer = await embeddings.create(plane, caller, body.model_copy(update={"model": deployment}))
    # What OpenAI's object lacks and azure-ai-inference requires.
    return {"id": new_id("embd-"), **answer}
