"""Places and turns: nobody is forgotten, adapters take turns, groups fill places, cancelled requests leave no trace."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finery.serving.schedule import Schedule


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def hold(schedule: Schedule, adapter: str | None, log: list[str | None], done: asyncio.Event) -> None:
    async with schedule.place(adapter):
        log.append(adapter)
        await done.wait()


def play(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_no_more_places_than_slots_and_everybody_gets_one() -> None:
    async def scenario() -> None:
        schedule, done = Schedule(slots=3), asyncio.Event()
        log: list[str | None] = []
        tasks = [asyncio.create_task(hold(schedule, None, log, done)) for _ in range(7)]
        await settle()
        assert (schedule.running, schedule.waiting, len(log)) == (3, 4, 3)
        done.set()
        await asyncio.gather(*tasks)
        assert (schedule.running, schedule.waiting, len(log)) == (0, 0, 7)

    play(scenario())


def test_free_places_go_to_the_same_adapter_until_patience_ends() -> None:
    async def scenario() -> None:
        clock = Clock()
        schedule = Schedule(slots=1, clock=clock)
        order: list[str | None] = []
        gates = [asyncio.Event() for _ in range(5)]
        names = ["a", "b", "a", "b", "a"]
        tasks = [
            asyncio.create_task(hold(schedule, name, order, gate)) for name, gate in zip(names, gates, strict=True)
        ]
        await settle()
        gates[0].set()
        await settle()
        assert order == ["a", "a"]  # b is older, but a's batch is filled first
        clock.now += 10
        gates[2].set()
        await settle()
        assert order == ["a", "a", "b"]
        for gate in gates:
            gate.set()
        await asyncio.gather(*tasks)
        assert order == ["a", "a", "b", "b", "a"]

    play(scenario())


def test_a_flood_of_one_project_holds_up_no_other() -> None:
    async def scenario() -> None:
        clock = Clock()
        schedule = Schedule(slots=1, clock=clock)
        order: list[str] = []

        async def ask(adapter: str | None, scope: str) -> None:
            async with schedule.place(adapter, scope):
                order.append(scope)
                clock.now += 1.5
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(ask(None, "flood")) for _ in range(20)]
        await settle()
        order.clear()
        tasks = [asyncio.create_task(ask(None, "flood")) for _ in range(20)]
        for scope, adapter in (("quiet", None), ("other", "a"), ("quiet", None)):
            tasks.append(asyncio.create_task(ask(adapter, scope)))
        await asyncio.gather(*tasks)
        # At once beside the flood, and an adapter as soon as patience with the others ends.
        assert order.index("quiet") <= 2
        assert order.index("other") <= 5
        assert order[:8].count("quiet") == 2

    play(scenario())


async def decode(schedule: Schedule, adapter: str | None, tokens: int, log: list[str | None]) -> None:
    """A request of so many tokens, which gives way when it is told to."""
    async with schedule.place(adapter):
        while tokens:
            async with schedule.turn(adapter) as turn:
                while tokens and not turn.over():
                    tokens -= 1
                    log.append(adapter)
                    turn.over(1)
                    await asyncio.sleep(0)


def test_adapters_take_turns_of_so_many_tokens() -> None:
    async def scenario() -> None:
        schedule = Schedule(slots=4, turn_tokens=5)
        log: list[str | None] = []
        await asyncio.gather(decode(schedule, "long", 100, log), decode(schedule, "short", 5, log))
        assert log.index("short") <= 6
        assert log[:20].count("short") == 5

    play(scenario())


def test_alone_an_adapter_is_never_interrupted() -> None:
    async def scenario() -> None:
        schedule = Schedule(slots=4, turn_tokens=5)
        async with schedule.turn("a") as turn:
            assert not any(turn.over(1) for _ in range(100))
            async with schedule.turn("a") as second:  # joins
                assert not second.over(100)

    play(scenario())


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(1, 40)), max_size=12),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 11)), max_size=4),
)
@settings(deadline=None, max_examples=150)
def test_one_adapter_decodes_at_a_time_and_all_is_given_back(
    requests: list[tuple[str | None, int]], slots: int, cancels: list[tuple[int, int]]
) -> None:
    async def scenario() -> None:
        schedule = Schedule(slots=slots, turn_tokens=4)
        decoding: list[str | None] = []

        async def one(adapter: str | None, tokens: int) -> None:
            async with schedule.place(adapter):
                while tokens > 0:
                    async with schedule.turn(adapter) as turn:
                        decoding.append(adapter)
                        assert set(decoding) == {adapter}
                        assert len(decoding) <= slots
                        try:
                            while tokens > 0 and not turn.over():
                                tokens -= 1
                                await asyncio.sleep(0)
                                turn.over(1)
                        finally:
                            decoding.remove(adapter)

        tasks = [asyncio.create_task(one(adapter, tokens)) for adapter, tokens in requests]
        for pause, number in sorted(cancels):
            for _ in range(pause % 7):
                await asyncio.sleep(0)
            if number < len(tasks):
                tasks[number].cancel()
        for result in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20):
            assert result is None or isinstance(result, asyncio.CancelledError), result
        assert (schedule.running, schedule.waiting) == (0, 0)
        async with schedule.place("z"), schedule.turn("z"):
            pass

    play(scenario())


def test_a_place_granted_to_a_request_that_leaves_goes_to_the_next() -> None:
    async def scenario() -> None:
        schedule, done = Schedule(slots=1), asyncio.Event()
        log: list[str | None] = []
        first = asyncio.create_task(hold(schedule, "a", log, done))
        second = asyncio.create_task(hold(schedule, "b", log, asyncio.Event()))
        third = asyncio.create_task(hold(schedule, "c", log, done))
        await settle()
        second.cancel()
        done.set()
        await asyncio.gather(first, third)
        assert log == ["a", "c"]
        with pytest.raises(asyncio.CancelledError):
            await second

    play(scenario())
