"""Safety: content filter policies; what each filters, in which direction, how severe it must be, and its guard."""

from functools import partial

from finery.sdk.safety import with_guard
from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.pages import works
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_GUARDS = {
    "llama_guard": "Llama Guard",
    "qwen3_guard": "Qwen3Guard",
    "granite_guardian": "Granite Guardian",
    "shield_gemma": "ShieldGemma",
}
_OF_NETWORK = ""
"""In place of a deployment: the operator's guard on the network."""


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
    await _draw_guards(visit, found["data"])
    await works.draw(visit)


def _draw(visit: Visit, policy: Json) -> None:
    with box("div", "chips"):
        if policy["built_in"]:
            parts.chip(visit.t("built in"))
        parts.chip(visit.t("mode: {name}", name=policy["mode"]))
        parts.chip(visit.t("if the filter fails: {name}", name=policy["on_filter_error"]))
        if policy["guard"]:
            parts.chip(visit.t("guard: {name}", name=policy["guard"]["deployment"] or policy["guard"]["model"]))
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
                visit.again()

        with box("div", "actions"):
            parts.button(visit.t("Delete"), visit.guard(delete), icon="delete")


async def _draw_guards(visit: Visit, policies: list[Json]) -> None:
    """The form that gives a policy a guard model, or takes it away."""
    deployments = await visit.api.find("/finery/v1/deployments")
    draft = visit.draft("guard")
    lead = visit.t(
        "A chat model that was made to judge texts, asked besides the classifier. A new name makes a policy."
    )

    async def put(guard: Json | None) -> None:
        name = (draft.get("policy") or "").strip()
        if not name:
            visit.tell(visit.t("Say which policy gets the guard."))
            return
        there = next((one for one in policies if one["name"] == name), {})
        await visit.api.put(f"/finery/v1/policies/{part(name)}", with_guard(there, guard))
        visit.again()

    async def give() -> None:
        model = (draft.get("model") or "").strip() or None
        await put({"kind": draft["kind"], "deployment": draft.get("deployment") or None, "model": model})

    async def take() -> None:
        await put(None)

    with parts.card(visit.t("Guard models"), lead=lead):
        with box("div", "fields"):
            forms.text_field(draft, "policy", visit.t("Policy"))
            forms.choice_field(draft, "kind", visit.t("Kind"), _GUARDS, default="llama_guard")
            names = {_OF_NETWORK: visit.t("The guard on the network")}
            names |= {one["name"]: one["name"] for one in (deployments["data"] if deployments else ())}
            forms.choice_field(draft, "deployment", visit.t("Deployment"), names, default=_OF_NETWORK)
            forms.text_field(
                draft, "model", visit.t("Model"), hint=visit.t("Only for the guard on the network: its model's id.")
            )
        with box("div", "actions actions--form"):
            parts.button(visit.t("Set the guard"), visit.guard(give), look="primary")
            parts.button(visit.t("Take the guard away"), visit.guard(take))


def _state(visit: Visit, filter_: Json) -> None:
    if not filter_["enabled"]:
        Text("span", visit.t("off"), "badge badge--idle")
    elif filter_["blocking"]:
        Text("span", visit.t("blocks"), "badge badge--good")
    else:
        Text("span", visit.t("only annotates"), "badge badge--busy")
