"""/v1/embeddings."""

import base64
import struct
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import AsksModels
from finery.api.context import Plane
from finery.api.openai.chat_body import separate
from finery.control import embeddings
from finery.control.plane import ControlPlane
from finery.core.access import Caller

router = APIRouter(prefix="/v1/embeddings", tags=["embeddings"])


class CreateEmbeddings(BaseModel):
    """The body of a request for embeddings."""

    model_config = ConfigDict(extra="ignore")
    model: str
    input: str | list[str] | list[int] | list[list[int]]
    dimensions: Annotated[int, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = "float"

    def inputs(self) -> list[str | list[int]]:
        """Each input as text or token ids."""
        return separate(self.input)


@router.post("")
async def create(plane: Plane, caller: AsksModels, body: CreateEmbeddings) -> dict[str, Any]:
    """Texts as vectors."""
    return await complete(plane, caller, body)


async def complete(plane: ControlPlane, caller: Caller, body: CreateEmbeddings) -> dict[str, Any]:
    """A whole answer with embeddings."""
    vectors, tokens = await embeddings.embed(plane, caller, body.model, body.inputs(), body.dimensions)
    encode = _base64 if body.encoding_format == "base64" else list
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)
        ],
        "model": body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: list[float]) -> str:
    """Little-endian float32, as the SDK asks for it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
