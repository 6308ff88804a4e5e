"""The reference's side of a parity certificate: a child process with torch, JSON in, JSON out.

    python -m finery.serving.parity_reference < order.json

Started by `parity`. For each case it cuts the question into tokens with the base model's own template, reads the
served answer after it in one pass, and tells for every place, the one after the answer included, its likeliest tokens
and the log-probability of the token that was served.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from finery.core.errors import FineryError
from finery.modeling import sources
from finery.serving.answers import Answers
from finery.serving.config import ServerConfig
from finery.serving.engines.torch import TorchEngine
from finery.serving.protocol import AnswerToken, GenerateRequest, error_json

_NICE = 5
"""Whoever is being answered goes first; beside a job in training it still gets a quarter of a core."""


async def answer(order: dict[str, Any]) -> dict[str, Any]:
    """The cases of an order as the reference sees them, or the error that keeps it from seeing them."""
    try:
        return {"cases": await _read_cases(order)}
    except FineryError as error:
        return {"error": error_json(error)}


def main() -> None:
    """Entry point; see the module's docstring."""
    os.nice(_NICE)
    print(json.dumps(asyncio.run(answer(json.loads(sys.stdin.read())))))  # noqa: T201 - the parent reads this line


async def _read_cases(order: dict[str, Any]) -> list[dict[str, Any]]:
    adapters = {} if order["adapter_folder"] is None else {"adapter": order["adapter_folder"]}
    engine = TorchEngine(ServerConfig(model_folder=order["model_folder"], adapters=adapters, context_tokens=1 << 30))
    await engine.load()
    model = sources.load(Path(order["model_folder"]))
    answers = Answers(engine, model)
    ends = set(model.eos_token_ids)
    adapter = "adapter" if adapters else None
    return [await _read_case(answers, case, adapter, order["top"], ends) for case in order["cases"]]


async def _read_case(
    answers: Answers, case: dict[str, Any], adapter: str | None, top: int, ends: set[int]
) -> dict[str, Any]:
    prompt = answers.encode(GenerateRequest(**case["question"]))
    # An end after the answer: what is told of its place holds whether or not the served answer ended there.
    tokens = [*prompt, *case["answer"], min(ends)]
    places = await answers.score(tokens, adapter=adapter, top=top, start=len(prompt))
    return {"prompt": prompt, "places": [_place(place, ends) for place in places]}


def _place(place: AnswerToken, ends: set[int]) -> dict[str, Any]:
    top = [{"id": one.id, "text": one.text, "logprob": one.logprob} for one in place.top_logprobs]
    listed = {one.id: one.logprob for one in place.top_logprobs}
    end = max((listed[token] for token in ends if token in listed), default=min(listed.values()))
    return {"logprob": place.logprob, "top": top, "end_logprob": end}


if __name__ == "__main__":
    main()
