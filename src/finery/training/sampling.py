"""Answers drawn from the model in training, at temperature 1 from its whole distribution, with their log-probabilities.

Nothing is cut off or sharpened, so that what is drawn has the very probabilities that the loss asks for. Each answer is
drawn by a seed of its own, whatever else is drawn beside it. It does not know rewards, steps or text.
"""

# Names end in their shape. P: prompts, S: sequences going on, V: the vocabulary, H: hidden size.

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from finery.modeling.template import Example
from finery.training.model import TrainableModel
from finery.training.packing import pack
from finery.training.past import Past


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A prompt, and one seed for each answer that is wanted."""

    prompt: Sequence[int]
    seeds: Sequence[int]


@dataclass(kw_only=True, slots=True)
class Answer:
    """What the model said."""

    tokens: list[int] = field(default_factory=list)
    """With the end token, where it came to an end."""
    logprobs: list[float] = field(default_factory=list)
    """Of each token, when it was drawn."""
    ended: bool = False
    """Whether it ended by itself; if not, it was cut at the most tokens."""


class Sampler:
    """Draws from a model."""

    def __init__(
        self, model: TrainableModel, ends: Collection[int], *, max_tokens: int, cache_tokens: int, greedy: bool = False
    ) -> None:
        """`ends` are the tokens that end an answer. At most `cache_tokens` are kept at once, or those of one prompt.

        `greedy` takes the likeliest token, whatever the seed.
        """
        self._model = model
        self._ends = frozenset(ends)
        self._max_tokens = max_tokens
        self._cache_tokens = cache_tokens
        self._greedy = greedy

    @torch.no_grad()
    def answers(self, asks: Sequence[Ask]) -> list[list[Answer]]:
        """For each ask, an answer a seed."""
        found: list[list[Answer]] = []
        for part in self._parts(asks):
            flat = iter(self._draw(part))
            found += [[next(flat) for _ in ask.seeds] for ask in part]
        return found

    def _parts(self, asks: Sequence[Ask]) -> Iterator[list[Ask]]:
        part: list[Ask] = []
        longest = sequences = 0
        for ask in asks:
            longest, sequences = max(longest, len(ask.prompt)), sequences + len(ask.seeds)
            if part and (longest + self._max_tokens) * sequences > self._cache_tokens:
                yield part
                part, longest, sequences = [], len(ask.prompt), len(ask.seeds)
            part.append(ask)
        if part:
            yield part

    def _draw(self, asks: Sequence[Ask]) -> list[Answer]:
        copies = [len(ask.seeds) for ask in asks]
        answers = [Answer() for _ in range(sum(copies))]
        draws = [_draws(seed, self._max_tokens) for ask in asks for seed in ask.seeds]
        past, logits_PV = self._read(asks, copies)
        logits_SV = logits_PV.repeat_interleave(torch.tensor(copies, device=logits_PV.device), dim=0)
        going = list(range(len(answers)))
        """Which answer each row of the past belongs to; some may have ended already."""
        for place in range(self._max_tokens):
            chosen_S, logprobs_S = self._choose(logits_SV, [draws[answer][place] for answer in going])
            self._note(answers, going, chosen_S.tolist(), logprobs_S.tolist())
            left = [row for row, answer in enumerate(going) if not answers[answer].ended]
            if not left or place + 1 == self._max_tokens:
                break
            if len(left) <= len(going) // 2:
                past.keep(left)
                going, chosen_S = [going[row] for row in left], chosen_S[torch.tensor(left, device=chosen_S.device)]
            with past.going_on():
                hidden_SH = self._model.read(chosen_S, past.lengths_S)
            logits_SV = self._model.logits(hidden_SH)
        return answers

    def _read(self, asks: Sequence[Ask], copies: Sequence[int]) -> tuple[Past, Tensor]:
        """Read every prompt once: its keys and values for all its answers, and the logits of their first token."""
        documents = [Example(tokens=list(ask.prompt), weights=[0.0] * len(ask.prompt)) for ask in asks]
        packed = pack(documents, self._model.device)
        past = Past()
        with past.reading():
            hidden_PH = self._model.hidden(packed)[packed.last_D]
        past.spread(packed.starts, copies, self._max_tokens)
        return past, self._model.logits(hidden_PH)

    def _choose(self, logits_SV: Tensor, draws: Sequence[float]) -> tuple[Tensor, Tensor]:
        """The next token of each sequence, and its log-probability."""
        if self._greedy:
            chosen_S1 = logits_SV.argmax(-1, keepdim=True)
        else:
            sums_SV = logits_SV.double().softmax(-1).cumsum(-1)
            draws_S1 = torch.tensor(draws, dtype=torch.float64, device=logits_SV.device)[:, None]
            chosen_S1 = torch.searchsorted(sums_SV, draws_S1 * sums_SV[:, -1:], right=True)
            chosen_S1 = chosen_S1.clamp_(max=logits_SV.shape[1] - 1)
        return chosen_S1[:, 0], logits_SV.log_softmax(-1).gather(1, chosen_S1)[:, 0]

    def _note(self, answers: list[Answer], going: list[int], tokens: list[int], logprobs: list[float]) -> None:
        for number, token, logprob in zip(going, tokens, logprobs, strict=True):
            answer = answers[number]
            if answer.ended:
                continue
            answer.tokens.append(token)
            answer.logprobs.append(logprob)
            answer.ended = token in self._ends


def _draws(seed: int, count: int) -> list[float]:
    """Uniform numbers from 0 to 1, by the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[float] = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
    return drawn
