"""One pass of a model over the next tokens of several requests at once, each with its own past and its own adapter.

All tokens lie behind one another in one row for the model's own code; attention (registered with transformers under
`NAME`) keeps each request to its own keys and values, and each linear layer adds each request's own low-rank part.
It knows no sampling and no schedule.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from finery.core.errors import InvalidRequest
from finery.modeling.adapters import module_name, read_adapter
from finery.modeling.architectures import linear_layers
from finery.serving.engines import torch_weights
from finery.serving.engines.torch_adapters import Adapter, AdapterRows, LowRank

NAME = "finery_rows"


class Past:
    """Keys and values of one request, for every layer; memory is taken as it is filled."""

    def __init__(self, capacity: int) -> None:
        self.length = 0
        self._capacity = capacity
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append [heads, tokens, width] and give all so far; `length` moves once all layers are through."""
        if layer not in self._layers:
            heads, _, width = keys.shape
            self._layers[layer] = (
                keys.new_empty(heads, self._capacity, width),
                values.new_empty(heads, self._capacity, width),
            )
        all_keys, all_values = self._layers[layer]
        end = self.length + keys.shape[1]
        all_keys[:, self.length : end] = keys
        all_values[:, self.length : end] = values
        return all_keys[:, :end], all_values[:, :end]


@dataclass(frozen=True, slots=True)
class Part:
    """A request's share of a pass."""

    tokens: Sequence[int]
    past: Past
    adapter: Adapter
    keep: int = 1
    """Logits of this many of the last tokens are wanted."""


class RowModel:
    """A base model that reads parts."""

    def __init__(self, folder: Path, config: dict[str, Any], precision: str = "fp32") -> None:
        """Weights are in this precision. Raises CorruptArtifact where the folder can't be loaded."""
        self._config = config
        self._dtype = torch_weights.activation_dtype(precision)
        self._model = torch_weights.load(folder, precision, NAME)
        linears = linear_layers(config)
        self._adapters = AdapterRows(linears, self._dtype)
        for path in linears:
            self._model.get_submodule(path).register_forward_hook(self._hook(path))

    def load_adapter(self, folder: Path) -> Adapter:
        """Read an adapter of this base. Raises InvalidRequest or CorruptArtifact, naming what is wrong with it."""
        config, tensors = read_adapter(folder, self._config)
        if config.dora or config.task != "CAUSAL_LM":
            raise InvalidRequest(f"{folder} is a {config.task} adapter (DoRA: {config.dora}); plain LoRA is served.")
        return {
            module_name(name): LowRank(
                torch.tensor(a, dtype=self._dtype),
                (torch.tensor(tensors[name.replace(".lora_A.", ".lora_B.")]) * config.scale).to(self._dtype),
            )
            for name, a in tensors.items()
            if name.endswith(".lora_A.weight")
        }

    @torch.inference_mode()
    def read(self, parts: Sequence[Part]) -> list[Tensor]:
        """For each part, logits [keep, vocabulary] in fp32; its past then holds its tokens too."""
        order = self._adapters.arrange([(part.adapter, len(part.tokens)) for part in parts])
        arranged = [parts[number] for number in order]
        hidden_TH = self._hidden(arranged)
        kept = [hidden_TH[end - part.keep : end] for part, end in zip(arranged, _ends(arranged), strict=True)]
        logits = self._model.get_output_embeddings()(torch.cat(kept))  # type: ignore[no-untyped-call]
        found = logits.float().split([part.keep for part in arranged])
        return [found[order.index(number)] for number in range(len(parts))]

    @torch.inference_mode()
    def embed(self, part: Part) -> Tensor:
        """Mean of the last hidden states [hidden], scaled to length 1."""
        self._adapters.arrange([(part.adapter, len(part.tokens))])
        return F.normalize(self._hidden([part]).mean(0), dim=0)

    def _hidden(self, parts: Sequence[Part]) -> Tensor:
        ids = [token for part in parts for token in part.tokens]
        positions = [part.past.length + i for part in parts for i in range(len(part.tokens))]
        with _reading(parts):
            outputs = self._model.base_model(
                input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]), use_cache=False
            )
        for part in parts:
            part.past.length += len(part.tokens)
        hidden: Tensor = outputs.last_hidden_state[0]
        return hidden

    def _hook(self, path: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            self._adapters.add(path, inputs[0][0], output[0])

        return add


_parts: ContextVar[Sequence[Part]] = ContextVar("parts")


@contextmanager
def _reading(parts: Sequence[Part]) -> Iterator[None]:
    token = _parts.set(parts)
    try:
        yield
    finally:
        _parts.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, heads, T, width], keys and values [1, key heads, T, width]."""
    parts = _parts.get()
    layer = module.layer_idx
    assert isinstance(layer, int)
    outputs = []
    for part, end in zip(parts, _ends(parts), strict=True):
        begin = end - len(part.tokens)
        keys, values = part.past.extend(layer, key[0, :, begin:end], value[0, :, begin:end])
        mask = _mask(end - begin, keys.shape[1], sliding_window)
        outputs.append(
            F.scaled_dot_product_attention(
                query[:, :, begin:end], keys[None], values[None], attn_mask=mask, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _mask(new: int, total: int, window: int | None) -> Tensor | None:
    """True where one of the `new` last tokens of `total` may look; None where each may look everywhere."""
    if new == 1 and (window is None or total <= window):
        return None
    rows = torch.arange(total - new, total)[:, None]
    columns = torch.arange(total)[None]
    seen = columns <= rows
    return seen if window is None else seen & (columns > rows - window)


def _ends(parts: Sequence[Part]) -> list[int]:
    ends, end = [], 0
    for part in parts:
        end += len(part.tokens)
        ends.append(end)
    return ends


AttentionInterface.register(NAME, _attend)
