"""Blocklists: exact terms and RE2 expressions, looked for in a text and in what `normalise` makes of it.

RE2 runs in time linear to the text and refuses what it can't (back references, look-around), so no expression of a user
can stall the server. Knows no policy and no storage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import re2

from finery.core.errors import InvalidRequest
from finery.safety.normalise import fold

MAX_ITEMS = 10_000
MAX_ITEM_CHARACTERS = 1_000
_MEMORY = 256 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One entry of a list."""

    id: str
    text: str
    """A term, or an RE2 expression; terms match as whole words, whatever their case."""
    is_regex: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Matcher:
    """A list made ready."""

    items: tuple[Item, ...]
    _terms: "_Patterns"
    _expressions: "_Patterns"

    @staticmethod
    def of(items: Sequence[Item]) -> "Matcher":
        """A matcher of checked items."""
        terms = {place: re2.escape(_plain(item)) for place, item in enumerate(items) if not item.is_regex}
        expressions = {place: item.text for place, item in enumerate(items) if item.is_regex}
        return Matcher(tuple(items), _Patterns.of(terms), _Patterns.of(expressions))

    def find(self, text: str) -> list[Item]:
        """The items that occur in a text, in the list's order."""
        found: set[int] = set()
        for form in {text, fold(text)}:
            small = form.lower()
            found.update(i for i in self._terms.find(small) if _stands_alone(_plain(self.items[i]), small))
            found.update(self._expressions.find(form))
        return [self.items[place] for place in sorted(found)]

    @property
    def longest(self) -> int:
        """Characters of the longest term; an expression counts as 200."""
        return max((200 if item.is_regex else len(item.text) for item in self.items), default=0)


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Expressions by their items' places: as one automaton, or each alone where one would take too much memory."""

    places: tuple[int, ...]
    together: "re2.Set | None"
    alone: "tuple[re2._Regexp, ...]"

    @staticmethod
    def of(patterns: dict[int, str]) -> "_Patterns":
        if not patterns:
            return _Patterns((), None, ())
        together = re2.Set.SearchSet(_options())
        for pattern in patterns.values():
            together.Add(pattern)
        try:
            together.Compile()
        except re2.error:
            alone = tuple(re2.compile(pattern, _options()) for pattern in patterns.values())
            return _Patterns(tuple(patterns), None, alone)
        return _Patterns(tuple(patterns), together, ())

    def find(self, text: str) -> list[int]:
        if self.together is not None:
            return [self.places[i] for i in self.together.Match(text) or ()]
        return [place for place, one in zip(self.places, self.alone, strict=False) if one.search(text)]


def check(item: Item) -> Item:
    """Refuse an item that can't be looked for.

    Raises:
        InvalidRequest: empty, too long, or an expression that RE2 doesn't take, with its reason.
    """
    if not item.text.strip():
        raise InvalidRequest("A blocklist's item is empty.", param="text")
    if len(item.text) > MAX_ITEM_CHARACTERS:
        raise InvalidRequest(
            f"A blocklist's item has {len(item.text)} characters; at most {MAX_ITEM_CHARACTERS} are allowed.",
            param="text",
        )
    if item.is_regex:
        try:
            pattern = re2.compile(item.text, _options())
        except re2.error as error:
            reason = error.args[0]
            said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise InvalidRequest(
                f"The expression {item.text[:80]!r} isn't one that RE2 takes: {said}. RE2 has no back references and "
                "no look-around, and refuses what could take too long.",
                param="text",
            ) from None
        if pattern.search("") is not None:
            raise InvalidRequest(
                f"The expression {item.text[:80]!r} matches the empty text, and so every text.", param="text"
            )
    return item


def _options() -> "re2.Options":
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    return options


def _plain(item: Item) -> str:
    return item.text.strip().lower()


def _stands_alone(term: str, text: str) -> bool:
    """Whether a term stands in a text with no letter or digit grown onto it."""
    place = text.find(term)
    while place >= 0:
        before, behind = text[place - 1 : place], text[place + len(term) : place + len(term) + 1]
        if not (term[0].isalnum() and before.isalnum()) and not (term[-1].isalnum() and behind.isalnum()):
            return True
        place = text.find(term, place + 1)
    return False
