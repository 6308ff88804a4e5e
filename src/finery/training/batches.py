"""Which examples make up a step, and how a step is cut into passes. It does not know tokens, models or torch.

The order of an epoch is a function of seed and epoch alone, so a place in it is one number: how many examples are done.
"""

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Sized(Protocol):
    """What batching needs of an item."""

    @property
    def num_tokens(self) -> int:
        """Tokens it puts into a pass."""
        ...


AnySized = TypeVar("AnySized", bound=Sized)


def order(count: int, seed: int, epoch: int) -> list[int]:
    """The places 0 to `count` - 1, shuffled for this epoch (counted from 0)."""
    places = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(places)  # noqa: S311 (reproducible on purpose, guards nothing)
    return places


def steps(
    items: Sequence[AnySized],
    *,
    batch_size: int,
    tokens_per_pass: int,
    seed: int,
    epoch: int,
    row_tokens: Callable[[list[AnySized]], int],
) -> list[list[int]]:
    """The places in `items` of each step of an epoch; one step may have fewer than `batch_size`.

    In the first epoch the step with the largest pass comes first: what it needs of memory, no later step exceeds.
    `row_tokens` tells how long the row of a pass is, which may hold what its items have in common once.
    """
    places = order(len(items), seed, epoch)
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
    if epoch > 0:
        return batches

    def largest_pass(batch: list[int]) -> int:
        return max(
            row_tokens(part) for part in passes([items[place] for place in batch], tokens_per_pass=tokens_per_pass)
        )

    heaviest = max(range(len(batches)), key=lambda index: largest_pass(batches[index]))
    return [batches[heaviest], *batches[:heaviest], *batches[heaviest + 1 :]]


def shares(items: Sequence[AnySized], count: int) -> list[list[AnySized]]:
    """Deal `items` out to `count` ranks, so that each has about as many tokens."""
    dealt: list[list[AnySized]] = [[] for _ in range(count)]
    loads = [0] * count
    for item in sorted(items, key=lambda item: item.num_tokens, reverse=True):
        least = loads.index(min(loads))
        dealt[least].append(item)
        loads[least] += item.num_tokens
    return dealt


def passes(items: Sequence[AnySized], *, tokens_per_pass: int) -> list[list[AnySized]]:
    """Cut `items` into parts of at most `tokens_per_pass` tokens, neighbours in length together, longest first.

    An item above the budget makes a pass of its own.
    """
    parts: list[list[AnySized]] = []
    room = 0
    for item in sorted(items, key=lambda item: item.num_tokens, reverse=True):
        if not parts or item.num_tokens > room:
            parts.append([])
            room = tokens_per_pass
        parts[-1].append(item)
        room -= item.num_tokens
    return parts
