"""One fine-tuning job, live: status, loss, events, checkpoints; pause, resume, cancel; and where it leads."""

import asyncio
from functools import partial

from nicegui import ui

from finery.core.jobs import JobStatus
from finery.sdk.wire import Json
from finery.studio import charts, parts
from finery.studio.client import part
from finery.studio.pages.catalog import CHOICE_NAMES
from finery.studio.pages.data import file_names
from finery.studio.pages.fine_tune import METHOD_NAMES
from finery.studio.pages.models import delete_model
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_POLL_SECONDS = 1.0
_EVENTS_SHOWN = 200
_MAX_EVENTS = 10_000
METRIC_NAMES = {
    "train_loss": "Training loss",
    "valid_loss": "Validation loss",
    "train_mean_token_accuracy": "Training accuracy",
    "valid_mean_token_accuracy": "Validation accuracy",
    "full_valid_loss": "Full validation loss",
    "full_valid_mean_token_accuracy": "Full validation accuracy",
    "train_reward_mean": "Training reward",
    "valid_reward_mean": "Validation reward",
}
"""Metrics on the wire, and as people call them."""

_CAN_PAUSE = {"queued", "running"}
_CAN_CANCEL = {"validating_files", "queued", "running", "pausing", "paused"}


async def show(visit: Visit, job_id: str) -> None:
    """A job, for as long as somebody looks at it."""
    view = _JobView(visit, f"/v1/fine_tuning/jobs/{part(job_id)}")
    await view.begin()


