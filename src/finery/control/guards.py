"""A guard asked about a prompt or a completion: one of the project's deployments, or the operator's on the network.

It is asked directly: what it says passes no filter and no limit, so that no guard guards itself. A guard that fails, is
late or says something else than its kind does is a failure of the filter. Knows no policy.
"""

import asyncio
import dataclasses
import json
import logging
from functools import reduce
from typing import Any

import httpx

from finery.control import addresses, chat
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import FineryError, Unavailable
from finery.core.policies import Guard, Verdict
from finery.safety.guards import KINDS, Question, UnreadableAnswer
from finery.serving.protocol import Delta, GenerateRequest

log = logging.getLogger(__name__)

PROMPT_CHARACTERS = 4000
"""How much of a prompt's end is shown with its completion; the prompt itself was read whole."""


async def examine(plane: ControlPlane, caller: Caller, guard: Guard, prompt: str, completion: str | None) -> Verdict:
    """What a guard says of a prompt, or of a completion that answers it.

    Raises:
        Unavailable: nothing, nothing in time, or nothing that can be read.
    """
    kind = KINDS[guard.kind]
    shown = prompt if completion is None else prompt[-PROMPT_CHARACTERS:]
    try:
        questions = kind.questions(shown, completion)
        answers = await asyncio.gather(*(_ask(plane, caller, guard, question) for question in questions))
        found = [kind.read(question, answer) for question, answer in zip(questions, answers, strict=True)]
    except (FineryError, UnreadableAnswer, httpx.HTTPError, OSError) as error:
        name = guard.deployment or plane.settings.guard_url
        log.error("the guard %s gave no verdict: %s %s", name, type(error).__name__, error)
        raise Unavailable(
            f"The guard '{guard.deployment or guard.model}' gave no verdict, so nothing is let through; try again.",
            code="content_filter_error",
        ) from error
    return reduce(Verdict.join, found)


async def _ask(plane: ControlPlane, caller: Caller, guard: Guard, question: Question) -> str:
    if guard.deployment is None:
        return await _of_network(plane, guard, question)
    model = await asyncio.to_thread(chat.find, plane, caller, guard.deployment)
    # Starting its server isn't counted: cut off in the middle, it would never be done.
    async with chat.use(plane, model) as (client, adapter), asyncio.timeout(guard.timeout_seconds):
        asked = GenerateRequest(
            messages=question.messages,
            prompt=question.prompt,
            adapter=adapter,
            max_tokens=KINDS[guard.kind].max_tokens,
            temperature=0.0,
            cache_scope=caller.project.id,
        )
        return "".join([piece.text async for piece in client.generate(asked) if isinstance(piece, Delta)])


async def _of_network(plane: ControlPlane, guard: Guard, question: Question) -> str:
    """The answer of a server that speaks OpenAI's API."""
    path = "completions" if question.messages is None else "chat/completions"
    asked = {key: value for key, value in dataclasses.asdict(question).items() if key != "finds" and value is not None}
    asked |= {"model": guard.model, "max_tokens": KINDS[guard.kind].max_tokens, "temperature": 0}
    key = plane.settings.guard_key
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    async with asyncio.timeout(guard.timeout_seconds):
        # Private addresses are the operator's own, who alone can name one.
        url = f"{plane.settings.guard_url.rstrip('/')}/{path}"
        address = await asyncio.to_thread(addresses.allowed, url, private=True)
        answer = await addresses.post(address, json.dumps(asked).encode(), headers, seconds=guard.timeout_seconds)
    answer.raise_for_status()
    return _text(answer)


def _text(answer: httpx.Response) -> str:
    try:
        choice: Any = answer.json()["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UnreadableAnswer("the answer isn't one of OpenAI's API") from error
    if not isinstance(text, str):
        raise UnreadableAnswer(f"the answer is {type(text).__name__}, no text")
    return text
