"""Access: the keys of the project. A new key is shown once."""

from collections.abc import Awaitable, Callable
from functools import partial

from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.parts import box
from finery.studio.visit import Visit

_DRAFT = "access"


async def show(visit: Visit) -> None:
    """Every key, without its text; and a form for a new one."""
    visit.title(visit.t("Access"))
    parts.title(visit.t("Access"), visit.t("Keys with which people and programs reach this project."))
    draft = visit.draft(_DRAFT)
    with parts.card(visit.t("New key")):
        with box("div", "fields"):
            name = forms.text_field(draft, "name", visit.t("Name"), hint=visit.t("Who or what will use it."))
        made = box("div")
        with box("div", "actions actions--form"):
            create = parts.button(visit.t("Create key"), lambda: None, look="primary")
    place = box("div")

    async def load() -> None:
        keys = (await visit.api.get("/finery/v1/keys"))["data"]
        place.clear()
        with place:
            _draw(visit, keys, load)

    async def act() -> None:
        key = await visit.api.post("/finery/v1/keys", {"name": (draft.get("name") or "").strip()})
        visit.forget(_DRAFT)
        name.set_value("")
        made.clear()
        with made, parts.callout("good", visit.t("Copy the key now: it is shown only this once.")):
            parts.code(visit, key["key"], name=visit.t("Key"))
        await load()

    create.on_click(visit.guard(act))
    await load()


def _draw(visit: Visit, keys: list[Json], load: Callable[[], Awaitable[None]]) -> None:
    def revoke_button(key: Json) -> None:
        if key["revoked_at"]:
            parts.chip(visit.t("Revoked"))
            return

        async def revoke() -> None:
            if await parts.confirm(
                visit,
                visit.t("Revoke the key {name}?", name=key["name"]),
                visit.t("Whatever uses it is refused from now on."),
                act=visit.t("Revoke the key"),
            ):
                await visit.api.delete(f"/finery/v1/keys/{part(key['id'])}")
                await load()

        parts.button(visit.t("Revoke"), visit.guard(revoke))

    parts.table(
        visit.t("Keys"),
        [visit.t("Name"), visit.t("Key"), visit.t("Created"), visit.t("State")],
        [
            [key["name"], key["hint"], parts.moment(visit, key["created_at"]), partial(revoke_button, key)]
            for key in keys
        ],
    )
