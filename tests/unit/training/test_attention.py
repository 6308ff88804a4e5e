"""Attention as transformers' models call it, and the ways of devices that have no kernel of ours."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from finery.training import attention

STARTS = (0, 4, 5, 12)


def heads(count: int) -> Tensor:
    return torch.randn(1, count, STARTS[-1], 8, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("window", [None, 3])
def test_documents_do_not_see_each_other(window: int | None) -> None:
    query, key, value = heads(4), heads(2), heads(2) + 1

    def run(starts: tuple[int, ...], rows: slice) -> Tensor:
        with attention.documents(starts, torch.device("cpu")):
            parts = (x[:, :, rows] for x in (query, key, value))
            return attention.attend_for_transformers(nn.Module(), *parts, None, sliding_window=window)[0]

    together = run(STARTS, slice(None))
    alone = [run((0, end - begin), slice(begin, end)) for begin, end in pairwise(STARTS)]
    torch.testing.assert_close(together, torch.cat(alone, 1))


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("rotated", [8, 4])
def test_a_call_for_each_document_agrees_with_the_kernel(window: int | None, rotated: int) -> None:
    """What GPUs without torch's variable-length kernel do."""
    query, key, value = (x[0].transpose(0, 1) for x in (heads(4), heads(2), heads(2) + 1))
    angles = torch.rand(STARTS[-1], rotated // 2, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    turns = angles.cos(), angles.sin()
    with attention.documents(STARTS, torch.device("cpu")):
        kernel = attention.attend(query, key, value, scale=0.4, window=window, rotary=turns)
    turned = attention.turn(query, *turns), attention.turn(key, *turns), value
    outs = [attention._one_document(*(x[begin:end] for x in turned), 0.4, window) for begin, end in pairwise(STARTS)]
    torch.testing.assert_close(kernel, torch.cat(outs))


def test_how_a_layer_attends_can_be_watched() -> None:
    with attention.documents(STARTS, torch.device("cpu")), attention.watched() as seen:
        attention.attend_for_transformers(nn.Module(), heads(4), heads(2), heads(2), None, 0.5, sliding_window=9)
    assert seen == [attention.HeadShape(4, 2, 8, 0.5, 9)]


def test_capped_scores_are_refused() -> None:
    with attention.documents(STARTS, torch.device("cpu")), pytest.raises(NotImplementedError, match="caps or sinks"):
        attention.attend_for_transformers(nn.Module(), heads(4), heads(2), heads(2), None, softcap=30.0)
