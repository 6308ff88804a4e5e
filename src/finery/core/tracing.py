"""Which request a piece of work belongs to, in W3C's words: a trace, a span in it, and facts for every log line.

Kept whether or not anybody collects traces: `finery.telemetry` does that. Pure; what is current follows the task.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

HEADER = "traceparent"

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""https://www.w3.org/TR/trace-context/: later versions may have more behind the flags; ff is no version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """A place in a trace."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16; of the work that is going on."""
    sampled: bool = True
    """Whether whoever began it wants it recorded."""

    @property
    def traceparent(self) -> str:
        """For a header, or the environment of a process."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @staticmethod
    def parse(traceparent: str | None) -> "Trace | None":
        """The inverse of `traceparent`; None where it isn't one: W3C wants such a header passed over."""
        found = _FORM.fullmatch((traceparent or "").strip())
        if found is None or (found[0].startswith("00") and found[4]):
            return None
        if not int(found[1], 16) or not int(found[2], 16):
            return None
        return Trace(trace_id=found[1], span_id=found[2], sampled=bool(int(found[3], 16) & 1))

    @staticmethod
    def begin() -> "Trace":
        """A trace of its own."""
        return Trace(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8))


CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)
_FACTS: ContextVar[Mapping[str, str] | None] = ContextVar("facts", default=None)


def facts() -> Mapping[str, str]:
    """What every log line says besides: request_id, job_id."""
    return _FACTS.get() or {}


@contextmanager
def within(trace: Trace | None, **more: str) -> Iterator[None]:
    """What is done in the block belongs to this trace (None: to the one it belongs to already), with more facts."""
    before = CURRENT.set(trace or CURRENT.get())
    told = _FACTS.set({**facts(), **more})
    try:
        yield
    finally:
        _FACTS.reset(told)
        CURRENT.reset(before)
