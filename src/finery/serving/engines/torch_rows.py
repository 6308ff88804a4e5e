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
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedModel

from finery.core.errors import CorruptArtifact, InvalidRequest
from finery.modeling.adapters import module_name, read_adapter

NAME = "finery_rows"


@dataclass(frozen=True, slots=True)
class LowRank:
    """One layer's part of an adapter."""

    a: Tensor
    """[rank, in]"""
    b: Tensor
    """[out, rank], the scale multiplied in."""


Adapter = dict[str, LowRank]
"""By the path of a linear layer. The empty one is the base model."""


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

    def __init__(self, folder: Path, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
        """Weights and products are of `dtype`. Raises CorruptArtifact where the folder can't be loaded."""
        self._config = config
        self._dtype = dtype
        self._model = _load(folder, dtype)
        self._adapted = False
        linears = {path: module for path, module in self._model.named_modules() if isinstance(module, nn.Linear)}
        self._pool = _Pool({path: (module.out_features, module.in_features) for path, module in linears.items()}, dtype)
        for path, module in linears.items():
            module.register_forward_hook(self._hook(path))

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
        hidden_TH = self._hidden(parts)
        ends = _ends(parts)
        kept = [hidden_TH[end - part.keep : end] for part, end in zip(parts, ends, strict=True)]
        logits = self._model.get_output_embeddings()(torch.cat(kept))  # type: ignore[no-untyped-call]
        return list(logits.float().split([part.keep for part in parts]))

    @torch.inference_mode()
    def embed(self, part: Part) -> Tensor:
        """Mean of the last hidden states [hidden], scaled to length 1."""
        return F.normalize(self._hidden([part]).mean(0), dim=0)

    def _hidden(self, parts: Sequence[Part]) -> Tensor:
        ids = [token for part in parts for token in part.tokens]
        positions = [part.past.length + i for part in parts for i in range(len(part.tokens))]
        with self._adding(parts), _reading(parts):
            outputs = self._model.base_model(
                input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]), use_cache=False
            )
        for part in parts:
            part.past.length += len(part.tokens)
        hidden: Tensor = outputs.last_hidden_state[0]
        return hidden

    def _hook(self, path: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if self._adapted:
                self._pool.add(path, inputs[0][0], output[0])

        return add

    @contextmanager
    def _adding(self, parts: Sequence[Part]) -> Iterator[None]:
        self._adapted = self._pool.prepare(parts)
        try:
            yield
        finally:
            self._adapted = False


class _Pool:
    """The low-rank parts of the adapters in use, side by side, so that one product a layer does for all of them.

    With A of all adapters under one another and B beside one another, every token's low-rank values are computed for
    every adapter and those of other adapters are struck out: two dense products, however many adapters a pass has.
    """

    def __init__(self, shapes: dict[str, tuple[int, int]], dtype: torch.dtype) -> None:
        """`shapes` are (out, in) of each linear layer."""
        self._shapes = shapes
        self._dtype = dtype
        self._ranks = 0
        self._places: dict[int, tuple[Adapter, int, int]] = {}
        """By the adapter's identity: itself, and its first and last rank in the pool; least used first."""
        self._low: dict[str, Tensor] = {}
        self._high: dict[str, Tensor] = {}
        self._struck_TR = torch.zeros(0, 0)
        self._used = 0

    def prepare(self, parts: Sequence[Part]) -> bool:
        """Hold the adapters of these parts; False where there are none."""
        wanted = {id(part.adapter): part.adapter for part in parts if part.adapter}
        if not wanted:
            return False
        for identity, adapter in wanted.items():
            if identity in self._places:
                self._places[identity] = self._places.pop(identity)
            else:
                self._take_in(adapter, set(wanted))
        self._used = max(end for _, _, end in self._places.values())
        mask_TR = torch.zeros(sum(len(part.tokens) for part in parts), self._used, dtype=self._dtype)
        for part, end in zip(parts, _ends(parts), strict=True):
            if part.adapter:
                _, first, last = self._places[id(part.adapter)]
                mask_TR[end - len(part.tokens) : end, first:last] = 1.0
        self._struck_TR = mask_TR
        return True

    def add(self, path: str, inputs_TI: Tensor, output_TO: Tensor) -> None:
        if path in self._low:
            low_TR = F.linear(inputs_TI, self._low[path][: self._used]) * self._struck_TR
            output_TO.addmm_(low_TR, self._high[path][: self._used])

    def _take_in(self, adapter: Adapter, needed: set[int]) -> None:
        rank = max(layer.a.shape[0] for layer in adapter.values())
        first = self._room(rank, needed)
        self._places[id(adapter)] = (adapter, first, first + rank)
        for path, low_RI in self._low.items():
            low_RI[first : first + rank] = 0
            self._high[path][first : first + rank] = 0
        for path, layer in adapter.items():
            if path not in self._low:
                out, into = self._shapes[path]
                self._low[path] = torch.zeros(self._ranks, into, dtype=self._dtype)
                self._high[path] = torch.zeros(self._ranks, out, dtype=self._dtype)
            count = layer.a.shape[0]
            self._low[path][first : first + count] = layer.a
            self._high[path][first : first + count] = layer.b.T

    def _room(self, rank: int, needed: set[int]) -> int:
        """The first of `rank` free places: where an unneeded adapter lay, else at the end, growing."""
        for identity, (_, first, last) in self._places.items():
            if identity not in needed and last - first == rank:
                del self._places[identity]
                return first
        first = max((last for _, _, last in self._places.values()), default=0)
        if first + rank > self._ranks:
            more = max(first + rank - self._ranks, 4 * rank)
            self._ranks += more
            for path in self._low:
                self._low[path] = F.pad(self._low[path], (0, 0, 0, more))
                self._high[path] = F.pad(self._high[path], (0, 0, 0, more))
        return first


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


def _load(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=NAME,
        )
    except (OSError, ValueError, KeyError) as error:
        raise CorruptArtifact(f"{folder} can't be loaded: {error}.") from error
    model.train(False)
    return model


AttentionInterface.register(NAME, _attend)
