"""One pass of a model over the next tokens of several requests at once, each with its own past and its own adapter.

All tokens lie behind one another in one row for the model's own code; attention (registered with transformers under
`NAME`) keeps each request to its own keys and values, and each linear layer adds each request's own low-rank part.
It knows no sampling and no schedule.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface

from finery.core.errors import InvalidRequest
from finery.modeling.adapters import module_name, read_adapter
from finery.modeling.architectures import linear_layers
from finery.serving.engines import torch_weights
from finery.serving.engines.torch_adapters import Adapter, AdapterRows, LowRank
from finery.serving.engines.torch_pasts import Past, Pasts, Span

NAME = "finery_rows"


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
        self._pasts = Pasts()
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
                self._transposed(a), self._transposed(tensors[name.replace(".lora_A.", ".lora_B.")] * config.scale)
            )
            for name, a in tensors.items()
            if name.endswith(".lora_A.weight")
        }

    def _transposed(self, matrix: NDArray[Any]) -> Tensor:
        """Whole rows beside each other: copied into a pass's stack, they are read once from end to end."""
        return torch.tensor(np.ascontiguousarray(matrix.T), dtype=self._dtype)

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
        spans = [Span(part.past, end - len(part.tokens), end) for part, end in zip(parts, _ends(parts), strict=True)]
        self._pasts.begin(spans)
        token = _pasts.set(self._pasts)
        try:
            outputs = self._model.base_model(
                input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]), use_cache=False
            )
        finally:
            _pasts.reset(token)
        self._pasts.end(spans)
        hidden: Tensor = outputs.last_hidden_state[0]
        return hidden

    def _hook(self, path: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            self._adapters.add(path, inputs[0][0], output[0])

        return add


_pasts: ContextVar[Pasts] = ContextVar("pasts")


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
    layer = module.layer_idx
    assert isinstance(layer, int)
    output_THW = _pasts.get().attend(layer, query[0], key[0], value[0], scale=scaling, window=sliding_window)
    return output_THW[None], None


def _ends(parts: Sequence[Part]) -> list[int]:
    ends, end = [], 0
    for part in parts:
        end += len(part.tokens)
        ends.append(end)
    return ends


AttentionInterface.register(NAME, _attend)
