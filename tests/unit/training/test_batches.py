"""Order, steps and passes as properties."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from finery.training import batches


@dataclass(frozen=True)
class Sized:
    num_tokens: int


def total(items: list[Sized]) -> int:
    return sum(item.num_tokens for item in items)


sizes = st.lists(st.integers(1, 60), min_size=1, max_size=60)


@given(sizes, st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_every_example_once_an_epoch(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    items = [Sized(length) for length in lengths]
    plan = batches.steps(items, batch_size=batch_size, tokens_per_pass=100, seed=seed, epoch=epoch, row_tokens=total)
    assert sorted(place for step in plan for place in step) == list(range(len(items)))
    assert sum(len(step) < batch_size for step in plan) <= 1
    assert plan == batches.steps(
        items, batch_size=batch_size, tokens_per_pass=100, seed=seed, epoch=epoch, row_tokens=total
    )


@given(sizes, st.integers(1, 9))
def test_the_first_step_has_the_largest_pass(lengths: list[int], batch_size: int) -> None:
    items = [Sized(length) for length in lengths]
    plan = batches.steps(items, batch_size=batch_size, tokens_per_pass=100, seed=1, epoch=0, row_tokens=total)

    def largest(step: list[int]) -> int:
        parts = batches.passes([items[place] for place in step], tokens_per_pass=100)
        return max(sum(item.num_tokens for item in part) for part in parts)

    assert largest(plan[0]) == max(largest(step) for step in plan)


@given(sizes, st.integers(1, 80))
def test_passes_keep_to_the_budget_and_lose_nothing(lengths: list[int], budget: int) -> None:
    items = [Sized(length) for length in lengths]
    parts = batches.passes(items, tokens_per_pass=budget)
    assert sorted(item.num_tokens for part in parts for item in part) == sorted(lengths)
    for part in parts:
        assert len(part) == 1 or sum(item.num_tokens for item in part) <= budget
    flat = [item.num_tokens for part in parts for item in part]
    assert flat == sorted(flat, reverse=True)


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(batches.order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_the_order_is_pinned() -> None:
    """Another order after an upgrade would break every run that goes on from a checkpoint."""
    assert batches.order(8, 0, 0) == [5, 0, 3, 6, 4, 7, 2, 1]
