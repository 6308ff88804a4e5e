"""Fields to type into. What is typed is kept in a draft at once, so that a reload loses nothing. They know no API."""

import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

from nicegui import events, ui

from finery.sdk.wire import Json
from finery.studio import parts
from finery.studio.parts import Text, box
from finery.studio.visit import Visit

MAX_UPLOAD_BYTES = 512 * 1024 * 1024

Draft = dict[str, Any]
Field = TypeVar("Field", bound=Any)


def text_field(draft: Draft, name: str, label: str, *, hint: str = "", placeholder: str = "") -> ui.input:
    """One line of text."""
    field = ui.input(label, value=draft.get(name, ""), placeholder=placeholder or None)
    field.props(f"outlined stack-label maxlength=512 {_hint(hint)}").classes("field").mark(name)
    return _kept(field, draft, name)


def number_field(
    draft: Draft, name: str, label: str, *, hint: str = "", placeholder: str = "", step: float | None = None
) -> ui.number:
    """A number, or nothing where Finery decides."""
    field = ui.number(label, value=draft.get(name), placeholder=placeholder or None, step=step)
    field.props(f"outlined stack-label clearable {_hint(hint)}").classes("field").mark(name)
    return _kept(field, draft, name)


def choice_field(
    draft: Draft, name: str, label: str, options: dict[str, str], *, default: str | None = None, hint: str = ""
) -> ui.select:
    """One of several."""
    value = draft.get(name, default)
    field = ui.select(options, label=label, value=value if value in options else None)
    field.props(f"outlined stack-label options-dense {_hint(hint)}").classes("field").mark(name)
    draft.setdefault(name, field.value)
    return _kept(field, draft, name)


def area_field(draft: Draft, name: str, label: str, *, hint: str = "", placeholder: str = "") -> ui.textarea:
    """Several lines of text."""
    field = ui.textarea(label, value=draft.get(name, ""), placeholder=placeholder or None)
    field.props(f"outlined stack-label autogrow {_hint(hint)}").classes("field field--area").mark(name)
    return _kept(field, draft, name)


def switch_field(draft: Draft, name: str, label: str, *, default: bool = False) -> ui.switch:
    """Yes or no."""
    field = ui.switch(label, value=bool(draft.get(name, default))).classes("switch").mark(name)
    return _kept(field, draft, name)


def radio_field(draft: Draft, name: str, label: str, options: dict[str, str], *, default: str) -> ui.radio:
    """One of few, all in sight."""
    with box("fieldset", "radios"):
        Text("legend", label)
        field = ui.radio(options, value=draft.setdefault(name, default)).mark(name)
    return _kept(field, draft, name)


def upload_field(visit: Visit, label: str, on_file: Callable[[Json], Any], *, purpose: str = "fine-tune") -> ui.upload:
    """A file from the person's own machine; `on_file` gets the API's object once it is stored."""

    async def take(event: events.UploadEventArguments) -> None:
        # On disk: it may be larger than the memory that a server spares for its pages.
        with tempfile.TemporaryFile() as content:
            async for chunk in event.file.iterate():
                content.write(chunk)
            content.seek(0)
            file = await visit.api.upload(event.file.name or "file", content, purpose)
        field.reset()
        result = on_file(file)
        if result is not None:
            await result

    async def reject() -> None:
        visit.tell(visit.t("This file is over 512 MB. Split it, or leave out rows."))

    field = ui.upload(
        auto_upload=True,
        max_file_size=MAX_UPLOAD_BYTES,
        on_upload=visit.guard(take),
        on_rejected=reject,
    )
    # Quasar's own head of it is a link in the role of a button, with a field inside that has no name: ours is a button.
    with field.add_slot("list"), box("div", "upload__inside"):
        pick = parts.button(label, None, icon="upload")
        pick.on("click", js_handler=f"() => runMethod({field.id}, 'pickFiles', [])")
        bar = ui.linear_progress(show_value=False).props(f'indeterminate aria-label="{visit.t("Uploading")}"')
    bar.visible = False
    field.on("start", lambda: bar.set_visibility(True)).on("finish", lambda: bar.set_visibility(False))
    return field.props("flat bordered accept=.jsonl,.json").classes("upload")


def _kept(field: Field, draft: Draft, name: str) -> Field:
    def keep(event: events.ValueChangeEventArguments[Any]) -> None:
        draft[name] = event.value

    field.on_value_change(keep)
    return field


def _hint(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'hint="{escaped}"' if text else "hide-bottom-space"


def fault(text: str) -> None:
    """What is wrong with a form, above its button."""
    parts.say("bad", text)
