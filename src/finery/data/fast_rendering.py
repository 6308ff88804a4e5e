"""A model's chat template, rendered some times faster where contents are only put in their places.

Most templates put each message's content between texts that depend on the roles alone. So the roles of a conversation
are rendered once by the exact template, with marks for contents: the mould. A row of the same roles is the mould with
its contents in the marks' places. It is trusted only as far as it is checked: contents that a template may treat in
its own way (white space at an end, a tag that the template's source names) go to the exact template, and so does every
row of a template that changes letters; the first rows of each mould and one in `CHECKED_ONE_IN` are rendered by both,
and at the first difference moulds are out for good.
It does not know tokens.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment

from finery.core.errors import InvalidRequest
from finery.data.literals import Literals
from finery.modeling.rendering import Rendered, Renderer, Span

CHECKED_ONE_IN = 512
_CHECKED_FIRST = 8
_MAX_MOULDS = 256
_MARK = "\uf8f0"
_MARKUP = re.compile(r"[<>\[\]{}|/]")
_CHANGES = re.compile(r"\b(upper|lower|title|capitalize|swapcase|replace|escape|truncate|wordwrap|indent|format)\b")
"""Words of a template that changes contents: no mould is trusted then."""

Shape = tuple[tuple[str, float], ...]
"""Role and weight of each message."""


Place = tuple[int, int]
"""A place in a rendering: after so many characters of the template's own, and after so many of the contents."""


@dataclass(slots=True)
class _Mould:
    parts: list[str]
    """The texts around the contents, one more than there are contents."""
    spans: list[tuple[Place, Place, Place, float]]
    used: int = 0


class FastRenderer:
    """Renders trained rows by moulds; everything else is the exact renderer's."""

    def __init__(self, exact: Renderer) -> None:
        self._exact = exact
        self._moulds: dict[tuple[Shape, bool], _Mould | None] = {}
        self._trusted = not _CHANGES.search(exact.source)
        self._tags = Literals({_MARK, *_tags(exact.source)})

    @property
    def uses_moulds(self) -> bool:
        """Whether moulds are still trusted."""
        return self._trusted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exact, name)

    def render_trained(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        turns_end_with_token: bool,
    ) -> Rendered:
        """As `Renderer.render_trained`."""
        mould = self._mould_for(messages, turns_end_with_token) if self._trusted and not tools else None
        if mould is None:
            return self._exact.render_trained(messages, tools, turns_end_with_token=turns_end_with_token)
        quick = _cast(mould, [message["content"] for message in messages])
        mould.used += 1
        if mould.used > _CHECKED_FIRST and mould.used % CHECKED_ONE_IN:
            return quick
        exact = self._exact.render_trained(messages, tools, turns_end_with_token=turns_end_with_token)
        self._trusted = _same(quick, exact)
        return exact

    def _mould_for(self, messages: Sequence[Mapping[str, Any]], turns_end_with_token: bool) -> _Mould | None:
        shape = self._shape_of(messages)
        if shape is None:
            return None
        key = shape, turns_end_with_token
        if key not in self._moulds:
            if len(self._moulds) >= _MAX_MOULDS:
                return None
            self._moulds[key] = self._make(shape, turns_end_with_token)
        return self._moulds[key]

    def _shape_of(self, messages: Sequence[Mapping[str, Any]]) -> Shape | None:
        """None for a conversation that has more than roles, weights and plain texts."""
        shape = []
        find = self._tags.find
        for message in messages:
            content, weight = message.get("content"), message.get("weight")
            if len(message) > (2 if weight is None else 3) or not isinstance(content, str):
                return None
            if content != content.strip() or not content or find(content):
                return None
            shape.append((message.get("role", ""), 1.0 if weight is None else float(weight)))
        return tuple(shape)

    def _make(self, shape: Shape, turns_end_with_token: bool) -> _Mould | None:
        marks = [f"{_MARK}{chr(0xE100 + place)}{_MARK}" for place in range(len(shape))]
        marked = [
            {"role": role, "content": mark, "weight": weight} for (role, weight), mark in zip(shape, marks, strict=True)
        ]
        try:
            rendered = self._exact.render_trained(marked, None, turns_end_with_token=turns_end_with_token)
        except InvalidRequest:
            return None  # the exact renderer shall say why, of the row itself
        parts, rest = [], rendered.text
        for mark in marks:
            before, found, rest = rest.partition(mark)
            if not found or mark in rest:
                return None
            parts.append(before)
        parts.append(rest)
        ends = [rendered.text.index(mark) + len(mark) for mark in marks]
        spans = [
            (_place(span.start, ends), _place(span.body_end, ends), _place(span.limit, ends), span.weight)
            for span in rendered.spans
        ]
        return _Mould(parts, spans)


def _tags(source: str) -> set[str]:
    """Texts in a template that look like markup: it may look for them in a content."""
    strings = {value[1:-1].strip() for _, kind, value in Environment().lex(source) if kind == "string"}  # noqa: S701
    return {text for text in strings if len(text) > 1 and _MARKUP.search(text)}


def _place(at: int, ends: list[int]) -> Place:
    contents = sum(end <= at for end in ends)
    return at - 3 * contents, contents


def _cast(mould: _Mould, contents: list[str]) -> Rendered:
    pieces = [mould.parts[0]]
    # Characters of the first n contents.
    before = [0]
    for content, part in zip(contents, mould.parts[1:], strict=True):
        pieces += (content, part)
        before.append(before[-1] + len(content))
    spans = [
        Span(start + before[n], body_end + before[m], limit + before[k], weight)
        for (start, n), (body_end, m), (limit, k), weight in mould.spans
    ]
    return Rendered("".join(pieces), spans)


def _same(quick: Rendered, exact: Rendered) -> bool:
    """Whether both train the same characters; a content's end may be told otherwise where its text is there twice."""
    ours, theirs = ([(s.start, s.limit, s.weight) for s in r.spans] for r in (quick, exact))
    return quick.text == exact.text and ours == theirs
