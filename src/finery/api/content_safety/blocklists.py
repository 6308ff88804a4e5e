"""Blocklists as Azure AI Content Safety has them."""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsSafety, WritesSafety
from finery.api.context import Plane
from finery.control import blocklists
from finery.control.blocklists import Blocklist
from finery.core.errors import NotFound
from finery.safety.blocklists import Item

router = APIRouter(prefix="/contentsafety/text/blocklists", tags=["content safety"])

MAX_ITEMS_A_CALL = 100


class PatchBlocklist(BaseModel):
    """The body that makes or describes a list."""

    model_config = ConfigDict(extra="ignore")
    description: Annotated[str, Field(max_length=1024)] | None = None


class ItemBody(BaseModel):
    """A term or an RE2 expression."""

    model_config = ConfigDict(extra="ignore")
    text: str
    description: Annotated[str, Field(max_length=1024)] | None = None
    isRegex: bool | None = False


class AddItems(BaseModel):
    """The body that fills a list."""

    blocklistItems: Annotated[list[ItemBody], Field(min_length=1, max_length=MAX_ITEMS_A_CALL)]


class RemoveItems(BaseModel):
    """The body that takes terms off a list."""

    blocklistItemIds: Annotated[list[str], Field(min_length=1, max_length=MAX_ITEMS_A_CALL)]


@router.get("")
def list_blocklists(plane: Plane, caller: ReadsSafety) -> dict[str, Any]:
    """The project's lists."""
    return {"value": [_blocklist(one) for one in blocklists.list_all(plane, caller)]}


@router.patch("/{name}", response_model=None, responses={201: {"description": "The list is new."}})
def put(plane: Plane, caller: WritesSafety, name: str, body: PatchBlocklist) -> Response:
    """Make a list, or describe it anew."""
    found, is_new = blocklists.put(plane, caller, name, body.description)
    return JSONResponse(_blocklist(found), status_code=201 if is_new else 200)


@router.post("/{name}:addOrUpdateBlocklistItems")
def add_items(plane: Plane, caller: WritesSafety, name: str, body: AddItems) -> dict[str, Any]:
    """Fill a list."""
    items = [
        Item(id="", text=item.text, description=item.description or "", is_regex=bool(item.isRegex))
        for item in body.blocklistItems
    ]
    return {"blocklistItems": [_item(item) for item in blocklists.add_items(plane, caller, name, items)]}


@router.post("/{name}:removeBlocklistItems", status_code=204)
def remove_items(plane: Plane, caller: WritesSafety, name: str, body: RemoveItems) -> None:
    """Take terms off a list."""
    blocklists.remove_items(plane, caller, name, body.blocklistItemIds)


@router.get("/{name}")
def retrieve(plane: Plane, caller: ReadsSafety, name: str) -> dict[str, Any]:
    """One list, without its terms."""
    return _blocklist(blocklists.get(plane, caller, name))


@router.delete("/{name}", status_code=204)
def delete(plane: Plane, caller: WritesSafety, name: str) -> None:
    """Delete a list that no policy uses."""
    blocklists.delete(plane, caller, name)


@router.get("/{name}/blocklistItems")
def list_items(plane: Plane, caller: ReadsSafety, name: str, top: int = 10_000, skip: int = 0) -> dict[str, Any]:
    """A list's terms."""
    items = blocklists.get(plane, caller, name).items
    return {"value": [_item(item) for item in items[max(skip, 0) :][: max(top, 0)]]}


@router.get("/{name}/blocklistItems/{item_id}")
def retrieve_item(plane: Plane, caller: ReadsSafety, name: str, item_id: str) -> dict[str, Any]:
    """One term."""
    for item in blocklists.get(plane, caller, name).items:
        if item.id == item_id:
            return _item(item)
    raise NotFound(f"The blocklist '{name}' has no item {item_id!r}.", code="NotFound")


def _blocklist(found: Blocklist) -> dict[str, Any]:
    return {"blocklistName": found.name, "description": found.description}


def _item(item: Item) -> dict[str, Any]:
    return {
        "blocklistItemId": item.id,
        "text": item.text,
        "description": item.description,
        "isRegex": item.is_regex,
    }
