"""Fine-tuning: all jobs, newest first."""

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import parts
from finery.studio.pages.home import jobs_table
from finery.studio.parts import box
from finery.studio.visit import Visit

_PAGE = 25
_LIVE_SECONDS = 3.0
_LIVE = {"validating_files", "queued", "running", "pausing"}


async def show(visit: Visit, after: str = "") -> None:
    """A page of jobs; `after` is the last job of the page before."""
    visit.title(visit.t("Fine-tuning"))
    with parts.heading(visit.t("Fine-tuning"), visit.t("Jobs of this project, newest first.")):
        parts.link_button(visit.t("Fine-tune a model"), "/fine-tune", icon="add", primary=True)
    place = box("div")

    async def load() -> list[Json]:
        page = await visit.api.get("/v1/fine_tuning/jobs", limit=_PAGE, after=after or None)
        place.clear()
        with place:
            _draw(visit, page, after)
        jobs: list[Json] = page["data"]
        return jobs

    shown = await load()

    async def refresh() -> None:
        nonlocal shown
        if any(job["status"] in _LIVE for job in shown):
            fresh = await visit.api.get("/v1/fine_tuning/jobs", limit=_PAGE, after=after or None)
            if fresh["data"] != shown:
                shown = await load()

    ui.timer(_LIVE_SECONDS, visit.guard(refresh), immediate=False)


def _draw(visit: Visit, page: Json, after: str) -> None:
    if not page["data"] and not after:
        with parts.empty(
            "model_training",
            visit.t("No jobs yet"),
            visit.t("Choose a model and your data, and watch the loss fall."),
        ):
            parts.link_button(visit.t("Fine-tune a model"), "/fine-tune", primary=True)
        return
    jobs_table(visit, page["data"])
    with box("nav", "pager", aria_label=visit.t("More jobs")):
        if after:
            parts.link_button(visit.t("Newest"), "/fine-tuning", icon="first_page")
        if page["has_more"]:
            parts.link_button(visit.t("Older"), f"/fine-tuning?after={page['last_id']}", icon="chevron_right")
