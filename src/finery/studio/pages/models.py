"""Models: the tuned ones of the project; and one of them, with where it comes from and how it is deleted."""

import asyncio
from functools import partial

from nicegui.element import Element

from finery.sdk.wire import ApiError, Json
from finery.studio import parts
from finery.studio.client import part
from finery.studio.parts import box
from finery.studio.visit import Visit

_PAGE = 25


OFFERED = 100
"""Tuned models in a list to choose from, the newest: nobody looks through more, and a browser draws them slowly."""


def offered(models: list[Json], *chosen: str | None) -> list[Json]:
    """Of `/v1/models`, what stands in a list to choose from: bases, the newest tuned ones, and what was chosen."""
    bases = [model for model in models if not model.get("job_id")]
    tuned = [model for model in models if model.get("job_id")]
    kept = [model for model in tuned[OFFERED:] if model["id"] in chosen]
    return bases + tuned[:OFFERED] + kept


def older(visit: Visit, models: list[Json]) -> str:
    """Where the tuned models are that `offered` leaves out; empty where it leaves out none."""
    surplus = sum(1 for model in models if model.get("job_id")) > OFFERED
    return visit.t("The newest {n}; an older one is opened under Models.", n=OFFERED) if surplus else ""


async def show(visit: Visit, after: str = "") -> None:
    """A page of tuned models, newest first; `after` is the last model of the page before."""
    visit.title(visit.t("Models"))
    with parts.heading(visit.t("Models"), visit.t("Fine-tuned models of this project.")):
        parts.link_button(visit.t("Fine-tune a model"), "/fine-tune", icon="add", primary=True)
    models = [model for model in (await visit.api.get("/v1/models"))["data"] if model.get("job_id")]
    if not models:
        with parts.empty(
            "widgets", visit.t("No tuned models yet"), visit.t("When a job is completed, its model stands here.")
        ):
            parts.link_button(visit.t("Fine-tune a model"), "/fine-tune", primary=True)
        return
    names = [model["id"] for model in models]
    begin = names.index(after) + 1 if after in names else 0
    shown = models[begin : begin + _PAGE]
    parts.table(
        visit.t("Models"),
        [visit.t("Name"), visit.t("Base model"), visit.t("Created"), visit.t("Job")],
        [
            [
                partial(parts.link, model["id"], f"/models/{model['id']}"),
                model["parent"],
                parts.moment(visit, model["created"]),
                partial(parts.link, visit.t("Job"), f"/fine-tuning/{model['job_id']}"),
            ]
            for model in shown
        ],
    )
    with box("nav", "pager", aria_label=visit.t("More models")):
        if begin:
            parts.link_button(visit.t("Newest"), "/models", icon="first_page")
        if begin + _PAGE < len(models):
            parts.link_button(visit.t("Older"), f"/models?after={part(shown[-1]['id'])}", icon="chevron_right")


async def show_model(visit: Visit, name: str) -> None:
    """One tuned model."""
    visit.title(name)
    model, deployments = await asyncio.gather(
        visit.api.get(f"/v1/models/{part(name)}"), visit.api.get("/finery/v1/deployments")
    )
    used_by = [found for found in deployments["data"] if found["model"] == name]
    parts.link(visit.t("All models"), "/models", "back")
    with parts.heading(name):

        async def delete() -> None:
            await delete_model(visit, name, refusal)

        if model.get("job_id"):
            parts.button(visit.t("Delete"), visit.guard(delete), icon="delete")
        parts.link_button(visit.t("Try it"), f"/playground?model={name}", icon="forum")
        parts.link_button(visit.t("Deploy"), f"/deploy?model={name}", icon="rocket_launch", primary=True)
    refusal = box("div")
    with parts.card(visit.t("Facts")):
        parts.facts(_facts(visit, model))
    with parts.card(visit.t("Deployments")):
        if used_by:
            _deployments(visit, used_by)
        else:
            parts.Text("p", visit.t("It isn't deployed. Deploy it to use it in your own application."), "lead")


async def delete_model(visit: Visit, name: str, refusal: Element) -> None:
    """Delete a tuned model, once somebody is sure; why it may not be, and the way out, stand in `refusal`."""
    sure = await parts.confirm(
        visit,
        visit.t("Delete this model?"),
        visit.t("The model and its checkpoints are gone for good."),
        act=visit.t("Delete the model"),
    )
    if not sure:
        return
    try:
        await visit.api.delete(f"/v1/models/{part(name)}")
    except ApiError as error:
        refusal.clear()
        with refusal, parts.callout("bad", error.message):
            parts.link_button(visit.t("Go to the deployments"), "/deployments", icon="rocket_launch")
        return
    visit.tell(visit.t("The model is deleted."), good=True)
    visit.go("/models")


def _facts(visit: Visit, model: Json) -> list[tuple[str, parts.Cell]]:
    pairs: list[tuple[str, parts.Cell]] = []
    if model.get("parent"):
        pairs.append((visit.t("Base model"), lambda: parts.link(model["parent"], f"/catalog/{model['parent']}")))
    if model.get("job_id"):
        pairs.append((visit.t("Job"), lambda: parts.link(model["job_id"], f"/fine-tuning/{model['job_id']}")))
    pairs.append((visit.t("Created"), parts.moment(visit, model["created"])))
    return pairs


def _deployments(visit: Visit, deployments: list[Json]) -> None:
    parts.table(
        visit.t("Deployments"),
        [visit.t("Name"), visit.t("Status")],
        [
            [
                partial(parts.link, found["name"], f"/deployments/{found['name']}"),
                partial(parts.badge, visit, found["status"]),
            ]
            for found in deployments
        ],
    )
