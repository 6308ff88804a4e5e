"""What every page is given: the API as this person may use it, the words of their language, their drafts.

Errors of the API end here, in `guard`: as words on the page, with the way out. It draws no page itself.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ParamSpec
from urllib.parse import quote

from nicegui import Client, ui

from finery.core.errors import FineryError
from finery.studio.client import Api, SessionEnded
from finery.studio.sessions import Session, Sessions
from finery.studio.shell import PREFIX, SIGN_IN
from finery.studio.words import Words

P = ParamSpec("P")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One open page of one person."""

    api: Api
    words: Words
    sessions: Sessions
    session: Session
    drafts: dict[str, Any]
    """What was typed and not sent yet, by page."""
    client: Client
    """The open page; what is told is told there, even where the button that was pressed is gone by then."""

    def t(self, english: str, **values: Any) -> str:
        """A text in the person's language."""
        return self.words(english, **values)

    def draft(self, page: str) -> dict[str, Any]:
        """What was typed on a page and not sent yet; write into it to keep it."""
        drafts: dict[str, Any] = self.drafts.setdefault(page, {})
        return drafts

    def forget(self, page: str) -> None:
        """What was typed on a page was sent."""
        self.drafts.pop(page, None)

    def go(self, path: str) -> None:
        """Show another page; `path` begins behind /studio."""
        ui.navigate.to(path)

    def again(self) -> None:
        """Show this page anew: to go where one is shows nothing new."""
        ui.navigate.reload()

    def title(self, name: str) -> None:
        """Name the page for the browser's tab."""
        ui.page_title(f"{name} · Finery")

    def guard(self, act: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        """`act`, with every refusal of the server told to the person instead of raised."""

        @functools.wraps(act)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            if not self.sessions.is_open(self.session):
                self.tell_session_ended()
                return
            try:
                await act(*args, **kwargs)
            except SessionEnded:
                self.tell_session_ended()
            except FineryError as error:
                self.tell(error.message)

        return guarded

    def tell(self, text: str, *, good: bool = False) -> None:
        """Say something that stays until it is put away (a refusal), or for a moment (a success)."""
        with self.client.content:
            ui.notify(
                text,
                type="positive" if good else "negative",
                position="top",
                multi_line=True,
                close_button=self.t("Close"),
                timeout=4000 if good else 0,
            )

    def tell_session_ended(self) -> None:
        """Offer to sign in again and come back to this very page."""
        path = PREFIX + self.client.sub_pages_router.current_path
        with self.client.content, ui.dialog(value=True).props("persistent") as dialog, ui.card():
            ui.label(self.t("Your session has ended")).classes("dialog-title")
            ui.label(self.t("Sign in again to go on; what you typed is kept."))
            href = f"{SIGN_IN}?ended=1&next={quote(path)}"
            with ui.element("div").classes("actions"):
                ui.button(self.t("Stay here"), on_click=dialog.close).props("flat no-caps")
                # `_self` keeps the page's router away: the sign-in isn't one of its pages.
                ui.button(self.t("Sign in"), on_click=lambda: ui.run_javascript(f"location.assign({href!r})")).props(
                    "unelevated no-caps"
                )
