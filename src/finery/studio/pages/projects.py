"""Projects: all that one may see, and the wizard for a new one, in the guide's words: hub name, subscription, resource
group, location, connections."""

import asyncio
from functools import partial
from typing import Any

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.shell import PROJECT
from finery.studio.visit import Visit

_DRAFT = "new-project"
_NEW_HUB = ""


async def show(visit: Visit) -> None:
    """Every project."""
    visit.title(visit.t("Projects"))
    with parts.heading(visit.t("Projects"), visit.t("Each keeps its own data, jobs, models, deployments and keys.")):
        parts.link_button(visit.t("New project"), "/new-project", icon="add", primary=True)
    projects = await visit.api.find("/finery/v1/projects")
    if projects is None:
        parts.say("note", visit.t("This server doesn't offer projects, or your key may not see them."))
        return
    hubs = {hub["id"]: hub for hub in (await visit.api.get("/finery/v1/hubs"))["data"]}
    parts.table(
        visit.t("Projects"),
        [visit.t("Name"), visit.t("Hub"), visit.t("Resource group"), visit.t("Location"), visit.t("Created"), ""],
        [
            [
                partial(_name, visit, project),
                hubs.get(project["hub_id"], {}).get("name", "–"),
                hubs.get(project["hub_id"], {}).get("resource_group", "–"),
                hubs.get(project["hub_id"], {}).get("location", "–"),
                parts.moment(visit, project["created_at"]),
                "" if project["current"] else partial(_enter_button, visit, project["name"]),
            ]
            for project in projects["data"]
        ],
    )
    await _providers(visit)


async def show_new(visit: Visit) -> None:
    """The wizard."""
    visit.title(visit.t("New project"))
    hubs, subscriptions, locations = await asyncio.gather(
        visit.api.get("/finery/v1/hubs"),
        visit.api.get("/finery/v1/subscriptions"),
        visit.api.get("/finery/v1/locations"),
    )
    draft = visit.draft(_DRAFT)
    parts.link(visit.t("All projects"), "/projects", "back")
    parts.title(visit.t("New project"))
    with parts.card():
        with box("div", "fields"):
            forms.text_field(draft, "project", visit.t("Project name"), hint=visit.t("Must be unique in the hub."))
            options = {_NEW_HUB: visit.t("Create a new hub")} | {hub["name"]: hub["name"] for hub in hubs["data"]}
            hub = forms.choice_field(draft, "hub", visit.t("Hub"), options, default=next(iter(reversed(options))))
        fresh = box("div", "fields")
        with fresh:
            _hub_fields(visit, draft, subscriptions["data"], locations["data"])
        fresh.visible = not hub.value
        hub.on_value_change(lambda: fresh.set_visibility(not hub.value))
        said = box("div")

        async def create() -> None:
            said.clear()
            fault = _fault(visit, draft)
            if fault:
                with said:
                    forms.fault(fault)
                return
            await _create(visit, draft)
            visit.forget(_DRAFT)
            said.clear()
            with said:
                _made(visit, draft["project"].strip())

        with box("div", "actions actions--form"):
            parts.button(visit.t("Create a project"), visit.guard(create), look="primary").mark("submit")


def _hub_fields(visit: Visit, draft: dict[str, Any], subscriptions: list[Json], locations: list[Json]) -> None:
    named = {one["id"]: one["name"] for one in subscriptions}
    places = {one["name"]: one["display_name"] for one in locations}
    forms.text_field(draft, "hub_name", visit.t("Hub name"), hint=visit.t("Must be unique."))
    forms.choice_field(draft, "subscription", visit.t("Subscription"), named, default=next(iter(named), None))
    forms.text_field(draft, "resource_group", visit.t("Resource group"), placeholder="default")
    forms.choice_field(draft, "location", visit.t("Location"), places, default=next(iter(places), None))
    forms.text_field(
        draft,
        "ai_services",
        visit.t("Connect Azure AI Services"),
        placeholder="https://…",
        hint=visit.t("Address of a service; empty to skip connecting."),
    )
    forms.text_field(
        draft,
        "ai_search",
        visit.t("Connect Azure AI Search"),
        placeholder="https://…",
        hint=visit.t("Address of a service; empty to skip connecting."),
    )


def _fault(visit: Visit, draft: dict[str, Any]) -> str:
    if not (draft.get("project") or "").strip():
        return visit.t("Give the project a name.")
    if not draft.get("hub") and not (draft.get("hub_name") or "").strip():
        return visit.t("Give the hub a name.")
    return ""


async def _create(visit: Visit, draft: dict[str, Any]) -> None:
    """The hub, if it is a new one; its connections; the project. A second try goes on where the first one stopped."""
    hub = draft.get("hub")
    if not hub:
        hub = draft["hub_name"].strip()
        group = (draft.get("resource_group") or "").strip() or None
        await visit.api.post(
            "/finery/v1/hubs", {"name": hub, "resource_group": group, "location": draft.get("location")}
        )
        draft["hub"] = hub
        for name, category in (("ai_services", "AIServices"), ("ai_search", "CognitiveSearch")):
            target = (draft.get(name) or "").strip()
            if target:
                body = {"name": name.replace("_", "-"), "category": category, "target": target}
                await visit.api.post(f"/finery/v1/hubs/{part(hub)}/connections", body)
    await visit.api.post("/finery/v1/projects", {"name": draft["project"].strip(), "hub": hub})


def _made(visit: Visit, name: str) -> None:
    with parts.callout("good", visit.t("The project {name} is created.", name=name)):
        _enter_button(visit, name)


def _name(visit: Visit, project: Json) -> None:
    Text("span", project["name"])
    if project["current"]:
        Text("span", visit.t("you are here"), "badge badge--good")


def _enter_button(visit: Visit, name: str) -> None:
    """The Studio, from now on about that project. A form: the server remembers which one it is."""
    with box("form", method="post", action=PROJECT):
        box("input", type_="hidden", name="project", value=name)
        with box("button", "button", type_="submit", aria_label=visit.t("Open the project {name}", name=name)):
            Text("span", visit.t("Open"))


async def _providers(visit: Visit) -> None:
    found = await visit.api.find("/finery/v1/providers")
    if not found:
        return
    with parts.card(visit.t("Resource providers"), lead=visit.t("What the subscription has registered.")):
        place = box("div")

        def draw(providers: list[Json]) -> None:
            place.clear()
            with place:
                parts.table(
                    visit.t("Resource providers"),
                    [visit.t("Provider"), visit.t("State"), visit.t("Missing on this machine"), ""],
                    [
                        [
                            each["namespace"],
                            each["registration_state"],
                            ", ".join(each["missing"]) or "–",
                            partial(register_button, each),
                        ]
                        for each in providers
                    ],
                )

        def register_button(each: Json) -> None:
            if each["registered_at"]:
                ui.icon("check_circle").classes("step__icon--done")
                return

            async def register() -> None:
                await visit.api.post(f"/finery/v1/providers/{part(each['namespace'])}/register")
                draw((await visit.api.get("/finery/v1/providers"))["data"])

            parts.button(visit.t("Register"), visit.guard(register))

        draw(found["data"])
