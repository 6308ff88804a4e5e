"""Documents laid one after the other in one row, without padding. It does not know models, templates or batches.

A pass of D documents and T tokens is one row: `tokens_T` holds the documents' tokens, `positions_T` restarts at every
document, `starts` says where each begins. Attention over such a row stays within a document, so that the row gives the
same logits as its documents one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor


class Document(Protocol):
    """What `pack` needs of an example: token ids, and for each token the weight of the loss of predicting it."""

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def weights(self) -> Sequence[float]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedPass:
    """One row of documents on the model's device."""

    tokens_T: Tensor
    """int64[T]."""
    positions_T: Tensor
    """int64[T], from 0 in every document."""
    targets_T: Tensor
    """int64[T]: the next token of the same document; 0 (with weight 0) at a document's last token."""
    weights_T: Tensor
    """float32[T]: loss weight of predicting `targets_T`; 0 is not trained."""
    starts: tuple[int, ...]
    """Offsets of the documents in the row and, last, T: one more entry than there are documents."""
    trained_N: Tensor
    """int64[N]: the places in the row whose weight isn't 0, in order."""

    @property
    def documents(self) -> int:
        """How many documents lie in the row."""
        return len(self.starts) - 1


def pack(examples: Sequence[Document], device: torch.device | str) -> PackedPass:
    """Lay documents one after the other. Raises ValueError if there are none, or one is empty or uneven."""
    if not examples:
        raise ValueError("nothing to pack: a pass needs at least one document")
    tokens: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for index, example in enumerate(examples):
        length = len(example.tokens)
        if length == 0 or length != len(example.weights):
            raise ValueError(f"document {index} has {length} tokens and {len(example.weights)} weights")
        tokens.extend(example.tokens)
        positions.extend(range(length))
        targets.extend(example.tokens[1:])
        targets.append(0)
        weights.extend(example.weights[1:])
        weights.append(0.0)
    weights_T = torch.tensor(weights, dtype=torch.float32)
    return PackedPass(
        tokens_T=torch.tensor(tokens, dtype=torch.int64).to(device),
        positions_T=torch.tensor(positions, dtype=torch.int64).to(device),
        targets_T=torch.tensor(targets, dtype=torch.int64).to(device),
        weights_T=weights_T.to(device),
        starts=(0, *accumulate(len(example.tokens) for example in examples)),
        trained_N=weights_T.nonzero().squeeze(1).to(device),
    )
