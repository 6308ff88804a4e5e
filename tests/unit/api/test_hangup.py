"""A client that goes away ends the work on its answer; nothing else is ever broken off."""

import asyncio
from typing import Any

import pytest

from finery.api.hangup import HangUp


class Exchange:
    """One request to an application, whose client may leave."""

    def __init__(self, path: str) -> None:
        self.scope: Any = {"type": "http", "method": "POST", "path": path}
        self.sent: list[Any] = []
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.incoming.put_nowait({"type": "http.request", "body": b"{}", "more_body": False})
        self.log: list[str] = []
        self.go_on = asyncio.Event()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"{}"
        self.log.append("began")
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        await asyncio.sleep(0)
        self.log.append("ended")

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message.get("body") == b"b":
            # As uvicorn has it: a response that is whole counts as the end of the connection.
            self.incoming.put_nowait({"type": "http.disconnect"})

    def begin(self) -> "asyncio.Task[None]":
        return asyncio.create_task(HangUp(self.app)(self.scope, self.incoming.get, self.send))


def play(path: str, *, leave: bool) -> Exchange:
    async def scenario() -> Exchange:
        exchange = Exchange(path)
        task = exchange.begin()
        while not exchange.log:
            await asyncio.sleep(0)
        if leave:
            exchange.incoming.put_nowait({"type": "http.disconnect"})
            for _ in range(10):
                await asyncio.sleep(0)
        exchange.go_on.set()
        await asyncio.wait_for(task, 5)
        return exchange

    return asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/deployments/d/chat/completions", "/v1/responses"])
def test_an_answer_nobody_waits_for_is_broken_off(path: str) -> None:
    exchange = play(path, leave=True)
    assert exchange.log == ["began", "cancelled"]
    assert exchange.sent == []


def test_an_answer_somebody_waits_for_is_whole_and_so_is_its_tail() -> None:
    exchange = play("/v1/chat/completions", leave=False)
    assert exchange.log == ["began", "ended"]
    assert [message.get("body") for message in exchange.sent] == [None, b"a", b"b"]


def test_other_work_is_finished() -> None:
    assert play("/v1/files", leave=True).log == ["began", "ended"]


def test_an_error_of_the_application_comes_through() -> None:
    async def scenario() -> None:
        exchange = Exchange("/v1/responses")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise ZeroDivisionError

        await HangUp(app)(exchange.scope, exchange.incoming.get, exchange.send)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())
