"""Home: where one is on the guide's way, and what comes next."""

import asyncio
from functools import partial

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import parts
from finery.studio.parts import Text, box
from finery.studio.shell import PREFIX
from finery.studio.visit import Visit

_RECENT_JOBS = 5


async def show(visit: Visit) -> None:
    """The steps from data to endpoint, with what is there of each, and the newest jobs."""
    visit.title(visit.t("Home"))
    files, jobs, models, deployments = await asyncio.gather(
        visit.api.get("/v1/files", purpose="fine-tune", limit=1),
        visit.api.get("/v1/fine_tuning/jobs", limit=_RECENT_JOBS),
        visit.api.get("/v1/models"),
        visit.api.get("/finery/v1/deployments"),
    )
    tuned = [model for model in models["data"] if model.get("job_id")]
    with parts.heading(
        visit.t("Fine-tune a model"), visit.t("From your data to an endpoint, step by step, on your own machines.")
    ):
        parts.link_button(visit.t("Fine-tune"), "/fine-tune", icon="model_training", primary=True)
    _steps(visit, bool(files["data"]), bool(jobs["data"]), len(tuned), len(deployments["data"]))
    if jobs["data"]:
        with parts.card(visit.t("Newest jobs")):
            jobs_table(visit, jobs["data"])


def jobs_table(visit: Visit, jobs: list[Json]) -> None:
    """Jobs, one a row."""
    parts.table(
        visit.t("Fine-tuning jobs"),
        [visit.t("Name"), visit.t("Base model"), visit.t("Status"), visit.t("Created")],
        [
            [
                partial(parts.link, job["user_provided_suffix"] or job["id"], f"/fine-tuning/{job['id']}"),
                job["model"],
                partial(parts.badge, visit, job["status"]),
                parts.moment(visit, job["created_at"]),
            ]
            for job in jobs
        ],
    )


def _steps(visit: Visit, has_files: bool, has_jobs: bool, tuned: int, deployed: int) -> None:
    steps = (
        (
            "dataset",
            "Prepare data",
            "Training and validation data as JSON Lines, checked line by line.",
            "/data",
            has_files,
        ),
        ("apps", "Choose a model", "Licence, context and size of every base model.", "/catalog", has_jobs),
        ("model_training", "Fine-tune", "Watch the loss fall; pause, resume, cancel.", "/fine-tuning", tuned > 0),
        ("rocket_launch", "Deploy", "A name under which your model answers.", "/deployments", deployed > 0),
        ("forum", "Test in the playground", "Base and tuned side by side.", "/playground", False),
    )
    with box("ol", "steps"):
        for icon, name, lead, path, done in steps:
            with box("li"), parts.box("a", "step", href=f"{PREFIX}{path}"):
                ui.icon("check_circle" if done else icon).classes("step__icon" + (" step__icon--done" if done else ""))
                with box("div"):
                    Text("h2", visit.t(name))
                    Text("p", visit.t(lead))
