"""Answers as they end: the one hook that whoever answers calls, and what was counted since the last look.

    with plane.traffic.watch(project_id, name) as watch:
        ... watch.see(piece) ...

counts one answer when the block is left, however it is left: with a finish, an error, or a client that went away. It
touches memory only; `control.metrics` writes what it counted to the database, a few rows at a time.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from finery.core.errors import FineryError
from finery.core.traffic import Answered, Stage, Tally
from finery.data.refusals import is_refusal
from finery.serving.protocol import Delta, Finish

BUCKET_SECONDS = 300
"""Answers of five minutes share a row."""

_HEAD_CHARACTERS = 300
"""How much of an answer is looked at for a refusal; refusals begin as such."""

Series = tuple[str, str]
"""A project's id and the name that was asked."""


class Watch:
    """One answer while it is written."""

    def __init__(self, project_id: str, name: str, *, words: bool) -> None:
        self._project_id = project_id
        self._name = name
        self._words = words
        self._began = time.monotonic()
        self._first_token_seconds: float | None = None
        self._head = ""
        self._filtered: list[str] = []
        self._finish: Finish | None = None
        self._prompt_tokens = 0

    def see(self, piece: Delta | Finish) -> None:
        """A piece of the answer, or its finish."""
        if isinstance(piece, Finish):
            self._finish = piece
            return
        if self._first_token_seconds is None:
            self._first_token_seconds = time.monotonic() - self._began
        if len(self._head) < _HEAD_CHARACTERS:
            self._head += piece.text

    def read(self, prompt_tokens: int) -> None:
        """Tokens that were read where no answer is written, as for embeddings."""
        self._prompt_tokens = prompt_tokens

    def filtered(self, stage: Stage, category: str) -> None:
        """A content filter stopped the prompt or the completion; raise ContentFiltered or end the answer as well."""
        self._filtered.append(f"{stage}:{category}")

    def ended(self, error: BaseException | None) -> Answered:
        """What is counted."""
        finish = self._finish
        return Answered(
            project_id=self._project_id,
            name=self._name,
            outcome=self._outcome(error),
            prompt_tokens=finish.prompt_tokens if finish else self._prompt_tokens,
            cached_tokens=finish.cached_tokens if finish else 0,
            completion_tokens=finish.completion_tokens if finish else 0,
            first_token_seconds=self._first_token_seconds,
            total_seconds=time.monotonic() - self._began,
            filtered=tuple(self._filtered),
            refused=self._words and is_refusal(self._head),
            words=self._words,
        )

    def _outcome(self, error: BaseException | None) -> str:
        if self._filtered:
            return "content_filter"
        if self._finish is not None:
            # Whoever stops reading behind the finish has read it all.
            return self._finish.reason
        if error is None:
            return "stop" if not self._words else "cancelled"
        if isinstance(error, FineryError):
            return error.code
        return "internal_error" if isinstance(error, Exception) else "cancelled"


class Traffic:
    """All answers of one control plane, by project and name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[Series, Tally] = {}
        self._unsaved: dict[tuple[str, str, int], Tally] = {}
        self._active: dict[Series, int] = {}

    @contextmanager
    def watch(self, project_id: str, name: str, *, words: bool = True) -> Iterator[Watch]:
        """Look on while one answer is written. `name` is one that was found: nobody's typing errors become series."""
        watch, series, error = Watch(project_id, name, words=words), (project_id, name), None
        self._enter(series, 1)
        try:
            yield watch
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._enter(series, -1)
            self.record(watch.ended(error))

    def record(self, answer: Answered) -> None:
        """Count one answer that has ended."""
        bucket = int(time.time()) // BUCKET_SECONDS * BUCKET_SECONDS
        with self._lock:
            self._totals.setdefault((answer.project_id, answer.name), Tally()).count(answer)
            self._unsaved.setdefault((answer.project_id, answer.name, bucket), Tally()).count(answer)

    def take_unsaved(self) -> dict[tuple[str, str, int], Tally]:
        """What was counted since the last call, by project, name and the second its bucket begins."""
        with self._lock:
            taken, self._unsaved = self._unsaved, {}
        return taken

    def put_back(self, unsaved: dict[tuple[str, str, int], Tally]) -> None:
        """What could not be written is written next time."""
        with self._lock:
            for key, tally in unsaved.items():
                self._unsaved.setdefault(key, Tally()).add(tally)

    def totals(self, project_id: str | None = None) -> dict[Series, tuple[Tally, int]]:
        """Since the start, of one project or of all: what was counted, and the answers that are being written."""
        with self._lock:
            return {
                series: (Tally.from_json(self._totals.get(series, Tally()).to_json()), self._active.get(series, 0))
                for series in sorted({*self._totals, *self._active})
                if project_id in (None, series[0])
            }

    def _enter(self, series: Series, change: int) -> None:
        with self._lock:
            self._active[series] = self._active.get(series, 0) + change
