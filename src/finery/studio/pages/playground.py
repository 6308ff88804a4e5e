"""The playground: talk to one model or to two side by side, streamed, with token counts and the filter's notes."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from nicegui import ui

from finery.sdk.wire import Json
from finery.studio import forms, parts, snippets
from finery.studio.client import part
from finery.studio.pages.models import offered
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

_DRAFT = "playground"
_REPAINT_SECONDS = 0.05
"""Text that comes faster is painted together."""


@dataclass(kw_only=True)
class _Column:
    """One model's side of the conversation."""

    model: str
    turns: list[dict[str, str]] = field(default_factory=list)
    """Messages so far, without the system prompt."""
    place: Any = None


async def show(visit: Visit, model: str = "") -> None:
    """A conversation; `model` is whom one came to talk to."""
    visit.title(visit.t("Playground"))
    found, deployments = await asyncio.gather(visit.api.get("/v1/models"), visit.api.get("/finery/v1/deployments"))
    draft = visit.draft(_DRAFT)
    listed = offered(found["data"], model, draft.get("model"))
    bases = {each["id"]: each.get("parent") or each["id"] for each in listed}
    bases |= {each["name"]: each["base_model"] for each in deployments["data"] if each["status"] == "Succeeded"}
    if not bases:
        with parts.empty(
            "forum", visit.t("Nobody to talk to yet"), visit.t("Bring a base model to this machine first.")
        ):
            parts.link_button(visit.t("Model catalog"), "/catalog", primary=True)
        return
    if model and draft.get("model") != model:
        bases.setdefault(model, model.split(":")[1] if model.startswith("ft:") else model)
        draft.update(model=model, turns={})
    await _Playground(visit, draft, bases).begin()


