"""Pasts of many requests in one tensor: the same attention as each alone, and nothing of one is left to the next."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from finery.serving.engines import torch_pasts
from finery.serving.engines.torch_pasts import Past, Pasts, Span

HEADS, KEY_HEADS, WIDTH = 6, 2, 8


def attend(pasts: Pasts, requests: list[tuple[Past, int]], seed: int, window: int | None = None) -> list[Tensor]:
    """One pass of one layer, each request with so many tokens whose numbers follow from the seed and its own length."""
    spans, row = [], 0
    for past, count in requests:
        spans.append(Span(past, row, row + count))
        row += count
    draws = [torch.Generator().manual_seed(seed + past.length) for past, _ in requests]
    query, key, value = (
        torch.cat(
            [torch.randn(heads, count, WIDTH, generator=g) for g, (_, count) in zip(draws, requests, strict=True)], 1
        )
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    )
    pasts.begin(spans)
    seen = pasts.attend(0, query, key, value, scale=0.3, window=window)
    pasts.end(spans)
    return [seen[span.first : span.end] for span in spans]


@pytest.mark.parametrize("window", [None, 3])
def test_together_is_as_alone(window: int | None) -> None:
    counts = [5, 2, 4]
    alone = []
    for count in counts:
        pasts, past = Pasts(), Past(20)
        alone.append([attend(pasts, [(past, size)], 7, window)[0] for size in (count, 1, 1, 1)])
    pasts, several = Pasts(), [Past(20) for _ in counts]
    together = [attend(pasts, list(zip(several, counts, strict=True)), 7, window)]
    together += [attend(pasts, [(past, 1) for past in several], 7, window) for _ in range(3)]
    for number, steps in enumerate(alone):
        for step, expected in enumerate(steps):
            torch.testing.assert_close(together[step][number], expected)


def test_attention_is_torch_s_own() -> None:
    pasts, past = Pasts(), Past(8)
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(heads, 8, WIDTH, generator=generator) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    expected = F.scaled_dot_product_attention(
        query[None], key[None], value[None], is_causal=True, scale=0.3, enable_gqa=True
    )[0].transpose(0, 1)
    other = Past(8)
    for first, end in ((0, 4), (4, 5), (5, 6), (6, 8)):
        spans = [Span(past, 0, end - first), Span(other, end - first, 2 * (end - first))]
        parts = [one[:, first:end].repeat(1, 2, 1) for one in (query, key, value)]
        pasts.begin(spans)
        seen = pasts.attend(0, *parts, scale=0.3, window=None)
        pasts.end(spans)
        for span in spans:
            torch.testing.assert_close(seen[span.first : span.end], expected[first:end])


def test_a_past_that_grows_long_moves_out_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[Tensor]:
        pasts, first, second = Pasts(), Past(40), Past(40)
        seen = attend(pasts, [(first, 6), (second, 3)], 5)
        for _ in range(12):
            seen += attend(pasts, [(first, 1), (second, 1)], 5)
        return seen

    expected = run()
    monkeypatch.setattr(torch_pasts, "_SHORT", 10)
    for found, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_what_is_not_a_number_is_left_to_nobody() -> None:
    """A broken model's keys lie at a place that the next request gets, behind that one's end."""
    pasts, broken = Pasts(), Past(30)
    span = Span(broken, 0, 20)
    pasts.begin([span])
    pasts.attend(0, *(torch.full((heads, 20, WIDTH), torch.nan) for heads in (HEADS, 2, 2)), scale=0.3, window=None)
    pasts.end([span])
    del broken, span
    gc.collect()
    short, longer = Past(30), Past(30)
    attend(pasts, [(short, 2), (longer, 9)], 1)
    assert short.place == 0
    for seen in attend(pasts, [(short, 1), (longer, 1)], 1):
        assert seen.isfinite().all()


def test_places_are_given_back() -> None:
    pasts = Pasts()
    for _ in range(5):
        held = [Past(10) for _ in range(3)]
        attend(pasts, [(past, 2) for past in held], 0)
        assert sorted(past.place for past in held if past.place is not None) == [0, 1, 2]
        del held
        gc.collect()
