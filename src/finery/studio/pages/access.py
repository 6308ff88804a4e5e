"""Access: the keys of the project: whom each speaks for and what it may. A new key is shown once."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from nicegui import ui

from finery.core.roles import Role
from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.parts import box
from finery.studio.visit import Visit

_DRAFT = "access"
_DAY_SECONDS = 86400


async def show(visit: Visit) -> None:
    """Every key, without its text; and a form for a new one."""
    visit.title(visit.t("Access"))
    with parts.heading(visit.t("Access"), visit.t("Keys with which people and programs reach this project.")):
        parts.link_button(visit.t("Users and roles"), "/roles", icon="group")
    people = await visit.api.find("/finery/v1/roles/principals")
    draft = visit.draft(_DRAFT)

    async def load() -> None:
        keys = (await visit.api.get("/finery/v1/keys"))["data"]
        place.clear()
        with place:
            _draw(visit, keys, load)

    async def act() -> None:
        key = await visit.api.post("/finery/v1/keys", key_body(draft))
        visit.forget(_DRAFT)
        name.set_value("")
        made.clear()
        with made, parts.callout("good", visit.t("Copy the key now: it is shown only this once.")):
            parts.code(visit, key["key"], name=visit.t("Key"))
        await load()

    with parts.card(visit.t("New key")):
        name = _fields(visit, draft, people["data"] if people else [])
        made = box("div")
        with box("div", "actions actions--form"):
            parts.button(visit.t("Create key"), visit.guard(act), look="primary")
    place = box("div")
    await load()


def key_body(draft: dict[str, Any]) -> Json:
    """What was typed, as the API takes it: a key speaks for somebody, or has a role of its own."""
    principal = draft.get("principal") or None
    days = draft.get("days")
    return {
        "name": (draft.get("name") or "").strip(),
        "principal": principal,
        "role": None if principal else draft.get("role"),
        "expires_in": int(days * _DAY_SECONDS) if days else None,
    }


def _fields(visit: Visit, draft: dict[str, Any], people: list[Json]) -> ui.input:
    with box("div", "fields"):
        name = forms.text_field(
            draft, "name", visit.t("Name"), hint=visit.t("Who or what will use it: letters, digits, dots and dashes.")
        )
        nobody = {"": visit.t("Nobody: it has a role of its own")}
        known = nobody | {each["id"]: each["name"] for each in people}
        whom = forms.choice_field(draft, "principal", visit.t("Speaks for"), known, default="")
        roles = {role.value: role.value for role in Role}
        role = forms.choice_field(
            draft,
            "role",
            visit.t("Role"),
            roles,
            default=Role.AI_DEVELOPER.value,
            hint=visit.t("In this project; never more than you may yourself."),
        )
        forms.number_field(
            draft, "days", visit.t("Valid for, in days"), hint=visit.t("Empty: until it is revoked."), step=1
        )
    role.visible = not whom.value
    whom.on_value_change(lambda: role.set_visibility(not whom.value))
    return name


def _draw(visit: Visit, keys: list[Json], load: Callable[[], Awaitable[None]]) -> None:
    def state(key: Json) -> None:
        if key["revoked_at"]:
            parts.chip(visit.t("Revoked"))
            return
        if key["expires_at"] and key["expires_at"] <= time.time():
            parts.chip(visit.t("Expired"))
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
        [visit.t(name) for name in ("Name", "Key", "Role", "Created", "Expires", "State")],
        [
            [
                key["name"],
                key["hint"],
                key["role"] or visit.t("those of whom it speaks for"),
                parts.moment(visit, key["created_at"]),
                parts.day(key["expires_at"]) if key["expires_at"] else visit.t("never"),
                partial(state, key),
            ]
            for key in keys
        ],
    )
