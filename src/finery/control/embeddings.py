"""Texts as vectors: the mean of the model's last hidden states, scaled to length 1.

The engine that answers questions (llama.cpp) gives no hidden states, so embeddings have a server of their own with the
torch engine, started when first asked for.
"""

import asyncio
import math
from collections.abc import Sequence

from finery.control import chat, texts
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import ContextOverflow, InvalidRequest

MAX_INPUTS = 2048

_AT_ONCE = 4


async def embed(
    plane: ControlPlane, caller: Caller, name: str, inputs: Sequence[str | list[int]], dimensions: int | None
) -> tuple[list[list[float]], int]:
    """A vector for each input, and the tokens read.

    Raises:
        InvalidRequest: no inputs or too many, an empty one, tokens outside the vocabulary, too many dimensions.
        RateLimited: over the deployment's limits, or too many wait.
        ContextOverflow: an input longer than the context.
    """
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise InvalidRequest(f"There are {len(inputs)} inputs; send 1 to {MAX_INPUTS}.", param="input")
    model = await asyncio.to_thread(chat.find, plane, caller, name)
    template = texts.template_of(model.base)
    context = min(model.base.context_tokens, plane.settings.inference_context)
    encoded = []
    for i, given in enumerate(inputs):
        tokens = template.encode_text(given) if isinstance(given, str) else given
        texts.check_tokens(template, tokens, param=f"input[{i}]")
        if not tokens:
            raise InvalidRequest(f"input[{i}] is empty.", param=f"input[{i}]")
        if len(tokens) > context:
            raise ContextOverflow(
                f"input[{i}] has {len(tokens)} tokens; the model reads {context}. Shorten it, or send it in pieces.",
                param=f"input[{i}]",
            )
        encoded.append(tokens)
    room = asyncio.Semaphore(_AT_ONCE)
    count = sum(map(len, encoded))
    with (
        plane.traffic.watch(caller.project.id, name, words=False) as watch,
        plane.admission.enter(caller.project.id, name, model.deployment, count) as meter,
    ):
        async with plane.inference.use(model.base, model.tuned, engine="torch") as (client, adapter):

            async def one(tokens: list[int]) -> list[float]:
                async with room:
                    return _shorten(await client.embed(tokens, adapter=adapter), dimensions)

            vectors = await asyncio.gather(*(one(tokens) for tokens in encoded))
            watch.read(count)
            meter.used = count
    return list(vectors), count


def _shorten(vector: list[float], dimensions: int | None) -> list[float]:
    """The first `dimensions` numbers, scaled to length 1 again."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise InvalidRequest(
            f"dimensions is {dimensions}; this model's embeddings have {len(vector)}.", param="dimensions"
        )
    cut = vector[:dimensions]
    length = math.sqrt(sum(value * value for value in cut)) or 1.0
    return [value / length for value in cut]
