"""Who is decoded next: places for whole answers, turns for some tokens of them; fair, in groups of one adapter.

llama.cpp decodes one adapter at a time: a request of another adapter stands still until every request in a lower slot
is through, however long that takes. So requests of one adapter are put into places together, which fills batches, and
take turns with those of other adapters: after `turn_tokens` tokens each, the adapter that waited longest is next.
Places go round among those who ask (an adapter and a scope, such as a project): a flood of one holds up no other.
It knows no engine: adapters come in, places and turns go out.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Owner = tuple[str | None, str]
"""An adapter and a scope."""

_REMEMBERED_OWNERS = 1000


@dataclass(kw_only=True, slots=True, eq=False)
class _Waiting:
    adapter: str | None
    scope: str
    go: asyncio.Future[None]

    @property
    def owner(self) -> Owner:
        return self.adapter, self.scope


class Turn:
    """Leave to decode, for one request."""

    def __init__(self, schedule: "Schedule") -> None:
        self._schedule = schedule
        self._tokens = 0

    def over(self, tokens: int = 0) -> bool:
        """Count tokens; whether it is time to make room for another adapter."""
        self._tokens += tokens
        return self._schedule.turn_over(self._tokens)


@dataclass(kw_only=True, slots=True)
class Schedule:
    """Places for `slots` answers, and turns between their adapters."""

    slots: int
    patience_seconds: float = 2.0
    """How long requests of one adapter may take free places before those of another."""
    turn_tokens: int = 16
    """Tokens that each request of an adapter decodes before another adapter that waits."""
    clock: Callable[[], float] = time.monotonic
    _waiting: deque[_Waiting] = field(default_factory=deque, init=False)
    _placed: int = field(default=0, init=False)
    _served: dict[Owner, int] = field(default_factory=dict, init=False)
    """When each owner got a place last, counted in places given."""
    _given: int = field(default=0, init=False)
    _preferred: str | None = field(default=None, init=False)
    """The adapter whose requests take free places first."""
    _preferred_since: float = field(default=0.0, init=False)
    _pausing: deque[_Waiting] = field(default_factory=deque, init=False)
    """Requests with a place that wait for their adapter's turn."""
    _decoding: Counter[str | None] = field(default_factory=Counter, init=False)
    """Requests with a turn; all of one adapter."""
    _closing: bool = field(default=False, init=False)
    """The adapter that has the turn takes no one new into it."""

    @property
    def waiting(self) -> int:
        """Requests without a place."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests with a place."""
        return self._placed

    @asynccontextmanager
    async def place(self, adapter: str | None, scope: str = "") -> AsyncIterator[None]:
        """Wait for a place and hold it for the block. Cancelling gives it up, also while waiting."""
        await self._wait(self._waiting, (adapter, scope), self._fill_places, self._give_place)
        try:
            yield
        finally:
            self._give_place(adapter)

    @asynccontextmanager
    async def turn(self, adapter: str | None) -> AsyncIterator[Turn]:
        """Wait for the adapter's turn and decode within the block; leave it when `over` says so."""
        await self._wait(self._pausing, (adapter, ""), self._give_turns, self._end_turn)
        try:
            yield Turn(self)
        finally:
            self._end_turn(adapter)

    def turn_over(self, tokens: int) -> bool:
        """Whether a request that decoded so many tokens in this turn should make room."""
        if tokens >= self.turn_tokens and self._pausing:
            self._closing = True
        return self._closing and tokens > 0

    async def _wait(
        self,
        line: deque[_Waiting],
        owner: Owner,
        serve: Callable[[], None],
        give_back: Callable[[str | None], None],
    ) -> None:
        adapter, scope = owner
        waiting = _Waiting(adapter=adapter, scope=scope, go=asyncio.get_running_loop().create_future())
        line.append(waiting)
        serve()
        try:
            await waiting.go
        except asyncio.CancelledError:
            if waiting in line:
                line.remove(waiting)
                serve()
            elif not waiting.go.cancelled():
                give_back(adapter)
            raise

    def _fill_places(self) -> None:
        while self._placed < self.slots and self._waiting:
            chosen = self._next()
            self._waiting.remove(chosen)
            if not chosen.go.done():  # else it was cancelled, and not yet told
                self._placed += 1
                self._remember(chosen.owner)
                chosen.go.set_result(None)

    def _next(self) -> _Waiting:
        patient = self.clock() - self._preferred_since < self.patience_seconds
        same = [waiting for waiting in self._waiting if waiting.adapter == self._preferred]
        if same and patient:
            return self._longest_unserved(same)
        chosen = self._longest_unserved(self._waiting)
        self._preferred, self._preferred_since = chosen.adapter, self.clock()
        return chosen

    def _longest_unserved(self, line: Iterable[_Waiting]) -> _Waiting:
        """The oldest request of the owner whose last place is the longest ago."""
        return min(line, key=lambda waiting: self._served.get(waiting.owner, 0))

    def _remember(self, owner: Owner) -> None:
        self._given += 1
        self._served[owner] = self._given
        if len(self._served) > _REMEMBERED_OWNERS:
            del self._served[min(self._served, key=self._served.__getitem__)]

    def _give_place(self, adapter: str | None) -> None:
        self._placed -= 1
        self._fill_places()

    def _give_turns(self) -> None:
        if self._decoding.total() == 0:
            self._closing = False
        if not self._pausing or self._closing:
            return
        current = next(iter(self._decoding)) if self._decoding else self._pausing[0].adapter
        for waiting in [waiting for waiting in self._pausing if waiting.adapter == current]:
            self._pausing.remove(waiting)
            if not waiting.go.done():
                self._decoding[current] += 1
                waiting.go.set_result(None)

    def _end_turn(self, adapter: str | None) -> None:
        self._decoding[adapter] -= 1
        if self._decoding[adapter] == 0:
            del self._decoding[adapter]
        self._give_turns()
