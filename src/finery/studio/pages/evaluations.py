"""Evaluations: models asked the same held-out rows and compared; and one report, with intervals and examples."""

import asyncio
from functools import partial
from typing import Any

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.pages.models import offered, older
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_DRAFT = "evaluation"
_PAGE = 50
_POLL_SECONDS = 1.5
_EXAMPLES_SHOWN = 10
_SETTLED = ("completed", "failed", "canceled", "cancelled")


async def show(visit: Visit) -> None:
    """Every evaluation, newest first."""
    visit.title(visit.t("Evaluation"))
    with parts.heading(visit.t("Evaluation"), visit.t("The same held-out rows, asked of every model; compared.")):
        parts.link_button(visit.t("New evaluation"), "/evaluate", icon="add", primary=True)
    page = await visit.api.find("/finery/v1/evaluations", limit=_PAGE)
    if page is None:
        parts.say("note", visit.t("This server doesn't offer evaluations, or your key may not see them."))
        return
    if not page["data"]:
        with parts.empty(
            "balance",
            visit.t("No evaluations yet"),
            visit.t("See whether a tuned model is better than its base, and by how much."),
        ):
            parts.link_button(visit.t("New evaluation"), "/evaluate", primary=True)
        return
    parts.table(
        visit.t("Evaluations"),
        [visit.t("Name"), visit.t("Models"), visit.t("Status"), visit.t("Created")],
        [
            [
                partial(parts.link, found["name"] or found["id"], f"/evaluations/{found['id']}"),
                ", ".join(found["models"]),
                partial(parts.badge, visit, found["status"]),
                parts.moment(visit, found["created_at"]),
            ]
            for found in page["data"]
        ],
    )


async def show_new(visit: Visit, model: str = "") -> None:
    """The form; `model` is the one in question."""
    visit.title(visit.t("New evaluation"))
    models, files = await asyncio.gather(
        visit.api.get("/v1/models"), visit.api.get("/v1/files", purpose="fine-tune", limit=200)
    )
    draft = visit.draft(_DRAFT)
    if model:
        found: Json = next((each for each in models["data"] if each["id"] == model), {})
        draft.update(model=model, beside=found.get("parent"))
    listed = offered(models["data"], draft.get("model"), draft.get("beside"))
    names = {each["id"]: each["id"] for each in listed}
    hint = older(visit, models["data"])
    parts.link(visit.t("All evaluations"), "/evaluations", "back")
    parts.title(visit.t("New evaluation"))
    with parts.card():
        with box("div", "fields"):
            forms.text_field(draft, "name", visit.t("Name"))
            forms.choice_field(draft, "model", visit.t("Model"), names, default=next(iter(names), None), hint=hint)
            forms.choice_field(draft, "beside", visit.t("Compared with"), names, default=next(iter(names), None))
            forms.choice_field(
                draft,
                "data",
                visit.t("Held-out data"),
                {file["id"]: file["filename"] for file in files["data"]},
                hint=visit.t("Rows the model has not been trained on."),
            )
        said = box("div")

        async def submit() -> None:
            said.clear()
            if not draft.get("data"):
                with said:
                    forms.fault(visit.t("Choose held-out data."))
                return
            asked = list(dict.fromkeys([draft.get("beside") or draft["model"], draft["model"]]))
            body = {"models": asked, "data": draft["data"], "name": draft.get("name") or None}
            made = await visit.api.post("/finery/v1/evaluations", body)
            visit.forget(_DRAFT)
            visit.go(f"/evaluations/{made['id']}")

        with box("div", "actions actions--form"):
            parts.button(visit.t("Evaluate"), visit.guard(submit), look="primary").mark("submit")


async def show_evaluation(visit: Visit, evaluation_id: str) -> None:
    """One evaluation; its report once it is there."""
    path = f"/finery/v1/evaluations/{part(evaluation_id)}"
    place = box("div", "check")
    parts_seen: dict[str, Any] = {}

    async def load() -> None:
        found = await visit.api.get(path)
        timer.active = found["status"] not in _SETTLED
        if found == parts_seen.get("found"):
            return
        parts_seen["found"] = found
        visit.title(found["name"] or visit.t("Evaluation"))
        place.clear()
        with place:
            _draw(visit, found)

    timer = ui.timer(_POLL_SECONDS, visit.guard(load), immediate=False)
    await load()


def _draw(visit: Visit, found: Json) -> None:
    parts.link(visit.t("All evaluations"), "/evaluations", "back")
    parts.title(found["name"] or visit.t("Evaluation"))
    with box("div", "chips"):
        parts.badge(visit, found["status"])
        parts.chip(visit.t("metric: {name}", name=found["metric"]))
        parts.chip(visit.t("{n} rows", n=f"{found['counts']['total']:,}"))
    if found["error"]:
        error = found["error"]
        parts.say("bad", str(error.get("message") if isinstance(error, dict) else error))
    report = found["report"]
    if report:
        _draw_report(visit, report)
    elif found["status"] not in _SETTLED:
        counts = found["counts"]
        bar = ui.linear_progress(counts["completed"] / max(1, counts["total"]), show_value=False, size="6px")
        bar.props(f'aria-label="{visit.t("Progress")}"')


def _draw_report(visit: Visit, report: Json) -> None:
    looks = {"better": "good", "worse": "bad"}
    parts.say(looks.get(report["verdict"], "note"), report["sentence"])
    models = report["models"]
    names = dict.fromkeys(name for model in models for name in model["figures"])
    with parts.card(visit.t("Figures"), lead=visit.t("With their 95 % intervals.")):
        parts.table(
            visit.t("Figures"),
            [visit.t("Metric"), *(model["model"] for model in models)],
            [[name, *(_figure(model["figures"].get(name)) for model in models)] for name in names],
        )
    for pair in report["comparisons"]:
        for side, title in (("worse", "Answers that got worse"), ("better", "Answers that got better")):
            if pair[side]:
                with parts.card(visit.t(title)):
                    _examples(visit, pair, pair[side][:_EXAMPLES_SHOWN])


def _examples(visit: Visit, pair: Json, rows: list[Json]) -> None:
    parts.table(
        visit.t("Examples"),
        [visit.t("Question"), visit.t("Expected"), pair["first"], pair["second"]],
        [
            [partial(Text, "span", str(row[name]), "clamp") for name in ("question", "reference", "first", "second")]
            for row in rows
        ],
    )


def _figure(found: Json | None) -> str:
    if found is None or found["value"] is None:
        return "–"
    if found["low"] is None or found["high"] is None:
        return f"{found['value']:.4g}"
    return f"{found['value']:.4g} ({found['low']:.4g} – {found['high']:.4g})"
