"""Quotas: how much the project may have at once, how much it has, and who can raise it."""

from functools import partial

from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

QUOTAS = {
    "running_jobs": "Jobs that run at once",
    "queued_jobs": "Jobs that wait",
    "files": "Files",
    "bytes": "Bytes of files",
    "deployments": "Deployments",
}
"""What is counted, as the API and as people call it."""

_DRAFT = "quotas"


async def show(visit: Visit) -> None:
    """Every quota, and a form for a limit."""
    visit.title(visit.t("Quotas"))
    parts.title(visit.t("Quotas"), visit.t("How much this project may have at once."))
    draft = visit.draft(_DRAFT)
    place = box("div")

    async def load() -> None:
        found = (await visit.api.get("/finery/v1/quotas"))["data"]
        place.clear()
        with place:
            _draw(visit, found)

    async def act() -> None:
        limit = draft.get("limit")
        body = {"limit": None if limit is None else int(limit)}
        await visit.api.put(f"/finery/v1/quotas/{part(draft['quota'])}", body)
        visit.forget(_DRAFT)
        await load()
        visit.tell(visit.t("The quota is set."), good=True)

    await load()
    with parts.card(visit.t("Set a limit"), lead=visit.t("Owners and contributors of the hub may; a project may not.")):
        with box("div", "fields"):
            names = {name: visit.t(label) for name, label in QUOTAS.items()}
            forms.choice_field(draft, "quota", visit.t("Quota"), names, default="running_jobs")
            forms.number_field(draft, "limit", visit.t("Limit"), hint=visit.t("Empty: no limit."), step=1)
        with box("div", "actions actions--form"):
            parts.button(visit.t("Set the limit"), visit.guard(act), look="primary")


def _draw(visit: Visit, quotas: list[Json]) -> None:
    parts.table(
        visit.t("Quotas"),
        [visit.t("Quota"), visit.t("Used"), visit.t("Limit"), visit.t("Share")],
        [
            [
                visit.t(str(QUOTAS.get(quota["name"], quota["name"]))),
                _amount(quota["name"], quota["used"]),
                visit.t("none") if quota["limit"] is None else _amount(quota["name"], quota["limit"]),
                partial(_share, visit, quota),
            ]
            for quota in quotas
        ],
    )


def _share(visit: Visit, quota: Json) -> None:
    if quota["limit"] is None:
        Text("span", "–")
    else:
        parts.meter(visit.t("Share of the limit that is used"), quota["used"], quota["limit"])


def _amount(name: str, number: int) -> str:
    return parts.size(number) if name == "bytes" else f"{number:,}"
