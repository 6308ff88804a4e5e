"""The async client of an inference server: all that the control plane needs of the inference side. No torch, no engine.

A server that dies, also in the middle of an answer, is an `Unavailable`; every other error is the server's own.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from finery.core.errors import Unavailable
from finery.serving.protocol import (
    AnswerToken,
    Delta,
    Finish,
    GenerateRequest,
    parse_line,
    parse_score,
    raise_error,
)
from finery.serving.wire import Wire, lines_of

_CALL_SECONDS = 120.0
_ADAPTER_SECONDS = 600.0
"""An adapter is converted and loaded before the call returns."""


class InferenceClient:
    """Calls to one inference server. Made once, used by many tasks, closed at the end."""

    def __init__(self, port: int, token: str) -> None:
        self._wire = Wire(server="The inference server", key=token, port=port)

    async def health(self) -> dict[str, Any]:
        """What is served: engine, context_tokens, slots, adapters. Raises Unavailable within 5 seconds."""
        return dict(await self._call("GET", "/health", seconds=5.0))

    async def adapters(self) -> dict[str, str]:
        """Names and folders of the loaded adapters."""
        return dict(await self._call("GET", "/adapters"))

    async def put_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter; when this returns, requests may name it.

        Raises InvalidRequest for another base's adapter, CorruptArtifact for a damaged one.
        """
        await self._call("PUT", f"/adapters/{quote(name, safe='')}", {"folder": str(folder)}, seconds=_ADAPTER_SECONDS)

    async def delete_adapter(self, name: str) -> None:
        """Forget an adapter; requests in flight on it finish. Raises UnknownModel."""
        await self._call("DELETE", f"/adapters/{quote(name, safe='')}")

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta | Finish, None]:
        """Pieces of the answer, then one Finish. Closing the iterator ends the generation.

        Raises InvalidRequest, ContextOverflow or UnknownModel before the first piece, Unavailable at any time.
        """
        async with aclosing(self._wire.stream("POST", "/generate", request.to_json())) as stream:
            status, _ = await anext(stream)
            if status != 200:
                _raise(status, b"".join([part async for _, part in stream]))
            finished = False
            async with aclosing(lines_of(stream)) as lines:
                async for line in lines:
                    part = parse_line(line)
                    finished = isinstance(part, Finish)
                    yield part
        if not finished:
            raise Unavailable("The inference server ended in the middle of an answer; try again.")

    async def tokenize(self, request: GenerateRequest) -> list[int]:
        """The prompt's tokens, as `generate` would use them."""
        answer = await self._call("POST", "/tokenize", request.to_json())
        return list(answer["tokens"])

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special tokens left out."""
        answer = await self._call("POST", "/detokenize", {"tokens": list(tokens)})
        return str(answer["text"])

    async def score(
        self, tokens: Sequence[int], *, adapter: str | None = None, top: int = 0, start: int = 1
    ) -> list[AnswerToken]:
        """tokens[start:] with log-probabilities given all before them, and `top` alternatives each."""
        body = {"tokens": list(tokens), "adapter": adapter, "top": top, "start": start}
        return parse_score(await self._call("POST", "/score", body))

    async def embed(self, tokens: Sequence[int], *, adapter: str | None = None) -> list[float]:
        """Mean of the last hidden states, scaled to length 1. Raises InvalidRequest where the engine can't."""
        answer = await self._call("POST", "/embed", {"tokens": list(tokens), "adapter": adapter})
        return list(answer["embedding"])

    async def metrics(self) -> str:
        """Counters and gauges in Prometheus' text format."""
        status, content = await self._wire.request("GET", "/metrics")
        if status != 200:
            _raise(status, content)
        return content

    async def close(self) -> None:
        """Nothing is held open between calls; streams still read are their readers' to close."""

    async def __aenter__(self) -> "InferenceClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: str, path: str, body: Any = None, *, seconds: float = _CALL_SECONDS) -> Any:
        try:
            async with asyncio.timeout(seconds):
                status, content = await self._wire.request(method, path, body)
        except TimeoutError as error:
            raise Unavailable(f"The inference server gave no answer within {seconds:g} s.") from error
        if status != 200:
            _raise(status, content)
        return json.loads(content)


def _raise(status: int, content: str | bytes) -> None:
    try:
        raise_error(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"The inference server answered with status {status}.") from error
