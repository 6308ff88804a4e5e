"""Keys and values of sequences that a model writes on, kept layer by layer. It does not know models or sampling.

The model's own code calls for attention once a layer, always in the same order: that order is how layers are told
apart. A prompt is read once however many sequences begin with it.
"""

# Names end in their shape. S: sequences, C: places of each, q and k: heads of queries and of keys, d: their width.

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from finery.training import attention

Rotary = tuple[Tensor, Tensor] | None


class Past:
    """What S sequences have read so far."""

    def __init__(self) -> None:
        self.lengths_S = torch.zeros(0, dtype=torch.int64)
        """int64[S]: tokens of each sequence; the position of its next one."""
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._layer = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within it, a pass of packed prompts leaves its keys and values here; `spread` comes next."""
        with attention.through(self._keep):
            yield

    def spread(self, starts: Sequence[int], copies: Sequence[int], room: int) -> None:
        """Let so many sequences begin with each prompt that was read, with `room` for further tokens."""
        prompts = [prompt for prompt, count in enumerate(copies) for _ in range(count)]
        lengths = [end - begin for begin, end in pairwise(starts)]
        capacity = max(lengths) + room
        self._keys = [_spread(rows, starts, prompts, capacity) for rows in self._keys]
        self._values = [_spread(rows, starts, prompts, capacity) for rows in self._values]
        self.lengths_S = torch.tensor([lengths[prompt] for prompt in prompts], device=self._keys[0].device)
        self._layer = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Within it, a pass of one token a sequence attends to what its sequence has read, and is read itself."""
        with attention.through(self._go_on):
            yield
        self.lengths_S = self.lengths_S + 1

    def keep(self, sequences: Sequence[int]) -> None:
        """Go on with these alone."""
        chosen = torch.tensor(sequences, device=self.lengths_S.device)
        self._keys = [keys.index_select(0, chosen) for keys in self._keys]
        self._values = [values.index_select(0, chosen) for values in self._values]
        self.lengths_S = self.lengths_S[chosen]

    def _keep(
        self, query_Tqd: Tensor, key_Tkd: Tensor, value_Tkd: Tensor, *, scale: float, window: int | None, rotary: Rotary
    ) -> Tensor:
        turned_Tkd = key_Tkd if rotary is None else attention.turn(key_Tkd, *rotary)
        self._keys.append(turned_Tkd.to(value_Tkd.dtype))
        self._values.append(value_Tkd)
        return attention.within_documents(query_Tqd, key_Tkd, value_Tkd, scale=scale, window=window, rotary=rotary)

    def _go_on(
        self, query_Sqd: Tensor, key_Skd: Tensor, value_Skd: Tensor, *, scale: float, window: int | None, rotary: Rotary
    ) -> Tensor:
        if rotary is not None:
            query_Sqd, key_Skd = (attention.turn(x, *rotary) for x in (query_Sqd, key_Skd))
        keys_SkCd, values_SkCd = self._keys[self._layer], self._values[self._layer]
        self._layer = (self._layer + 1) % len(self._keys)
        sequences, lengths_S = torch.arange(len(key_Skd), device=key_Skd.device), self.lengths_S
        keys_SkCd[sequences, :, lengths_S] = key_Skd.to(keys_SkCd.dtype)
        values_SkCd[sequences, :, lengths_S] = value_Skd
        end = int(lengths_S.max()) + 1
        places_C = torch.arange(end, device=key_Skd.device)
        seen_SC = places_C <= lengths_S[:, None]
        if window is not None:
            seen_SC &= places_C > lengths_S[:, None] - window
        out_Sq1d = F.scaled_dot_product_attention(
            query_Sqd[:, :, None].to(values_SkCd.dtype),
            keys_SkCd[:, :, :end],
            values_SkCd[:, :, :end],
            attn_mask=seen_SC[:, None, None],
            scale=scale,
            enable_gqa=True,
        )
        return out_Sq1d[:, :, 0]


def _spread(rows_Tkd: Tensor, starts: Sequence[int], prompts: Sequence[int], capacity: int) -> Tensor:
    """The rows of each sequence's prompt at its beginning: [S, k, C, d]."""
    spread_SkCd = rows_Tkd.new_zeros(len(prompts), rows_Tkd.shape[1], capacity, rows_Tkd.shape[2])
    for sequence, prompt in enumerate(prompts):
        begin, end = starts[prompt], starts[prompt + 1]
        spread_SkCd[sequence, :, : end - begin] = rows_Tkd[begin:end].transpose(0, 1)
    return spread_SkCd
