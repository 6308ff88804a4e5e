"""Answers as they end: the one hook that whoever answers calls, and what was counted since the last look.

    with plane.traffic.watch(project_id, name) as watch:
        ... watch.see(piece) ...

counts one answer when the block is left, however it is left: with a finish, an error, or a client that went away. It
touches memory only; `control.metrics` writes what it counted to the database, a few rows at a time, and
`control.capture` the conversations of deployments whose owners asked for it.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from finery.core.capture import Captured, CapturePolicy
from finery.core.errors import FineryError
from finery.core.traffic import Answered, Stage, Tally
from finery.data.refusals import is_refusal
from finery.serving.protocol import Delta, Finish, GenerateRequest

BUCKET_SECONDS = 300
"""Answers of five minutes share a row."""

_HEAD_CHARACTERS = 300
"""How much of an answer is looked at for a refusal; refusals begin as such."""

MAX_CAPTURED = 1000
"""Conversations that wait to be written; the oldest give way."""

Series = tuple[str, str]
"""A project's id and the name that was asked."""


class Watch:
    """One answer while it is written."""

    def __init__(self, project_id: str, name: str, *, words: bool, kept: GenerateRequest | None = None) -> None:
        self._project_id = project_id
        self._name = name
        self._words = words
        self._kept = kept
        """The question, where the whole conversation is to be kept."""
        self._text: list[str] = []
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
        if self._kept is not None:
            self._text.append(piece.text)

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

    def captured(self, answer: Answered) -> Captured | None:
        """The whole conversation; None where it is not to be kept, or did not come to its end."""
        if self._kept is None or self._kept.messages is None or not answer.whole:
            return None
        return Captured(
            project_id=self._project_id,
            name=self._name,
            messages=self._kept.messages,
            answer="".join(self._text),
            outcome=answer.outcome,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            at=int(time.time()),
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
        self._policies: dict[Series, CapturePolicy] = {}
        self.policy_changes = 0
        """How often somebody said what is captured: what was looked up before the last time is out of date."""
        self._captured: deque[tuple[Captured, CapturePolicy]] = deque(maxlen=MAX_CAPTURED)
        self.saving_captured = threading.Lock()
        """Held from taking conversations until they are written: who reads them afterwards finds all."""

    @contextmanager
    def watch(
        self, project_id: str, name: str, request: GenerateRequest | None = None, *, words: bool = True
    ) -> Iterator[Watch]:
        """Look on while one answer is written. `name` is one that was found: nobody's typing errors become series.

        `request` is what was asked, for deployments that are captured.
        """
        series, error = (project_id, name), None
        policy = self._policies.get(series)
        kept = request if request is not None and policy is not None and _drawn(request, policy) else None
        watch = Watch(project_id, name, words=words, kept=kept)
        self._enter(series, 1)
        try:
            yield watch
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._enter(series, -1)
            answer = watch.ended(error)
            self.record(answer)
            captured = watch.captured(answer)
            # Looked up again: whoever switched it off in the meantime wants nothing more to be kept.
            with self._lock:
                if captured is not None and (policy := self._policies.get(series)) is not None:
                    self._captured.append((captured, policy))

    def record(self, answer: Answered) -> None:
        """Count one answer that has ended."""
        bucket = int(time.time()) // BUCKET_SECONDS * BUCKET_SECONDS
        with self._lock:
            self._totals.setdefault((answer.project_id, answer.name), Tally()).count(answer)
            self._unsaved.setdefault((answer.project_id, answer.name, bucket), Tally()).count(answer)

    def capture(self, project_id: str, name: str, policy: CapturePolicy | None) -> None:
        """Keep a deployment's conversations from now on, or no more."""
        with self._lock:
            self.policy_changes += 1
            self._capture((project_id, name), policy)

    def capture_only(self, policies: Mapping[Series, CapturePolicy], *, as_of: int) -> None:
        """Keep the conversations of these deployments, and of no others.

        `as_of` is `policy_changes` from before they were looked up: if somebody said otherwise since, nothing is done.
        """
        with self._lock:
            if self.policy_changes != as_of:
                return
            for series in [*self._policies, *policies]:
                self._capture(series, policies.get(series))

    def _capture(self, series: Series, policy: CapturePolicy | None) -> None:
        if policy is not None:
            self._policies[series] = policy
            return
        self._policies.pop(series, None)
        self._captured = deque(
            (one for one in self._captured if (one[0].project_id, one[0].name) != series), maxlen=MAX_CAPTURED
        )

    def take_captured(self) -> list[tuple[Captured, CapturePolicy]]:
        """Conversations since the last call, each with the policy it was kept by."""
        with self._lock:
            taken = list(self._captured)
            self._captured.clear()
        return taken

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


def _drawn(request: GenerateRequest, policy: CapturePolicy) -> bool:
    """Whether a conversation is one of those to keep; those with tools are not (`control.capture` says why)."""
    return not request.tools and random.random() < policy.share  # noqa: S311 - a sample, no secret
