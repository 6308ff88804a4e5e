"""Log-probabilities of given tokens from llama.cpp, which has no way to ask for them; it opens no process.

A grammar of token ids (`root ::= <[60]> <[4130]>`) forces the answer to be the tokens in question, and the answer's
log-probabilities are the model's own, taken before the grammar. A grammar can't force a token that holds part of a
character, nor an end-of-turn token: these are looked up among all alternatives at their place instead.
"""

from collections.abc import Sequence
from typing import Any

from finery.core.errors import Unavailable
from finery.serving.engines.base import Token
from finery.serving.engines.llamacpp_completions import Completions
from finery.serving.pieces import TokenPieces

_ANY_ASCII = r"root ::= [\x20-\x7E]"
"""What is chosen doesn't matter, as long as it is a whole character: llama.cpp tells nothing where it isn't."""

_NO_NUMBERS = "empty grammar stack"
"""In what llama.cpp says where nothing that the grammar allows can be chosen: the model's own numbers are none (NaN),
as after a training that went astray. Such a model answers nonsense; how likely that was, nobody can tell."""


async def score(
    completions: Completions,
    tokens: Sequence[int],
    *,
    start: int,
    top: int,
    pieces: TokenPieces,
    fields: dict[str, Any],
) -> list[Token]:
    """tokens[start:] with log-probabilities and `top` alternatives; `fields` go into every request (slot, adapter)."""
    scored: list[Token] = []
    place = start
    while place < len(tokens):
        end = place
        while end < len(tokens) and _forceable(pieces.bytes_of(tokens[end])):
            end += 1
        if end > place:
            scored += await _forced(completions, tokens[:place], tokens[place:end], top, fields)
        else:
            end = place + 1
            found = await look_up(completions, tokens[:end], top=top, fields=fields)
            scored.append(found or Token(id=tokens[place]))
        place = end
    return scored


async def _forced(
    completions: Completions, before: Sequence[int], forced: Sequence[int], top: int, fields: dict[str, Any]
) -> list[Token]:
    grammar = "root ::= " + " ".join(f"<[{token}]>" for token in forced)
    answer = await _complete(completions, before, len(forced), max(top, 1), fields | {"grammar": grammar})
    if answer is None:
        return [Token(id=token) for token in forced]
    return [_token(token, there, top) for token, there in zip(forced, answer, strict=True)]


async def look_up(completions: Completions, tokens: Sequence[int], *, top: int, fields: dict[str, Any]) -> Token | None:
    """The last of the tokens with its log-probability, whatever kind of token it is: slow, for the rare kinds.

    None where the model has no numbers.
    """
    *before, last = tokens
    few = max(top, 1)
    for count in (few + 50, 1 << 20):
        answer = await _complete(completions, before, 1, count, fields | {"grammar": _ANY_ASCII})
        if answer is None:
            return None
        [there] = answer
        found = [other["logprob"] for other in there["top_logprobs"] if other["id"] == last]
        if found:
            return _token(last, there | {"logprob": found[0]}, top)
    return _token(last, there | {"logprob": None}, top)


async def _complete(
    completions: Completions, prompt: Sequence[int], count: int, alternatives: int, fields: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """The tokens with their probabilities; None where the model has none."""
    body = fields | {
        "prompt": list(prompt),
        "n_predict": count,
        "n_probs": alternatives,
        "temperature": 0.0,
        "samplers": ["temperature"],
        "cache_prompt": True,
    }
    try:
        return list((await completions.whole(body))["completion_probabilities"])
    except Unavailable as error:
        if _NO_NUMBERS in error.message:
            return None
        raise


def _token(token: int, there: dict[str, Any], top: int) -> Token:
    alternatives = tuple((other["id"], other["logprob"]) for other in there["top_logprobs"][:top])
    return Token(id=token, logprob=there["logprob"], top=alternatives)


def _forceable(spelled: bytes) -> bool:
    """Whether the token is whole characters (special tokens spell nothing here and are looked up)."""
    try:
        return bool(spelled.decode())
    except UnicodeDecodeError:
        return False
