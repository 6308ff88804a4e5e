"""Protected works on the page Safety: what is protected, one more, one less."""

from functools import partial

from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_ADDRESS = "/finery/v1/protected_works"
_DRAFT = "protected_work"


async def draw(visit: Visit) -> None:
    """The card of the works; nothing where the key may not see them."""
    if await visit.api.find(_ADDRESS) is None:
        return
    await _Works(visit).begin()


class _Works:
    """The works, drawn anew after each change."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._draft = visit.draft(_DRAFT)

    async def begin(self) -> None:
        visit = self._visit
        lead = visit.t("Texts that completions are not to repeat. Hashes of their runs of words are kept, no text.")
        with parts.card(visit.t("Protected works"), lead=lead):
            self._there = box("div")
            with box("div", "fields"):
                self._name = forms.text_field(self._draft, "name", visit.t("Name"))
                self._about = forms.text_field(self._draft, "description", visit.t("Description"))
            self._text = forms.area_field(self._draft, "text", visit.t("Text of the work"))
            with box("div", "actions actions--form"):
                parts.button(visit.t("Protect it"), visit.guard(self._add), look="primary")
        await self._load()

    async def _load(self) -> None:
        found = (await self._visit.api.get(_ADDRESS))["data"]
        self._there.clear()
        with self._there:
            self._table(found)

    def _table(self, found: list[Json]) -> None:
        visit = self._visit
        if not found:
            Text("p", visit.t("Nothing is protected yet."), "lead")
            return
        parts.table(
            visit.t("Protected works"),
            [visit.t("Name"), visit.t("Description"), visit.t("Runs of words"), visit.t("Added"), ""],
            [
                [
                    one["name"],
                    one["description"] or "–",
                    f"{one['runs']:,}",
                    parts.moment(visit, one["created_at"]),
                    partial(parts.button, visit.t("Delete"), visit.guard(partial(self._delete, one["name"]))),
                ]
                for one in found
            ],
        )

    async def _add(self) -> None:
        visit, draft = self._visit, self._draft
        name, text = (draft.get("name") or "").strip(), draft.get("text") or ""
        if not name or not text.strip():
            visit.tell(visit.t("Give the work a name and its text."))
            return
        about = (draft.get("description") or "").strip()
        await visit.api.put(f"{_ADDRESS}/{part(name)}", {"text": text, "description": about})
        for field in (self._name, self._about, self._text):
            field.set_value("")
        await self._load()
        visit.tell(visit.t("{name} is protected now.", name=name), good=True)

    async def _delete(self, name: str) -> None:
        visit = self._visit
        if await parts.confirm(
            visit,
            visit.t("Delete {name}?", name=name),
            visit.t("Completions may repeat it from now on."),
            act=visit.t("Delete {name}", name=name),
        ):
            await visit.api.delete(f"{_ADDRESS}/{part(name)}")
            await self._load()
