"""The pieces pages are built of: headings, cards, tables, badges, callouts, code. They know no API and no page.

All text goes into elements as text, never as HTML.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from finery.sdk.wire import Json
from finery.studio.shell import PREFIX
from finery.studio.visit import Visit

Cell = str | Callable[[], object]
"""Text, or a function that draws."""

STATUS_WORDS = {
    # Jobs. The guide calls a job that went well "Completed".
    "validating_files": ("Validating files", "busy"),
    "queued": ("Queued", "busy"),
    "running": ("Running", "busy"),
    "pausing": ("Pausing", "busy"),
    "paused": ("Paused", "idle"),
    "succeeded": ("Completed", "good"),
    "failed": ("Failed", "bad"),
    "cancelled": ("Cancelled", "idle"),
    # Evaluations.
    "in_progress": ("Running", "busy"),
    "completed": ("Completed", "good"),
    "canceled": ("Cancelled", "idle"),
    # Deployments.
    "Creating": ("Creating", "busy"),
    "Succeeded": ("Ready", "good"),
    "Failed": ("Failed", "bad"),
    "Deleting": ("Deleting", "busy"),
    # Files.
    "uploaded": ("Being checked", "busy"),
    "processed": ("Checked", "good"),
    "error": ("Has errors", "bad"),
}
"""A status on the wire: its word on a page, and how it looks."""


class Text(TextElement):
    """An HTML element that holds a text."""

    def __init__(self, tag: str, text: str, classes: str = "") -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)


def box(tag: str = "div", classes: str = "", **attributes: str) -> Element:
    """An HTML element that holds others; `attributes` with `_` for `-`."""
    element = ui.element(tag).classes(classes)
    for name, value in attributes.items():
        element.props[name.rstrip("_").replace("_", "-")] = value
    return element


def link(text: str, path: str, classes: str = "") -> Element:
    """A link to another page of the Studio; `path` begins behind /studio."""
    anchor = Text("a", text, classes or "link")
    anchor.props["href"] = PREFIX + path
    return anchor


def link_button(text: str, path: str, *, icon: str = "", primary: bool = False) -> Element:
    """A link that looks like a button."""
    with box("a", f"button {'button--primary' if primary else ''}", href=PREFIX + path) as anchor:
        if icon:
            ui.icon(icon)
        Text("span", text)
    return anchor


def button(text: str, on_click: Callable[..., Any] | None, *, icon: str = "", look: str = "") -> ui.button:
    """A button; `look` is primary, danger or nothing."""
    made = ui.button(text, on_click=on_click, icon=icon or None, color=None).props("unelevated no-caps :ripple=false")
    return made.classes(f"button {f'button--{look}' if look else ''}")


@contextmanager
def heading(title: str, lead: str = "") -> Iterator[None]:
    """The head of a page; what is drawn inside are its actions, at the right."""
    with box("header", "heading"):
        with box("div", "heading__text"):
            Text("h1", title)
            if lead:
                Text("p", lead, "lead")
        with box("div", "actions"):
            yield


def title(text: str, lead: str = "") -> None:
    """The head of a page without actions."""
    with heading(text, lead):
        pass


@contextmanager
def card(name: str = "", *, lead: str = "", classes: str = "") -> Iterator[Element]:
    """A part of a page, with a heading of its own."""
    with box("section", f"card {classes}") as section:
        if name:
            Text("h2", name)
        if lead:
            Text("p", lead, "lead")
        yield section


def badge(visit: Visit, status: str) -> Element:
    """A status as a word and a colour."""
    word, look = STATUS_WORDS.get(status, (status, "idle"))
    return Text("span", visit.t(word), f"badge badge--{look}").mark(f"status-{status}")


def chip(text: str) -> Element:
    """A small fact."""
    return Text("span", text, "chip")


@contextmanager
def callout(look: str, text: str) -> Iterator[None]:
    """A note (note), a warning (warn), a refusal (bad) or a success (good); what is drawn inside is the way out."""
    with box("div", f"callout callout--{look}", role="alert" if look == "bad" else "status"):
        if text:
            Text("p", text)
        yield


def say(look: str, text: str) -> None:
    """A callout with words only."""
    with callout(look, text):
        pass


@contextmanager
def empty(icon: str, text: str, lead: str) -> Iterator[None]:
    """What stands where nothing is yet; what is drawn inside leads on."""
    with box("div", "empty"):
        ui.icon(icon)
        Text("h2", text)
        Text("p", lead)
        with box("div", "actions"):
            yield


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Element:
    """A table; `name` tells those who can't see it what it holds."""
    with box("div", "table-scroll", tabindex="0", role="region", aria_label=name) as region, box("table"):
        with box("thead"), box("tr"):
            for column in columns:
                Text("th", column).props["scope"] = "col"
        with box("tbody"):
            for row in rows:
                with box("tr"):
                    for column, cell in zip(columns, row, strict=True):
                        # On a phone, the rows become cards, each cell under its column's name.
                        with Text("td", "" if callable(cell) else cell) as place:
                            place.props["data-label"] = column
                            if callable(cell):
                                cell()
    return region


