"""The model in training: transformers' model code with our pieces swapped in, and the two ways to ask it for a loss.

It does not know files of examples, schedules, optimizers or checkpoints: it is loaded from a model's folder, gives
hidden states, losses and its trainable tensors by PEFT's names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from finery.core.errors import InvalidRequest
from finery.training import attention, lora
from finery.training.kernels import layers, loss
from finery.training.kernels.linear import Adapter, Projection, refresh
from finery.training.kernels.memory import keep_freed_memory
from finery.training.kernels.products import Frozen, freeze, multiplies_bf16
from finery.training.kernels.quantized import FourBit
from finery.training.packing import PackedPass
from finery.training.spec import RunSpec

HEAD = "score"


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSums:
    """A loss over some tokens as sums, so that passes of one batch can be added before dividing."""

    loss_sum: Tensor
    """Differentiable scalar, fp32: the sum of weight · loss over tokens."""
    weight_sum: Tensor
    """fp32 scalar: the sum of weights."""
    correct: Tensor
    """int64 scalar: tokens with a weight above 0 whose most likely token is the target."""


class TrainableModel:
    """A base model with what is trained on it."""

    def __init__(self, model: PreTrainedModel, spec: RunSpec, device: torch.device) -> None:
        self.device = device
        self.trainable: dict[str, nn.Parameter] = {}
        """By name: PEFT's tensor names for adapters (and the head), the model's own for full weights; fp32."""
        self._model = model
        self._spec = spec
        self._head: nn.Parameter | None = None
        self._adapters: dict[str, Adapter] = {}
        self._dtype = precision(spec, device)
        self._factor = _logit_factor(model.config)
        output: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        assert isinstance(output, nn.Linear)
        self._output_weight_VH: Tensor | None = None
        self._output: Frozen | None = None
        self._projections: list[Projection] = []
        if spec.method == "full":
            self._output_weight_VH = output.weight
            layers.replace_trained(model, self._dtype, output=output)
            self.trainable.update(model.named_parameters())
            return
        model.requires_grad_(False)
        self._adapters = lora.adapters(model, spec.lora, output=output, seed=spec.seed)
        self.trainable.update(lora.named_parameters(self._adapters))
        rotary = getattr(model.base_model, "rotary_emb", None)
        keep = FourBit if spec.method == "qlora" else freeze
        layers.replace(model, self._adapters, keep, rotary=rotary, output=output)
        self._output = freeze(output.weight.detach(), None if output.bias is None else output.bias.detach())
        model.set_output_embeddings(nn.Identity())  # type: ignore[no-untyped-call]
        # Off the mapping of the weights' file, whose pages would else count as this process's until it ends.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        self._projections = [module for module in model.modules() if isinstance(module, Projection)]

    @classmethod
    def load(cls, spec: RunSpec, device: torch.device | str) -> "TrainableModel":
        """Load the base of `spec` from its folder and put on it what `spec` trains; InvalidRequest if it can't be."""
        device = torch.device(device)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            Path(spec.model_folder),
            dtype=torch.float32 if spec.method == "full" else precision(spec, device),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention.NAME,
        )
        nn.Module.to(model, device)
        if device.type == "cpu":
            keep_freed_memory()
        loaded = cls(model, spec, device)
        model.train()
        return loaded

    def train(self, mode: bool = True) -> None:
        """Turn dropout on or off."""
        self._model.train(mode)

    @property
    def shares_beginnings(self) -> bool:
        """Whether a pass may hold what its documents begin with once: not where each document's dropout is its own."""
        return self.device.type == "cpu" and not self._spec.lora.dropout

    def hidden(self, packed: PackedPass) -> Tensor:
        """The last hidden states [T, H] after the final norm; attention stays within a document."""
        refresh(self._projections)
        with attention.documents(packed.starts, self.device, packed.before):
            return self.read(packed.tokens_T, packed.positions_T)

    def read(self, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
        """The last hidden states [T, H] of a row whose attention the caller sees to, with the weights `hidden` saw."""
        outputs = self._model.base_model(input_ids=tokens_T[None], position_ids=positions_T[None], use_cache=False)
        hidden: Tensor = outputs.last_hidden_state.squeeze(0)
        return hidden

    @torch.no_grad()
    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Logits of the next token [N, V], fp32."""
        hidden_NH = hidden_NH.to(self._dtype)
        if self._output is not None:
            return self._output.forward(hidden_NH).float() * self._factor
        assert self._output_weight_VH is not None
        return F.linear(hidden_NH, self._output_weight_VH.to(self._dtype)).float() * self._factor

    def cross_entropy(
        self,
        hidden_NH: Tensor,
        targets_N: Tensor,
        weights_N: Tensor,
        *,
        smoothing: float = 0.0,
        gamma: float | None = None,
    ) -> LossSums:
        """Weighted sum of the (smoothed, or focal with `gamma`) cross-entropy of `targets_N`, in chunks."""
        shape = loss.Shape(smoothing=smoothing, gamma=gamma or 0.0, factor=self._factor)
        losses_N, right_N = self._token_losses(hidden_NH, targets_N, shape)
        return LossSums(
            loss_sum=(losses_N * weights_N).sum(),
            weight_sum=weights_N.sum(),
            correct=(right_N & (weights_N > 0)).sum(),
        )

    def token_logprobs(self, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
        """log p of each target [N], fp32 and differentiable."""
        return -self._token_losses(hidden_NH, targets_N, loss.Shape(factor=self._factor))[0]

    def add_head(self, num_outputs: int, seed: int) -> None:
        """Put a linear head of `num_outputs` on the hidden state of a document's last token; it is trained too."""
        generator = torch.Generator().manual_seed(seed)
        config = self._model.config
        spread = float(getattr(config, "initializer_range", 0.02))
        initial = torch.empty(num_outputs, config.hidden_size).normal_(std=spread, generator=generator)
        self._head = nn.Parameter(initial.to(self.device))
        prefix = "" if self._spec.method == "full" else lora.PREFIX
        self.trainable[f"{prefix}{HEAD}.weight"] = self._head

    def head_outputs(self, hidden_TH: Tensor, packed: PackedPass) -> Tensor:
        """What the head says of each document: [documents, num_outputs], fp32. Needs `add_head` before."""
        if self._head is None:
            raise RuntimeError("head_outputs before add_head")
        return F.linear(hidden_TH[packed.last_D].float(), self._head)

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Within it, the model is its base (the reference of preference losses)."""
        if self._spec.method == "full":
            raise InvalidRequest("full weights keep no reference model: use method lora or qlora for preferences")
        for adapter in self._adapters.values():
            adapter.active = False
        try:
            yield
        finally:
            for adapter in self._adapters.values():
                adapter.active = True

    def state(self) -> dict[str, Tensor]:
        """What is trained, by name, fp32 on the CPU: the content of adapter_model.safetensors (or of full weights)."""
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.trainable.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over tensors as `state` gives them; InvalidRequest if names or shapes don't match."""
        if state.keys() != self.trainable.keys():
            odd = sorted(state.keys() ^ self.trainable.keys())
            raise InvalidRequest(
                f"the weights to go on from differ from this run's in {len(odd)} tensors, first {odd[0]}"
            )
        for name, parameter in self.trainable.items():
            if state[name].shape != parameter.shape:
                raise InvalidRequest(
                    f"{name} has shape {list(state[name].shape)}, this run needs {list(parameter.shape)}"
                )
            with torch.no_grad():
                parameter.copy_(state[name])

    def adapter_config(self) -> dict[str, Any]:
        """The content of PEFT's adapter_config.json."""
        return lora.config(
            self._spec.lora,
            base_model=self._spec.base_model,
            targets=[path.rpartition(".")[2] for path in self._adapters],
            head=None if self._head is None else HEAD,
        )

    def _token_losses(self, hidden_NH: Tensor, targets_N: Tensor, shape: loss.Shape) -> tuple[Tensor, Tensor]:
        hidden_NH = hidden_NH.to(self._dtype)
        if self._output is None:
            assert self._output_weight_VH is not None
            return loss.trained_token_losses(hidden_NH, self._output_weight_VH, targets_N, shape)
        return loss.token_losses(hidden_NH, self._output, targets_N, shape)


def precision(spec: RunSpec, device: torch.device) -> torch.dtype:
    """The dtype of the base and its products: as asked, or bf16 where the device multiplies it natively."""
    if spec.precision != "auto":
        return torch.bfloat16 if spec.precision == "bf16" else torch.float32
    on_gpu = device.type == "cuda"
    native = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else multiplies_bf16()
    return torch.bfloat16 if native else torch.float32


def _logit_factor(config: PreTrainedConfig) -> float:
    """What the model multiplies its logits by (granite divides, cohere multiplies); InvalidRequest if it caps them."""
    if getattr(config, "final_logit_softcapping", None):
        raise InvalidRequest(f"models of type {config.model_type} cap their logits, which training doesn't know yet")
    return float(getattr(config, "logit_scale", 1.0)) / float(getattr(config, "logits_scaling", 1.0))
