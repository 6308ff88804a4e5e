"""Many pieces of work, a few at once: what was begun is finished or cancelled, never forgotten."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def work_through(
    pieces: Iterable[T], act: Callable[[T], Awaitable[None]], *, at_once: int, go_on: Callable[[], bool] = lambda: True
) -> None:
    """Act on each piece, at most `at_once` at a time, until there are none or `go_on` says no.

    An error of one piece is raised, and ends those that run beside it.
    """
    running: set[asyncio.Future[None]] = set()
    try:
        for piece in pieces:
            if not go_on():
                break
            running.add(asyncio.ensure_future(act(piece)))
            if len(running) >= at_once:
                finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    task.result()
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
