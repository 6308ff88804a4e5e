"""Users and roles: who is known, which role they have where, and what a role may."""

import asyncio
from functools import partial
from typing import Any

from finery.core.roles import Role, permissions_of
from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

KINDS = {"User": "User", "ServicePrincipal": "Service principal"}
"""Who can hold roles, as the API and as people call it."""

_PERSON_DRAFT, _ROLE_DRAFT = "principal", "role"
_EVERYWHERE = ""


async def show(visit: Visit) -> None:
    """People and programs, their roles, and the table of roles."""
    visit.title(visit.t("Users and roles"))
    with parts.heading(visit.t("Users and roles"), visit.t("Who may what, and where. Keys speak for one of them.")):
        parts.link_button(visit.t("Keys"), "/access", icon="vpn_key")
    if await visit.api.find("/finery/v1/roles/assignments") is None:
        parts.say("note", visit.t("Your key may not read roles. Owners, contributors and auditors may."))
    else:
        page = _Page(visit)
        await page.begin()
    with parts.card(visit.t("What a role may")):
        parts.table(
            visit.t("Roles"),
            [visit.t("Role"), visit.t("Permissions")],
            [[role.value, partial(_chips, sorted(permissions_of(role)))] for role in Role],
        )


class _Page:
    """People, and who was given what; drawn anew after each change."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._person = visit.draft(_PERSON_DRAFT)
        self._role = visit.draft(_ROLE_DRAFT)
        self._people: list[Json] = []
        self._places: dict[str, str] = {}

    async def begin(self) -> None:
        visit = self._visit
        hubs, projects = await asyncio.gather(visit.api.find("/finery/v1/hubs"), visit.api.find("/finery/v1/projects"))
        for noun, found in (("hub", hubs), ("project", projects)):
            for each in found["data"] if found else ():
                self._places[each["id"]] = f"{noun}:{each['name']}"
        with parts.card(visit.t("Role assignments"), lead=visit.t("What is given at a hub holds in all its projects.")):
            self._given = box("div")
            with box("div", "fields"):
                self._who = forms.choice_field(self._role, "principal", visit.t("Who"), {})
                roles = {role.value: role.value for role in Role}
                forms.choice_field(self._role, "role", visit.t("Role"), roles, default=Role.AI_DEVELOPER.value)
                where = {_EVERYWHERE: visit.t("The whole subscription")}
                where |= {place: self._place(place) for place in self._places.values()}
                forms.choice_field(self._role, "where", visit.t("Where"), where, default=list(where)[-1])
            with box("div", "actions actions--form"):
                parts.button(visit.t("Give the role"), visit.guard(self._assign), look="primary")
        with parts.card(visit.t("Users and service principals")):
            self._known = box("div")
            with box("div", "fields"):
                self._name = forms.text_field(self._person, "name", visit.t("Name"))
                kinds = {kind: visit.t(label) for kind, label in KINDS.items()}
                forms.choice_field(self._person, "kind", visit.t("Kind"), kinds, default="User")
                forms.text_field(
                    self._person,
                    "subject",
                    visit.t("Subject"),
                    hint=visit.t("What an identity provider calls them; empty if none does."),
                )
            with box("div", "actions actions--form"):
                parts.button(visit.t("Add"), visit.guard(self._add), look="primary")
        await self._load()

    async def _load(self) -> None:
        visit = self._visit
        people, given = await asyncio.gather(
            visit.api.get("/finery/v1/roles/principals"), visit.api.get("/finery/v1/roles/assignments")
        )
        self._people = people["data"]
        self._who.set_options({each["id"]: each["name"] for each in self._people})
        self._draw_given(given["data"])
        self._draw_people()

    def _draw_given(self, given: list[Json]) -> None:
        visit = self._visit
        names = {each["id"]: each["name"] for each in self._people}
        self._given.clear()
        with self._given:
            if not given:
                Text("p", visit.t("Nobody was given a role yet; the keys of this server have their own."), "lead")
                return
            parts.table(
                visit.t("Role assignments"),
                [visit.t("Who"), visit.t("Role"), visit.t("Where"), visit.t("Given"), ""],
                [
                    [
                        str(names.get(each["principal_id"], each["principal_id"])),
                        each["role"],
                        self._scope(each),
                        parts.moment(visit, each["created_at"]),
                        partial(parts.button, visit.t("Take back"), visit.guard(partial(self._take_back, each["id"]))),
                    ]
                    for each in given
                ],
            )

    def _draw_people(self) -> None:
        visit = self._visit
        self._known.clear()
        with self._known:
            if not self._people:
                Text("p", visit.t("Nobody is known by name yet."), "lead")
                return
            parts.table(
                visit.t("Users and service principals"),
                [visit.t("Name"), visit.t("Kind"), visit.t("Subject"), visit.t("Created"), ""],
                [
                    [
                        each["name"],
                        visit.t(KINDS[each["kind"]]),
                        each["subject"] or "–",
                        parts.moment(visit, each["created_at"]),
                        partial(parts.button, visit.t("Delete"), visit.guard(partial(self._delete, each["name"]))),
                    ]
                    for each in self._people
                ],
            )

    def _scope(self, assignment: Json) -> str:
        place = assignment["project_id"] or assignment["hub_id"]
        if not place:
            return self._visit.t("The whole subscription")
        return self._place(self._places[place]) if place in self._places else str(place)

    def _place(self, place: str) -> str:
        noun, _, name = place.partition(":")
        return self._visit.t("Hub {name}", name=name) if noun == "hub" else self._visit.t("Project {name}", name=name)

    async def _add(self) -> None:
        visit, draft = self._visit, self._person
        name = (draft.get("name") or "").strip()
        if not name:
            visit.tell(visit.t("Give the user or service principal a name."))
            return
        body = {"name": name, "kind": draft["kind"], "subject": (draft.get("subject") or "").strip() or None}
        made = await visit.api.post("/finery/v1/roles/principals", body)
        self._role["principal"] = made["id"]
        self._name.set_value("")
        draft.pop("subject", None)
        await self._load()
        self._who.set_value(made["id"])
        visit.tell(visit.t("{name} is known now; give them a role.", name=name), good=True)

    async def _assign(self) -> None:
        visit, draft = self._visit, self._role
        if not draft.get("principal"):
            visit.tell(visit.t("Choose who is given the role."))
            return
        noun, _, name = (draft.get("where") or "").partition(":")
        body: dict[str, Any] = {"principal": draft["principal"], "role": draft["role"]}
        await visit.api.post("/finery/v1/roles/assignments", body | ({noun: name} if noun else {}))
        await self._load()
        visit.tell(visit.t("The role is given."), good=True)

    async def _take_back(self, assignment_id: str) -> None:
        visit = self._visit
        if await parts.confirm(
            visit,
            visit.t("Take this role back?"),
            visit.t("It holds no more from now on, for keys too."),
            act=visit.t("Take the role back"),
        ):
            await visit.api.delete(f"/finery/v1/roles/assignments/{part(assignment_id)}")
            await self._load()

    async def _delete(self, name: str) -> None:
        visit = self._visit
        if await parts.confirm(
            visit,
            visit.t("Delete {name}?", name=name),
            visit.t("Their roles go with them, and their keys are revoked."),
            act=visit.t("Delete {name}", name=name),
        ):
            await visit.api.delete(f"/finery/v1/roles/principals/{part(name)}")
            await self._load()


def _chips(texts: list[str]) -> None:
    with box("div", "chips"):
        for text in texts:
            parts.chip(text)
