"""/finery/v1/protected_works: texts that completions are not to repeat."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsSafety, WritesSafety
from finery.api.context import Plane
from finery.control import works
from finery.core.records import Record

router = APIRouter(prefix="/finery/v1/protected_works", tags=["policies"])


class PutWork(BaseModel):
    """The body of a work: its text, or the id of an uploaded file with it."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=works.MAX_WORK_BYTES)] | None = None
    file_id: str | None = None
    description: Annotated[str, Field(max_length=works.MAX_DESCRIPTION)] = ""


@router.get("")
def list_works(plane: Plane, caller: ReadsSafety) -> dict[str, Any]:
    """The project's protected works."""
    found = [_work(work) for work in works.list_all(plane, caller)]
    return {"object": "list", "data": found, "has_more": False}


@router.put("/{name}")
def put(plane: Plane, caller: WritesSafety, name: str, body: PutWork) -> dict[str, Any]:
    """Take a work in, or another text under its name. Hashes of its runs of words are kept, no text."""
    made = works.put(plane, caller, name, text=body.text, file_id=body.file_id, description=body.description)
    return _work(made)


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsSafety, name: str) -> dict[str, Any]:
    """One work, without its text: that isn't kept."""
    return _work(works.get(plane, caller, name))


@router.delete("/{name}")
def delete(plane: Plane, caller: WritesSafety, name: str) -> dict[str, Any]:
    """Forget a work."""
    works.delete(plane, caller, name)
    return {"name": name, "object": "protected_work", "deleted": True}


def _work(work: Record) -> dict[str, Any]:
    return {
        "name": work.owner,
        "object": "protected_work",
        "description": work.body["description"],
        "runs": work.body["runs"],
        "words_per_run": works.WORDS,
        "created_at": work.created_at,
    }
