"""What surrounds every page: the bar with the navigation, light and dark, language, sign-out; and the table of pages.

A page is a function of the visit and of what its address names. It asks the API for nothing itself.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from nicegui import ui

import finery
from finery.core.errors import FineryError
from finery.studio import parts
from finery.studio.client import SessionEnded
from finery.studio.pages import PAGES, Page
from finery.studio.parts import Text, box
from finery.studio.shell import LOOK_COOKIE, PREFIX, PROJECT, SIGN_OUT
from finery.studio.visit import Visit
from finery.studio.words import LANGUAGES

BRAND = {
    "primary": "#b4440f",
    "secondary": "#57534e",
    "accent": "#b4440f",
    "positive": "#15803d",
    "negative": "#b91c1c",
    "info": "#1d4ed8",
    "warning": "#a16207",
}
"""Quasar's names for the colours of `static/studio.css`."""

NAVIGATION = (
    ("", (("home", "Home", "/"),)),
    (
        "Build",
        (
            ("apps", "Model catalog", "/catalog"),
            ("dataset", "Data", "/data"),
            ("model_training", "Fine-tuning", "/fine-tuning"),
            ("widgets", "Models", "/models"),
        ),
    ),
    (
        "Use",
        (
            ("rocket_launch", "Deployments", "/deployments"),
            ("forum", "Playground", "/playground"),
            ("balance", "Evaluation", "/evaluations"),
            ("insights", "Monitoring", "/monitoring"),
        ),
    ),
    (
        "Manage",
        (
            ("folder_special", "Projects", "/projects"),
            ("shield", "Safety", "/safety"),
            ("vpn_key", "Access", "/access"),
            ("group", "Users and roles", "/roles"),
            ("payments", "Cost", "/costs"),
            ("speed", "Quotas", "/quotas"),
            ("history", "Audit", "/audit"),
            ("health_and_safety", "Doctor", "/doctor"),
        ),
    ),
)
"""Groups of pages: icon, name, address."""


def draw(visit: Visit, *, look: bool | None) -> asyncio.Event:
    """A whole page: the frame, and inside it whatever the address names; the event is set when that stands there."""
    drawn = asyncio.Event()
    ui.add_head_html(f'<link rel="stylesheet" href="{PREFIX}/static/studio.css?{finery.__version__}">')
    ui.dark_mode(look)
    ui.on_exception(
        lambda: visit.tell(visit.t("Something went wrong on this page. Reload it; the server's log says more."))
    )
    with box("div", "frame") as frame:
        skip = box("a", "skip", href="#content")
        with skip:
            Text("span", visit.t("Skip to content"))
        with box("header", "bar"):
            _bar(visit, frame)
        with box("nav", "side", aria_label=visit.t("Pages"), id_="side"):
            links = _side(visit, frame)
        with box("div", "content", id_="content", tabindex="-1"):
            ui.sub_pages(_routes(visit, drawn), show_404=False).classes("page")
    router = ui.context.client.sub_pages_router
    router.on_path_changed(lambda path: _mark_current(links, path))
    _mark_current(links, router.current_path)
    return drawn


def _bar(visit: Visit, frame: ui.element) -> None:
    menu = ui.button(icon="menu", color=None, on_click=lambda: frame.classes(toggle="frame--open"))
    menu.props(f'flat round dense aria-label="{visit.t("Menu")}" aria-controls=side').classes("menu")
    with box("a", "brand", href=f"{PREFIX}/"):
        box("img", src=f"{PREFIX}/static/mark.svg", alt="", width="28", height="28")
        Text("span", "Finery")
    box("div", "spring")
    if visit.api.project:
        choose = visit.t("Choose a project")
        # A form and no link: links are taken by the page's router, and this isn't one of its pages.
        with box("form", "where", method="get", action=PROJECT), box("button", type_="submit", title=choose):
            ui.icon("folder_special").props(f'aria-label="{choose}"')
            Text("span", visit.api.project)
    with (
        ui.button(icon="translate", color=None).props(f'flat round dense aria-label="{visit.t("Language")}"'),
        ui.menu(),
    ):
        for tag, name in LANGUAGES.items():
            ui.menu_item(name, on_click=functools.partial(_speak, tag)).props(f"lang={tag}")
    ui.button(icon="contrast", color=None, on_click=_switch).props(
        f'flat round dense aria-label="{visit.t("Light or dark")}"'
    )
    way_out = visit.t("Sign out")
    with (
        box("form", "sign-out", method="post", action=SIGN_OUT),
        box("button", "plain", type_="submit", aria_label=way_out, title=way_out),
    ):
        ui.icon("logout")


def _side(visit: Visit, frame: ui.element) -> dict[str, ui.element]:
    links = {}
    for group, entries in NAVIGATION:
        if group:
            Text("h2", visit.t(group))
        with box("ul"):
            for icon, name, path in entries:
                with box("li"), box("a", "side__link", href=PREFIX + path) as anchor:
                    ui.icon(icon)
                    Text("span", visit.t(name))
                anchor.on("click", lambda: frame.classes(remove="frame--open"))
                links[path] = anchor
    return links


def _mark_current(links: dict[str, ui.element], path: str) -> None:
    bare = path.partition("?")[0].rstrip("/") or "/"
    for target, anchor in links.items():
        current = bare == target or (target != "/" and bare.startswith(f"{target}/"))
        if current:
            anchor.props["aria-current"] = "page"
        else:
            anchor.props.pop("aria-current", None)


def _speak(tag: str) -> None:
    # A form of its own: the language is a cookie, and only an answer of the server sets cookies.
    ui.run_javascript(
        "const form = document.createElement('form'); form.method = 'post';"
        f"form.action = '{PREFIX}/language';"
        f"for (const [name, value] of [['language', '{tag}'], ['next', location.pathname + location.search]]) {{"
        "const field = document.createElement('input'); field.type = 'hidden'; field.name = name; field.value = value;"
        "form.append(field); }"
        "document.body.append(form); form.submit();"
    )


def _switch() -> None:
    ui.run_javascript(
        "const dark = !document.body.classList.contains('body--dark');"
        f"document.cookie = '{LOOK_COOKIE}=' + (dark ? 'dark' : 'light') + '; path={PREFIX}; max-age=31536000; "
        "samesite=lax'; setDark(dark);"
    )


def _routes(visit: Visit, drawn: asyncio.Event) -> dict[str, Callable[..., Any]]:
    shows = PAGES | {"/{missing}": _missing}
    return {path: _page(visit, show, drawn) for path, show in shows.items()}


def _page(visit: Visit, show: Page, drawn: asyncio.Event) -> Callable[..., Any]:
    """`show` for this visit; its other parameters come from the address."""

    async def shown(**named: Any) -> None:
        try:
            await show(visit, **named)
        except SessionEnded:
            visit.tell_session_ended()
        except FineryError as error:
            parts.title(visit.t("This can't be shown"))
            with parts.callout("bad", error.message):
                parts.button(visit.t("Try again"), ui.navigate.reload)
        finally:
            drawn.set()

    parameters = [p for name, p in inspect.signature(show).parameters.items() if name != "visit"]
    shown.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return shown


async def _missing(visit: Visit) -> None:
    visit.title(visit.t("Not found"))
    with parts.empty("explore_off", visit.t("There is no such page"), visit.t("The address may be mistyped or old.")):
        parts.link_button(visit.t("Go to Home"), "/", primary=True)
