"""/tokenize, /detokenize and /tokenizer_info, as vLLM has them: evaluation harnesses ask there. Under /v1 as well."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from finery.api.access import AsksModels
from finery.api.context import Plane
from finery.control import texts

router = APIRouter(tags=["tokens"])


class Tokenize(BaseModel):
    """A text or a conversation."""

    model_config = ConfigDict(extra="ignore")
    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool | None = False

    @model_validator(mode="after")
    def _one_of_both(self) -> "Tokenize":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages")
        return self


class Detokenize(BaseModel):
    """Tokens."""

    model_config = ConfigDict(extra="ignore")
    model: str | None = None
    tokens: Annotated[list[int], Field(max_length=1_000_000)]


@router.post("/tokenize")
def tokenize(plane: Plane, caller: AsksModels, body: Tokenize) -> dict[str, Any]:
    """Tokens of a text or a conversation."""
    found = texts.tokenize(
        plane,
        caller,
        body.model,
        text=body.prompt,
        messages=body.messages,
        special_tokens=body.add_special_tokens,
    )
    return {
        "count": len(found.tokens),
        "max_model_len": found.context_tokens,
        "tokens": found.tokens,
        "token_strs": found.strings if body.return_token_strs else None,
    }


@router.post("/detokenize")
def detokenize(plane: Plane, caller: AsksModels, body: Detokenize) -> dict[str, Any]:
    """The text of tokens."""
    return {"prompt": texts.detokenize(plane, caller, body.model, body.tokens)}


@router.get("/tokenizer_info")
def tokenizer_info(plane: Plane, caller: AsksModels, model: str | None = None) -> dict[str, Any]:
    """The tokenizer's configuration."""
    return texts.tokenizer_info(plane, caller, model)
