"""llama.cpp's streamed events to tokens, every one with its id; it opens no connection but to ask for what is missing.

llama.cpp counts every token but sends an event only when the text so far ends on a whole character. The tokens of a
character that came late are found from its bytes and their number. Where that fails (bytes that never made a character)
the reader is `lost`, and the tokens are asked for again, without streaming, which does list them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from finery.serving.engines.base import Token
from finery.serving.engines.llamacpp_completions import Completions
from finery.serving.pieces import TokenPieces


@dataclass(kw_only=False, slots=True)
class EventReader:
    """Events of one answer, in order."""

    pieces: TokenPieces
    cached_tokens: int = field(default=0, init=False)
    ended_by: str = field(default="", init=False)
    """llama.cpp's reason: eos, limit or word; empty until the end."""
    lost: int = field(default=0, init=False)
    """Tokens that came without an id after the last one given; `ask_again` has them. Nothing after them is given."""
    _counted: int = field(default=0, init=False)

    def read(self, event: dict[str, Any]) -> Iterator[Token]:
        """Tokens that this event tells of."""
        if "prompt_progress" in event:
            self.cached_tokens = event["prompt_progress"]["cache"]
            return
        total = event["tokens_predicted"]
        if event["stop"]:
            self.ended_by = event["stop_type"]
            self.lost = total - self._counted
            return
        unsent = total - self._counted - 1
        self._counted = total
        last = event["tokens"][-1]
        found = self._unsent_tokens(event["content"], last, unsent)
        if found is None:
            self.lost = unsent
            return
        yield from found
        yield _token(last, event.get("completion_probabilities"))

    async def ask_again(self, completions: Completions, body: dict[str, Any], tokens: list[int]) -> list[Token]:
        """The lost tokens, which follow `tokens`."""
        if self.lost == 0:
            return []
        asked = body | {"stream": False, "return_progress": False, "prompt": tokens, "n_predict": self.lost}
        return [Token(id=token) for token in (await completions.whole(asked))["tokens"]]

    def _unsent_tokens(self, content: str, last: int, count: int) -> list[Token] | None:
        if count == 0:
            return []
        if "\ufffd" in content:  # bytes that are no character have been replaced
            return None
        found = self.pieces.split(content.encode().removesuffix(self.pieces.bytes_of(last)), count)
        return None if found is None else [Token(id=token) for token in found]


def _token(token: int, probabilities: list[dict[str, Any]] | None) -> Token:
    if not probabilities:
        return Token(id=token)
    here = probabilities[-1]
    top = tuple((other["id"], other["logprob"]) for other in here["top_logprobs"])
    return Token(id=token, logprob=here["logprob"], top=top)
