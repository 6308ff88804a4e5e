"""Deployments; and one endpoint: its state, ready code, and how it is taken down."""

import asyncio
from functools import partial

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import parts, snippets
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_POLL_SECONDS = 1.0


async def show(visit: Visit) -> None:
    """Every deployment."""
    visit.title(visit.t("Deployments"))
    with parts.heading(visit.t("Deployments"), visit.t("Names under which models answer.")):
        parts.link_button(visit.t("Deploy a model"), "/deploy", icon="add", primary=True)
    found = (await visit.api.get("/finery/v1/deployments"))["data"]
    if not found:
        with parts.empty(
            "rocket_launch",
            visit.t("No deployments yet"),
            visit.t("Deploy a model, and any OpenAI or Azure client can talk to it."),
        ):
            parts.link_button(visit.t("Deploy a model"), "/deploy", primary=True)
        return
    parts.table(
        visit.t("Deployments"),
        [visit.t("Name"), visit.t("Model"), visit.t("Status"), visit.t("Created")],
        [
            [
                partial(parts.link, each["name"], f"/deployments/{each['name']}"),
                each["model"],
                partial(parts.badge, visit, each["status"]),
                parts.moment(visit, each["created_at"]),
            ]
            for each in found
        ],
    )


async def show_deployment(visit: Visit, name: str) -> None:
    """One deployment."""
    visit.title(name)
    path = f"/finery/v1/deployments/{part(name)}"
    shown = await visit.api.get(path)
    parts.link(visit.t("All deployments"), "/deployments", "back")
    with parts.heading(name):

        async def delete() -> None:
            if await parts.confirm(
                visit,
                visit.t("Delete this deployment?"),
                visit.t("Programs that use its name get errors from now on. The model stays."),
                act=visit.t("Delete the deployment"),
            ):
                await visit.api.delete(path)
                visit.tell(visit.t("The deployment is deleted; its model stays."), good=True)
                visit.go("/deployments")

        parts.button(visit.t("Delete"), visit.guard(delete), icon="delete")
        parts.link_button(visit.t("Open in playground"), f"/playground?model={name}", icon="forum", primary=True)
    state = box("div", "stack")

    def draw() -> None:
        state.clear()
        with state:
            _draw_state(visit, shown)

    async def refresh() -> None:
        nonlocal shown
        fresh = await visit.api.get(path)
        if fresh != shown:
            shown = fresh
            draw()
        timer.active = shown["status"] in ("Creating", "Deleting")

    draw()
    timer = ui.timer(_POLL_SECONDS, visit.guard(refresh), active=shown["status"] == "Creating", immediate=False)
    with parts.card(visit.t("Use it from your own program")):
        _draw_code(visit, name)
    if shown["status"] == "Succeeded":
        await _draw_watch(visit, name)


def _draw_state(visit: Visit, shown: Json) -> None:
    with box("div", "chips"):
        parts.badge(visit, shown["status"])
        parts.chip(visit.t("created {when}", when=parts.moment(visit, shown["created_at"])))
    if shown["status"] == "Creating":
        with parts.callout("note", visit.t("The model is being loaded and asked a first question.")):
            ui.linear_progress(show_value=False).props(f'indeterminate aria-label="{visit.t("Creating")}"')
    if shown["status_details"]:
        parts.say("bad" if shown["status"] == "Failed" else "note", shown["status_details"])
    with parts.card(visit.t("Endpoint")):
        origin = snippets.origin(ui.context.client.request)
        parts.facts(
            [
                (visit.t("Base URL (OpenAI)"), f"{origin}/v1"),
                (visit.t("Endpoint (Azure)"), origin),
                (visit.t("Deployment name"), shown["name"]),
                (visit.t("Model"), lambda: _model_link(shown)),
                (visit.t("Base model"), shown["base_model"]),
                (visit.t("Capacity"), f"{shown['sku'].get('name')} × {shown['sku'].get('capacity')}"),
                (visit.t("Content filter"), shown["policy"] or visit.t("default")),
            ]
        )


async def _draw_watch(visit: Visit, name: str) -> None:
    """How far the traffic has moved from the training data, and whether conversations are kept for the next round."""
    path = f"/finery/v1/deployments/{part(name)}"
    drift, capture = await asyncio.gather(visit.api.find(f"{path}/drift"), visit.api.find(f"{path}/capture"))
    if drift is not None:
        with parts.card(visit.t("Drift"), lead=visit.t("The last day's traffic, against the training data.")):
            parts.table(
                visit.t("Drift"),
                [visit.t("Signal"), visit.t("Training data"), visit.t("Traffic"), visit.t("State")],
                [
                    [
                        visit.t(signal["name"].replace("_", " ")),
                        _figure(signal["baseline"]),
                        _figure(signal["live"]),
                        partial(_draw_signal, visit, signal["drifted"]),
                    ]
                    for signal in drift["signals"]
                ],
            )
    if capture is not None:
        with parts.card(visit.t("Kept conversations"), lead=visit.t("For the next round; personal data is masked.")):
            keep = ui.switch(visit.t("Keep conversations"), value=capture["enabled"])

            async def switch() -> None:
                if keep.value:
                    await visit.api.put(f"{path}/capture", {})
                else:
                    await visit.api.delete(f"{path}/capture")

            keep.on_value_change(visit.guard(switch))


def _draw_signal(visit: Visit, drifted: bool | None) -> None:
    if drifted is None:
        Text("span", visit.t("too little to tell"), "badge badge--idle")
    elif drifted:
        Text("span", visit.t("drifted"), "badge badge--bad")
    else:
        Text("span", visit.t("as trained"), "badge badge--good")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _model_link(shown: Json) -> None:
    if shown["model"] == shown["base_model"]:
        parts.link(shown["model"], f"/catalog/{shown['model']}")
    elif ":ckpt-step-" in shown["model"]:
        Text("span", shown["model"])
    else:
        parts.link(shown["model"], f"/models/{shown['model']}")


def _draw_code(visit: Visit, name: str) -> None:
    origin = snippets.origin(ui.context.client.request)
    question = [{"role": "user", "content": "Where is my parcel?"}]
    programs = {
        "openai": snippets.openai(origin, name, question),
        "azure-ai-inference": snippets.azure(origin, name, question),
        "curl": snippets.curl(origin, name, question),
    }
    with ui.tabs().props("no-caps align=left dense").classes("tabs") as tabs:
        for library in programs:
            ui.tab(library)
    with ui.tab_panels(tabs, value="openai", animated=False).classes("tab-panels"):
        for library, program in programs.items():
            with ui.tab_panel(library):
                parts.code(visit, program, name=library)
    Text("p", visit.t("Your key takes the place of $FINERY_API_KEY."), "hint")
