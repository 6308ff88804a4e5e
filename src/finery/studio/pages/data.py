"""Data: files of the project; and one file: what the check found by line, and its rows as a model sees them."""

import asyncio
from functools import partial

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import forms, parts
from finery.studio.client import part
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_PAGE = 50
_POLL_SECONDS = 1.0
_FINDINGS_SHOWN = 100
_EXAMPLE = (
    '{"messages": [{"role": "system", "content": "You are a friendly support agent."}, '
    '{"role": "user", "content": "Where is my parcel?"}, '
    '{"role": "assistant", "content": "Let me look that up for you."}]}'
)


async def show(visit: Visit, after: str = "") -> None:
    """The project's training and validation data."""
    visit.title(visit.t("Data"))
    parts.title(visit.t("Data"), visit.t("Training and validation data: JSON Lines, one example a line."))
    with parts.card(visit.t("Upload")):
        forms.upload_field(
            visit, visit.t("Choose a .jsonl file or drop it here"), lambda file: visit.go(f"/data/{file['id']}")
        )
    page = await visit.api.get("/v1/files", purpose="fine-tune", limit=_PAGE, after=after or None)
    if not page["data"] and not after:
        with parts.empty(
            "dataset", visit.t("No data yet"), visit.t("Upload a file. Each line is a conversation, like this one:")
        ):
            parts.code(visit, _EXAMPLE, name=visit.t("Example"))
        return
    parts.table(
        visit.t("Files"),
        [visit.t("Name"), visit.t("Status"), visit.t("Size"), visit.t("Uploaded")],
        [
            [
                partial(parts.link, file["filename"], f"/data/{file['id']}"),
                partial(parts.badge, visit, file["status"]),
                parts.size(file["bytes"]),
                parts.moment(visit, file["created_at"]),
            ]
            for file in page["data"]
        ],
    )
    with box("nav", "pager", aria_label=visit.t("More files")):
        if after:
            parts.link_button(visit.t("Newest"), "/data", icon="first_page")
        if page["has_more"]:
            parts.link_button(visit.t("Older"), f"/data?after={page['last_id']}", icon="chevron_right")


async def file_names(visit: Visit, *file_ids: str | None) -> dict[str, str]:
    """What files are called, those that are there, by id."""
    asked = [file_id for file_id in file_ids if file_id]
    found = await asyncio.gather(*(visit.api.find(f"/v1/files/{part(file_id)}") for file_id in asked))
    return {file["id"]: file["filename"] for file in found if file}


async def show_file(visit: Visit, file_id: str) -> None:
    """One file."""
    file = await visit.api.get(f"/v1/files/{part(file_id)}")
    visit.title(file["filename"])
    parts.link(visit.t("All data"), "/data", "back")
    with parts.heading(file["filename"]):

        async def delete() -> None:
            if await parts.confirm(
                visit,
                visit.t("Delete this file?"),
                visit.t("Jobs that already took its rows go on: they have their own copy."),
                act=visit.t("Delete the file"),
            ):
                await visit.api.delete(f"/v1/files/{part(file_id)}")
                visit.go("/data")

        parts.button(visit.t("Delete"), visit.guard(delete), icon="delete")
        parts.link_button(
            visit.t("Fine-tune with it"), f"/fine-tune?training_file={file_id}", icon="model_training", primary=True
        )
    with box("div", "chips"):
        parts.chip(file["id"])
        parts.chip(parts.size(file["bytes"]))
        parts.chip(visit.t("uploaded {when}", when=parts.moment(visit, file["created_at"])))
    await draw_check(visit, file)


async def draw_check(visit: Visit, file: Json, *, model: str = "") -> None:
    """What the check of a file found, and its rows as a model sees them; waits for a check that still runs."""
    place = box("div", "check")

    async def load() -> None:
        fresh = await visit.api.get(f"/v1/files/{part(file['id'])}")
        report = await visit.api.find(f"/finery/v1/files/{part(file['id'])}/report")
        place.clear()
        with place:
            if report is None:
                _pending(visit, fresh)
            else:
                timer.active = False
                _draw_report(visit, report)
                if report["ok"] and report["rows"]:
                    await _draw_rows(visit, fresh, report["rows"], model)

    timer = ui.timer(_POLL_SECONDS, visit.guard(load), immediate=False)
    await load()


def _pending(visit: Visit, file: Json) -> None:
    if file["status"] == "uploaded":
        with parts.callout("note", visit.t("The file is being checked, line by line.")):
            ui.linear_progress(show_value=False).props(f'indeterminate aria-label="{visit.t("Being checked")}"')
    else:
        parts.say("note", visit.t("There is no report on this file."))


def _draw_report(visit: Visit, report: Json) -> None:
    look = "bad" if not report["ok"] else "warn" if report["findings"] else "good"
    with parts.card(visit.t("What the check found")):
        parts.say(look, report["summary"])
        with box("div", "chips"):
            parts.chip(visit.t("{n} rows", n=f"{report['rows']:,}"))
            if report["format"]:
                parts.chip(visit.t("format: {name}", name=report["format"]))
        if report["findings"]:
            parts.table(
                visit.t("Findings by line"),
                [visit.t("Line"), visit.t("What"), visit.t("Where"), visit.t("Way out")],
                [
                    [
                        str(found["line"] or "–"),
                        partial(Text, "span", found["message"], f"finding finding--{found['level']}"),
                        found["path"],
                        found["help"],
                    ]
                    for found in report["findings"][:_FINDINGS_SHOWN]
                ],
            )
            hidden = len(report["findings"]) + report["truncated_findings"] - _FINDINGS_SHOWN
            if hidden > 0:
                Text("p", visit.t("and {n} more", n=f"{hidden:,}"), "hint")


async def _draw_rows(visit: Visit, file: Json, rows: int, model: str) -> None:
    """The coloured view of one row at a time."""
    models = [found["id"] for found in (await visit.api.get("/finery/v1/models"))["data"] if found["here"]]
    if not models:
        return
    asked = {"line": 1, "model": model if model in models else models[0]}
    with parts.card(
        visit.t("As the model sees it"),
        lead=visit.t("Coloured text is what the model learns to write; the rest is what it is given."),
    ):
        with box("div", "fields"):
            number = ui.number(visit.t("Line"), value=1, min=1, max=rows, step=1).props("outlined dense stack-label")
            choice = ui.select(models, label=visit.t("Model"), value=asked["model"]).props("outlined dense stack-label")
            choice.classes("field")
        view = box("div", "tokens", tabindex="0", role="region", aria_label=visit.t("As the model sees it"))

        async def draw() -> None:
            line = int(number.value or 1)
            path = f"/finery/v1/files/{part(file['id'])}/lines/{line}"
            found = await visit.api.get(path, model=choice.value)
            view.clear()
            with view:
                for piece in found["pieces"]:
                    Text("span", piece["text"], "token token--trained" if piece["trained"] else "token")

        number.on_value_change(visit.guard(draw))
        choice.on_value_change(visit.guard(draw))
        await draw()