class _Playground:
    def __init__(self, visit: Visit, draft: dict[str, Any], bases: dict[str, str]) -> None:
        self._visit = visit
        self._draft = draft
        self._bases = bases
        self._columns: list[_Column] = []
        self._answering = False

    async def begin(self) -> None:
        visit, draft = self._visit, self._draft
        with parts.heading(visit.t("Playground")):
            parts.button(visit.t("Clear"), visit.guard(self._clear), icon="restart_alt")
            parts.button(visit.t("Share as code"), self._share, icon="code")
            parts.button(visit.t("Save as dataset row"), visit.guard(self._save), icon="save")
        with box("div", "columns columns--playground"):
            with box("div", "talk"):
                self._place = box("div", "talk__columns")
                with box("div", "ask"):
                    question = forms.area_field(draft, "question", visit.t("Your message"))
                    question.on("keydown.enter", visit.guard(self._ask), js_handler=_ENTER)
                    self._question = question
                    self._send = parts.button(visit.t("Send"), visit.guard(self._ask), icon="send", look="primary")
                    self._send.mark("send")
            with parts.card(visit.t("Settings"), classes="settings"):
                self._settings()
        self._draw()

    def _settings(self) -> None:
        visit, draft = self._visit, self._draft
        options = {name: name for name in self._bases}
        default = next(iter(options))
        if draft.get("model") not in options:
            draft["model"] = default
        choice = forms.choice_field(draft, "model", visit.t("Model or deployment"), options)
        compare = forms.switch_field(draft, "compare", visit.t("Beside its base model"), default=True)
        forms.area_field(
            draft, "system", visit.t("System prompt"), placeholder=visit.t("You are a friendly support agent.")
        )
        forms.number_field(draft, "temperature", visit.t("Temperature"), placeholder="1", step=0.1)
        forms.number_field(draft, "top_p", visit.t("Top P"), placeholder="1", step=0.05)
        forms.number_field(draft, "max_tokens", visit.t("Most tokens"), placeholder="256", step=1)
        forms.number_field(draft, "seed", visit.t("Seed"), step=1)
        forms.text_field(draft, "stop", visit.t("Stop at"))

        def redraw() -> None:
            self._draw()

        choice.on_value_change(redraw)
        compare.on_value_change(redraw)

    def _draw(self) -> None:
        draft, model = self._draft, self._draft["model"]
        base = self._bases[model]
        names = [base, model] if draft.get("compare", True) and base != model else [model]
        kept = draft.setdefault("turns", {})
        self._columns = [_Column(model=name, turns=kept.setdefault(name, [])) for name in names]
        self._place.clear()
        with self._place:
            for column in self._columns:
                with box("section", "talk__column", aria_label=column.model):
                    Text("h2", column.model)
                    column.place = box("div", "turns", aria_live="polite")
                    with column.place:
                        for turn in column.turns:
                            _turn(self._visit, turn["role"], turn["content"])
                        if not column.turns:
                            Text("p", self._visit.t("Say something to begin."), "hint")

    async def _clear(self) -> None:
        self._draft["turns"] = {}
        self._draw()

    async def _ask(self) -> None:
        question = (self._draft.get("question") or "").strip()
        if self._answering or not question:
            return
        self._answering = True
        self._send.disable()
        self._question.set_value("")
        try:
            await asyncio.gather(*(self._visit.guard(self._answer)(column, question) for column in self._columns))
        finally:
            self._answering = False
            self._send.enable()

    async def _answer(self, column: _Column, question: str) -> None:
        """One model's answer as it comes; where it breaks off, what came stays, and the question goes back."""
        visit = self._visit
        if not column.turns:
            column.place.clear()
        with column.place:
            _turn(visit, "user", question)
            answer = _turn(visit, "assistant", "…")
            note = Text("p", visit.t("The model is loaded and reads your message."), "hint")
        asked = [*column.turns, {"role": "user", "content": question}]
        text, last = "", 0.0
        finish, usage, filters = "", None, None
        try:
            async for chunk in visit.api.chat(
                {"model": column.model, "messages": self._messages(asked), **self._options()}
            ):
                text += chunk.text
                finish, usage = chunk.finish_reason or finish, chunk.usage or usage
                filters = chunk.filters or filters
                now = asyncio.get_running_loop().time()
                if chunk.text and now - last > _REPAINT_SECONDS:
                    answer.set_text(text)
                    last = now
        except BaseException:
            note.set_text(visit.t("The answer broke off. Your message is back in the field."))
            self._question.set_value(question)
            answer.set_text(text or "–")
            raise
        answer.set_text(text or visit.t("(no text)"))
        note.set_text(_took(visit, finish, usage, filters))
        column.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": text}]

    def _messages(self, turns: list[dict[str, str]]) -> list[dict[str, Any]]:
        system = (self._draft.get("system") or "").strip()
        return ([{"role": "system", "content": system}] if system else []) + turns

    def _options(self) -> dict[str, Any]:
        draft = self._draft
        options: dict[str, Any] = {"max_tokens": int(draft.get("max_tokens") or 256)}
        options |= {name: draft[name] for name in ("temperature", "top_p") if draft.get(name) is not None}
        if draft.get("seed") is not None:
            options["seed"] = int(draft["seed"])
        if draft.get("stop"):
            options["stop"] = [draft["stop"]]
        return options

    def _share(self) -> None:
        visit, column = self._visit, self._columns[-1]
        turns = column.turns[:-1] or [{"role": "user", "content": self._draft.get("question") or "Hello"}]
        address = snippets.origin(ui.context.client.request)
        given = (address, column.model, self._messages(turns), self._options())
        with ui.dialog(value=True) as dialog, ui.card().classes("dialog dialog--wide"):
            Text("h2", visit.t("Share as code"), "dialog-title")
            for name, write in (
                ("openai", snippets.openai),
                ("azure-ai-inference", snippets.azure),
                ("curl", snippets.curl),
            ):
                Text("h3", name)
                parts.code(visit, write(*given), name=name)
            with box("div", "actions"):
                parts.button(visit.t("Close"), dialog.close)

    async def _save(self) -> None:
        """The conversation of the last column as a row of a new file."""
        visit, column = self._visit, self._columns[-1]
        if not column.turns:
            visit.tell(visit.t("There is no answer to save yet."))
            return
        row = json.dumps({"messages": self._messages(column.turns)}, ensure_ascii=False)
        file: Json = await visit.api.upload("playground.jsonl", f"{row}\n".encode())
        visit.tell(visit.t("Saved as a row of {name}.", name=file["filename"]), good=True)
        visit.go(f"/data/{part(file['id'])}")


_ENTER = "(event) => { if (!event.shiftKey) { event.preventDefault(); emit(); } }"
"""Enter sends, shift and enter begins a new line."""


def _turn(visit: Visit, role: str, content: str) -> Text:
    names = {"user": "You", "assistant": "Model", "system": "System"}
    with box("div", f"turn turn--{role}"):
        Text("span", visit.t(names.get(role, role)), "turn__who")
        return Text("div", content, "turn__text")


def _took(visit: Visit, finish: str, usage: Json | None, filters: Json | None) -> str:
    words = []
    if usage:
        words.append(
            visit.t("{prompt} + {answer} tokens", prompt=usage["prompt_tokens"], answer=usage["completion_tokens"])
        )
    if finish == "length":
        words.append(visit.t("cut off: it reached the most tokens"))
    if finish == "content_filter":
        words.append(visit.t("stopped by the content filter"))
    for category, found in (filters or {}).items():
        if isinstance(found, dict) and (found.get("filtered") or found.get("detected")):
            words.append(f"{category}: {found.get('severity') or visit.t('detected')}")
    return " · ".join(words)
