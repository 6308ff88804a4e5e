"""How likely a row's answer is under a model: the very tokens that training would learn from, scored by the inference
server. Its mean over rows is the trainer's validation loss, but for the precision of the engine's weights.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from finery.control import chat, texts
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import ContextOverflow, InvalidRequest
from finery.evaluation.likelihood import Likelihood


async def score(plane: ControlPlane, caller: Caller, name: str, row: Mapping[str, Any]) -> Likelihood:
    """The last answer of a chat row, or a completion, under a model.

    Raises:
        UnknownModel: no such model. InvalidRequest: a row that can't be rendered, or that has nothing to score.
        ContextOverflow: it is longer than the context.
    """
    model = await asyncio.to_thread(chat.find, plane, caller, name)
    example = await asyncio.to_thread(texts.template_of(model.base).encode_example, _last_answer_only(row))
    places = [place for place, weight in enumerate(example.weights) if weight > 0 and place > 0]
    if not places:
        raise InvalidRequest("The row has no answer that could be scored.")
    context = min(model.base.context_tokens, plane.settings.inference_context)
    if len(example.tokens) > context:
        raise ContextOverflow(f"The row has {len(example.tokens)} tokens; the model reads {context}.")
    start, end = places[0], places[-1] + 1
    async with plane.inference.use(model.base, model.tuned) as (client, adapter):
        scored = await client.score(example.tokens[:end], adapter=adapter, top=1, start=start)
    counted = [scored[place - start] for place in places]
    return Likelihood(
        # What an engine can't tell is at least this unlikely.
        logprob=sum(-100.0 if token.logprob is None else token.logprob for token in counted),
        tokens=len(counted),
        right=sum(bool(token.top_logprobs) and token.top_logprobs[0].id == token.id for token in counted),
    )


def _last_answer_only(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if "messages" not in row:
        return row
    *before, last = row["messages"]
    earlier = [{**message, "weight": 0} if message.get("role") == "assistant" else message for message in before]
    return {**row, "messages": [*earlier, {**last, "weight": 1}]}
