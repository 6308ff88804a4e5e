"""llama.cpp's /completion, whole or streamed, with its refusals as our errors; it knows no tokens' meaning."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from finery.core.errors import ContextOverflow, FineryError, InvalidRequest, Unavailable
from finery.serving.wire import Wire, lines_of

_PATH = "/completion"


class Completions:
    """Completions of one server."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer at once. Raises what a refused or failed request means."""
        status, content = await self._wire.request("POST", _PATH, body)
        answer = _parsed(content)
        if status != 200:
            raise _refusal(answer)
        return answer

    async def events(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The answer's events as they come; closing it ends the generation."""
        async with aclosing(self._wire.stream("POST", _PATH, body)) as stream:
            status, _ = await anext(stream)
            if status != 200:
                raise _refusal(_parsed("".join([part.decode(errors="replace") async for _, part in stream])))
            async with aclosing(lines_of(stream)) as lines:
                async for line in lines:
                    if line.startswith((b"data: {", b"error: {")):
                        event = json.loads(line[line.index(b"{") :])
                        if "error" in event or line.startswith(b"error"):
                            raise _refusal(event)
                        yield event


def _parsed(content: str) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except ValueError:
        return {"error": {"message": content[:500]}}


def _refusal(answer: dict[str, Any]) -> FineryError:
    error = answer.get("error", answer)
    message = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        return ContextOverflow(
            f"The prompt has {error.get('n_prompt_tokens')} tokens; the context holds {error.get('n_ctx')}."
        )
    if error.get("code") == 400:
        return InvalidRequest(f"llama.cpp can't do this request: {message}.")
    return Unavailable(f"llama.cpp failed: {message}.")