class _JobView:
    def __init__(self, visit: Visit, path: str) -> None:
        self._visit = visit
        self._path = path
        self._job: Json = {}
        self._events: list[Json] = []

    async def begin(self) -> None:
        visit = self._visit
        # The newest events stand there at once; a long history, for the curve, follows.
        self._job, recent, checkpoints = await asyncio.gather(
            visit.api.get(self._path),
            visit.api.get(f"{self._path}/events", limit=_EVENTS_SHOWN),
            self._list_checkpoints(),
        )
        self._file_names = await file_names(visit, self._job["training_file"], self._job["validation_file"])
        self._head = box("div", "stack")
        with box("div", "columns columns--wide-first"):
            with parts.card(visit.t("Loss")):
                self._chart = ui.echart(charts.loss(visit, [])).classes("chart").props("role=img")
                self._chart.props["aria-label"] = visit.t("Loss")
                self._numbers = box("div")
            with parts.card(visit.t("Settings")):
                self._settings = box("div")
        self._checkpoints = box("div")
        with parts.card(visit.t("Events")):
            self._log = box("ol", "events", aria_live="polite", tabindex="0", aria_label=visit.t("Events"))
        self._draw_job()
        newest = recent["data"][::-1]
        self._draw_log(newest)
        if not recent["has_more"]:
            self._events = newest
            self._draw_curve()
        self._draw_checkpoints(checkpoints)
        moving = self._moving or recent["has_more"]
        self._timer = ui.timer(_POLL_SECONDS, visit.guard(self._refresh), active=moving, immediate=False)

    @property
    def _moving(self) -> bool:
        status = JobStatus(self._job["status"])
        return not (status.terminal or status is JobStatus.PAUSED)

    async def _refresh(self) -> None:
        fresh = await self._visit.api.get(self._path)
        changed = fresh != self._job
        self._job = fresh
        grown = await self._more_events()
        if changed:
            self._draw_job()
        if changed or grown:
            self._draw_checkpoints(await self._list_checkpoints())
        self._timer.active = self._moving

    async def _more_events(self) -> bool:
        after = self._events[-1]["id"] if self._events else None
        grown = False
        while len(self._events) < _MAX_EVENTS:
            page = await self._visit.api.get(f"{self._path}/events", order="asc", limit=1000, after=after)
            self._events += page["data"]
            grown = grown or bool(page["data"])
            if not page["has_more"]:
                break
            after = self._events[-1]["id"]
        if grown:
            self._draw_log(self._events[-_EVENTS_SHOWN:])
            self._draw_curve()
        return grown

    def _draw_curve(self) -> None:
        metrics = [event["data"] for event in self._events if event["type"] == "metrics" and event["data"]]
        self._chart.options.clear()
        self._chart.options.update(charts.loss(self._visit, metrics))
        self._chart.update()
        self._chart.props["aria-label"] = charts.loss_in_words(self._visit, metrics)
        self._numbers.clear()
        if metrics:
            with self._numbers:
                self._draw_numbers(metrics)

    def _draw_log(self, events: list[Json]) -> None:
        self._log.clear()
        with self._log:
            for event in reversed(events):
                with box("li", f"event event--{event['level']}"):
                    Text("time", parts.clock(event["created_at"]))
                    Text("span", event["message"])

    def _draw_numbers(self, metrics: list[Json]) -> None:
        visit, last = self._visit, metrics[-1]
        total = last.get("total_steps") or 0
        step = last.get("step") or 0
        if total:
            bar = ui.linear_progress(step / total, show_value=False, size="6px")
            bar.props(f'aria-label="{visit.t("Progress")}"')
        values = {name: value for row in metrics for name, value in row.items() if value is not None}
        pairs: list[tuple[str, parts.Cell]] = [(visit.t("Step"), f"{step} / {total}" if total else str(step))]
        pairs += [(visit.t(label), f"{values[name]:.4g}") for name, label in METRIC_NAMES.items() if name in values]
        parts.facts(pairs)

    def _draw_job(self) -> None:
        visit, job = self._visit, self._job
        name = job["user_provided_suffix"] or job["id"]
        visit.title(name)
        self._head.clear()
        with self._head:
            parts.link(visit.t("All jobs"), "/fine-tuning", "back")
            with parts.heading(name):
                self._actions()
            self._refusal = box("div", "said")
            with box("div", "chips"):
                parts.badge(visit, job["status"])
                parts.chip(job["model"])
                parts.chip(job["id"])
                parts.chip(visit.t("created {when}", when=parts.moment(visit, job["created_at"])))
            self._outcome()
        self._settings.clear()
        with self._settings:
            parts.facts(self._facts())

    def _actions(self) -> None:
        visit, status = self._visit, self._job["status"]
        if status in _CAN_PAUSE:
            parts.button(visit.t("Pause"), lambda: self._do("pause"), icon="pause")
        if status == "paused":
            parts.button(visit.t("Resume"), lambda: self._do("resume"), icon="play_arrow", look="primary")
        if status in _CAN_CANCEL:
            parts.button(visit.t("Cancel"), self._cancel, icon="stop")
        if status in ("failed", "cancelled", "succeeded"):
            parts.link_button(visit.t("Fine-tune again"), f"/fine-tune?like={self._job['id']}", icon="replay")
        if status == "succeeded":
            model = self._job["fine_tuned_model"]
            parts.button(visit.t("Delete"), visit.guard(self._delete_model), icon="delete")
            parts.link_button(visit.t("Deploy"), f"/deploy?model={model}", icon="rocket_launch", primary=True)

    def _outcome(self) -> None:
        visit, job = self._visit, self._job
        if job["status"] == "succeeded":
            said = visit.t("Completed. The model can be deployed and tried.")
            with parts.callout("good", said), box("div", "actions"):
                parts.link(visit.t("Open the model"), f"/models/{job['fine_tuned_model']}")
                parts.link(visit.t("Compare in the playground"), f"/playground?model={job['fine_tuned_model']}")
        elif job["error"]:
            parts.say("bad", job["error"].get("message") or "")
        elif job["status"] == "paused":
            parts.say("note", visit.t("Paused at a checkpoint. It goes on from there when you resume it."))
        elif job["status"] == "queued":
            parts.say("note", visit.t("Waiting for a worker."))

    def _facts(self) -> list[tuple[str, parts.Cell]]:
        visit, job = self._visit, self._job
        values = {
            **job["hyperparameters"],
            **{name: job[name] for name in ("task", "training_method", "optimizer", "loss")},
        }
        names = {
            "n_epochs": "Epochs",
            "batch_size": "Batch size",
            "learning_rate_multiplier": "Learning rate multiplier",
            "task": "Task type",
            "training_method": "Method",
            "optimizer": "Optimizer",
            "loss": "Loss function",
        }
        words = CHOICE_NAMES | METHOD_NAMES
        pairs: list[tuple[str, parts.Cell]] = [
            (visit.t(names[name]), visit.t(words.get(str(value), str(value)))) for name, value in values.items()
        ]
        pairs.append((visit.t("Training data"), partial(self._link_file, job["training_file"])))
        if job["validation_file"]:
            pairs.append((visit.t("Validation data"), partial(self._link_file, job["validation_file"])))
        elif job["validation_split"]:
            pairs.append((visit.t("Automatic split of training data"), f"{job['validation_split']:.0%}"))
        if job["trained_tokens"]:
            pairs.append((visit.t("Trained tokens"), f"{job['trained_tokens']:,}"))
        pairs.append((visit.t("Seed"), str(job["seed"])))
        return pairs

    def _link_file(self, file_id: str) -> None:
        parts.link(self._file_names.get(file_id, file_id), f"/data/{file_id}")

    async def _list_checkpoints(self) -> list[Json]:
        found: list[Json] = (await self._visit.api.get(f"{self._path}/checkpoints", limit=100))["data"]
        return found

    def _draw_checkpoints(self, checkpoints: list[Json]) -> None:
        visit = self._visit
        self._checkpoints.clear()
        if not checkpoints:
            return
        with self._checkpoints, parts.card(visit.t("Checkpoints"), lead=visit.t("Each can be deployed as it is.")):
            parts.table(
                visit.t("Checkpoints"),
                [visit.t("Step"), visit.t("Metrics"), visit.t("Model")],
                [
                    [
                        str(found["step_number"]),
                        " · ".join(
                            f"{visit.t(METRIC_NAMES.get(name, name))} {value:.4g}"
                            for name, value in found["metrics"].items()
                            if name != "step"
                        ),
                        partial(parts.link, visit.t("Deploy"), f"/deploy?model={found['fine_tuned_model_checkpoint']}"),
                    ]
                    for found in checkpoints
                ],
            )

    async def _cancel(self) -> None:
        visit = self._visit
        sure = await parts.confirm(
            visit,
            visit.t("Cancel this job?"),
            visit.t("It stops for good; its checkpoints stay. To stop for a while, pause it instead."),
            act=visit.t("Cancel the job"),
        )
        if sure:
            await self._do("cancel")

    async def _delete_model(self) -> None:
        await delete_model(self._visit, self._job["fine_tuned_model"], self._refusal)

    async def _do(self, action: str) -> None:
        async def act() -> None:
            self._job = await self._visit.api.post(f"{self._path}/{action}")
            self._draw_job()
            self._timer.active = True

        await self._visit.guard(act)()
