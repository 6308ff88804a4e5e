"""Safety: content filter policies; what each filters, in which direction, and how severe it must be."""

from functools import partial

from finery.sdk.wire import Json
from finery.studio import parts
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_THRESHOLDS = ("Low", "Medium", "High")


async def show(visit: Visit) -> None:
    """Every policy."""
    visit.title(visit.t("Safety"))
    parts.title(
        visit.t("Safety"),
        visit.t("Content filter policies: what prompts and completions pass through."),
    )
    found = await visit.api.find("/finery/v1/policies")
    if found is None:
        parts.say("note", visit.t("This server doesn't offer content filters, or your key may not see them."))
        return
    for policy in found["data"]:
        with parts.card(policy["name"]):
            _draw(visit, policy)


def _draw(visit: Visit, policy: Json) -> None:
    with box("div", "chips"):
        if policy["built_in"]:
            parts.chip(visit.t("built in"))
        parts.chip(visit.t("mode: {name}", name=policy["mode"]))
        parts.chip(visit.t("if the filter fails: {name}", name=policy["on_filter_error"]))
        if policy["weaker_than_default"]:
            Text("span", visit.t("weaker than the default"), "badge badge--bad")
    parts.table(
        visit.t("Filters"),
        [visit.t("Category"), visit.t("Where"), visit.t("State"), visit.t("From which severity")],
        [
            [
                filter_["name"],
                visit.t(str(filter_["source"])),
                partial(_state, visit, filter_),
                visit.t(filter_["severity_threshold"]) if filter_["severity_threshold"] else "–",
            ]
            for filter_ in policy["content_filters"]
        ],
    )
    if not policy["built_in"]:

        async def delete() -> None:
            if await parts.confirm(
                visit,
                visit.t("Delete this policy?"),
                visit.t("No deployment may be under it any more."),
                act=visit.t("Delete the policy"),
            ):
                await visit.api.delete(f"/finery/v1/policies/{part(policy['name'])}")
                visit.go("/safety?deleted=" + part(policy["name"]))

        with box("div", "actions"):
            parts.button(visit.t("Delete"), visit.guard(delete), icon="delete")


def _state(visit: Visit, filter_: Json) -> None:
    if not filter_["enabled"]:
        Text("span", visit.t("off"), "badge badge--idle")
    elif filter_["blocking"]:
        Text("span", visit.t("blocks"), "badge badge--good")
    else:
        Text("span", visit.t("only annotates"), "badge badge--busy")