def facts(pairs: Sequence[tuple[str, Cell]]) -> Element:
    """Names and values."""
    with box("dl", "facts") as listed:
        for name, value in pairs:
            with box("div"):
                Text("dt", name)
                with Text("dd", "" if callable(value) else value):
                    if callable(value):
                        value()
    return listed


def licence(model: Json) -> Element:
    """A model's licence, with its text where there is an address of it."""
    if not model["licence_url"]:
        return Text("span", model["licence"])
    anchor = Text("a", model["licence"], "link")
    anchor.props.update({"href": model["licence_url"], "target": "_blank", "rel": "noopener noreferrer"})
    return anchor


def meter(name: str, used: float, limit: float) -> Element:
    """How much of a limit is used, as a bar; `name` tells those who can't see it what it is."""
    share = used / limit if limit else 1.0
    look = "bad" if share >= 1 else "busy" if share >= 0.8 else "good"
    with box("div", f"meter meter--{look}", role="meter", aria_label=name) as bar:
        bar.props.update(
            {"aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": f"{min(100, 100 * share):.0f}"}
        )
        box("span").style(f"width: {min(100, 100 * share):.1f}%")
    return bar


def code(visit: Visit, content: str, *, name: str) -> Element:
    """A program to copy."""
    with box("figure", "code") as figure:
        copy = ui.button(visit.t("Copy"), icon="content_copy", color=None).props("flat dense no-caps :ripple=false")
        with box("pre", tabindex="0", role="region", aria_label=name):
            Text("code", content)

    def copied() -> None:
        ui.clipboard.write(content)
        copy.set_text(visit.t("Copied"))

    copy.on_click(copied)
    return figure


async def confirm(visit: Visit, question: str, consequence: str, *, act: str) -> bool:
    """Ask before something that can't be taken back."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        Text("h2", question, "dialog-title")
        Text("p", consequence)
        with box("div", "actions"):
            button(visit.t("Keep it"), lambda: dialog.submit(False))
            button(act, lambda: dialog.submit(True), look="danger")
    answer = bool(await dialog)
    dialog.delete()
    return answer


def moment(visit: Visit, seconds: float | None) -> str:
    """A time, relative while it is near."""
    if not seconds:
        return "–"
    ago = time.time() - seconds
    if ago < 60:
        return visit.t("just now")
    if ago < 3600:
        return visit.t("{n} min ago", n=int(ago // 60))
    if ago < 86400:
        return visit.t("{n} h ago", n=int(ago // 3600))
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def day(seconds: float) -> str:
    """A date."""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def clock(seconds: float) -> str:
    """A time of day."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def duration(visit: Visit, seconds: float) -> str:
    """A length of time, in words."""
    if seconds < 90:
        return visit.t("{n} s", n=max(1, round(seconds)))
    if seconds < 5400:
        return visit.t("{n} min", n=round(seconds / 60))
    return visit.t("{n} h", n=round(seconds / 3600, 1))


def amount(number: float) -> str:
    """A count in few characters: 1,234 or 3.8 B."""
    for limit, unit in ((1e9, "B"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:,.0f}"


def size(bytes_: float) -> str:
    """Bytes in the unit people use."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if bytes_ >= limit:
            return f"{bytes_ / limit:.1f} {unit}"
    return f"{bytes_:.0f} B"
