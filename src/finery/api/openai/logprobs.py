"""Log-probabilities in the shapes of chat completions and of plain completions."""

from collections.abc import Sequence
from typing import Any

from finery.serving.protocol import AnswerToken


def chat_logprobs(tokens: Sequence[AnswerToken]) -> dict[str, Any]:
    """`logprobs` of a chat choice."""
    return {"content": [token_logprob(token) for token in tokens], "refusal": None}


def token_logprob(token: AnswerToken) -> dict[str, Any]:
    """One token with its alternatives."""
    tops = [{"token": top.text, "logprob": top.logprob, "bytes": list(top.text.encode())} for top in token.top_logprobs]
    spelled = list(token.bytes) if token.bytes is not None else list(token.text.encode())
    # OpenAI writes -9999.0 for what is too unlikely to be told.
    value = -9999.0 if token.logprob is None else token.logprob
    return {"token": token.text, "logprob": value, "bytes": spelled, "top_logprobs": tops}


def completion_logprobs(tokens: Sequence[AnswerToken], *, start: int) -> dict[str, Any]:
    """`logprobs` of a plain completion; `start` is the offset of its first token's first character."""
    offsets = []
    for token in tokens:
        offsets.append(start)
        start += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [
            None if token.logprob is None else {top.text: top.logprob for top in token.top_logprobs} for token in tokens
        ],
        "text_offset": offsets,
    }
