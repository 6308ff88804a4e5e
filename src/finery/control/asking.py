"""A request to one of our own endpoints from inside, as batches and evaluations make them; tried again if that helps.

It does not know what an endpoint answers: whoever wires the application hands over `Ask`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from finery.core.access import Caller

Ask = Callable[[Caller, str, dict[str, Any]], Awaitable[tuple[int, dict[str, Any]]]]
"""Answers one request, caller, path and body: status and body."""

_PAUSES = (0.5, 2.0, 8.0)
_PASSING = frozenset({429, 503})
"""Statuses that may be gone in a moment."""


async def patiently(ask: Ask, caller: Caller, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The answer, asked for again while the server is busy or starting."""
    for pause in _PAUSES:
        status, answer = await ask(caller, path, body)
        if status not in _PASSING:
            return status, answer
        await asyncio.sleep(pause)
    return await ask(caller, path, body)


def fault(answer: dict[str, Any]) -> str:
    """What an endpoint said was wrong."""
    return str(answer["error"]["message"])
