"""Tokens in, text out: whole characters only, and nothing that a stop string may yet turn out to cover.

It knows pieces of bytes and stop strings, no model and no wire. What comes out in all is the decoded text, cut before
the first stop string.
"""

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from finery.serving.pieces import TokenPieces
from finery.serving.protocol import AnswerToken


@dataclass(kw_only=True, slots=True)
class _Pending:
    token: AnswerToken
    start: int
    """Characters of the whole text before this token's own first."""
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What may be shown now."""

    text: str = ""
    tokens: tuple[AnswerToken, ...] = ()
    stop: str | None = None
    """The stop string that ended the text, if one did."""


@dataclass(kw_only=True, slots=True)
class TextStream:
    """One answer on its way out. Push tokens until a piece has `stop`, or flush at the end."""

    pieces: TokenPieces
    stop: Sequence[str] = ()
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace"), init=False
    )
    _held: str = field(default="", init=False)
    """Decoded but not shown: the end of it may be the beginning of a stop string."""
    _shown: int = field(default=0, init=False)
    """Characters shown so far."""
    _pending: deque[_Pending] = field(default_factory=deque, init=False)
    _any_bytes: bool = field(default=False, init=False)

    def push(self, token: AnswerToken) -> Piece:
        """Add one token."""
        spelled = self.pieces.bytes_of(token.id)
        if not self._any_bytes and spelled:
            self._any_bytes = True
            if self.pieces.strips_first_space:
                spelled = spelled.removeprefix(b" ")
        return self._take(token, self._decoder.decode(spelled))

    def flush(self) -> Piece:
        """The rest: held text is shown, a character that never became whole as U+FFFD."""
        last = self._decoder.decode(b"", final=True)
        piece = self._take(None, last)
        if piece.stop is not None:
            return piece
        rest = self._release(len(self._held))
        tokens = (*piece.tokens, *rest.tokens, *(waiting.token for waiting in self._pending))
        self._pending.clear()
        return Piece(text=piece.text + rest.text, tokens=tokens)

    def _take(self, token: AnswerToken | None, text: str) -> Piece:
        start = self._shown + len(self._held)
        self._held += text
        if token is not None:
            self._pending.append(_Pending(token=token, start=start, end=start + len(text)))
        found = self._find_stop()
        if found is not None:
            place, word = found
            piece = self._release(place)
            cut = tuple(waiting.token for waiting in self._pending if waiting.start < self._shown)
            return Piece(text=piece.text, tokens=piece.tokens + cut, stop=word)
        return self._release(len(self._held) - self._longest_beginning())

    def _find_stop(self) -> tuple[int, str] | None:
        places = [(self._held.find(word), word) for word in self.stop if word]
        found = [(place, word) for place, word in places if place >= 0]
        return min(found, key=lambda hit: hit[0]) if found else None

    def _longest_beginning(self) -> int:
        """Characters at the end of the held text with which some stop string begins."""
        for size in range(min(len(self._held), max(map(len, self.stop), default=1) - 1), 0, -1):
            end = self._held[-size:]
            if any(word.startswith(end) for word in self.stop):
                return size
        return 0

    def _release(self, size: int) -> Piece:
        text, self._held = self._held[:size], self._held[size:]
        self._shown += size
        tokens = []
        while self._pending and self._pending[0].end <= self._shown and not self._cut_character():
            tokens.append(self._pending.popleft().token)
        return Piece(text=text, tokens=tuple(tokens))

    def _cut_character(self) -> bool:
        """Whether the oldest waiting token began a character that is not whole yet: it goes with that character."""
        first = self._pending[0]
        return first.start == first.end == self._shown and bool(self._decoder.getstate()[0])
