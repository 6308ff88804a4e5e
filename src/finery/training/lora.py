"""Low-rank adapters by the names and in the layout of PEFT. It does not know files, losses or optimizers."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from finery.core.errors import InvalidRequest
from finery.training.kernels.linear import Adapter
from finery.training.spec import LoraSpec

ALL_LINEAR = "all-linear"
PREFIX = "base_model.model."


def scale(spec: LoraSpec) -> float:
    """alpha / rank, or alpha / sqrt(rank) when rank-stabilised."""
    return spec.alpha / (math.sqrt(spec.rank) if spec.rank_stabilised else spec.rank)


def adapters(model: nn.Module, spec: LoraSpec, *, output: nn.Module, seed: int) -> dict[str, Adapter]:
    """Fresh adapters of the targeted linear layers by module path, in the model's order: A random, B zero.

    A is drawn as PEFT draws it (uniform within 1 / sqrt(K)), from `seed` alone. `output` (the language-model head) is
    never among all-linear. Raises InvalidRequest where nothing matches.
    """
    chosen = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output and _targeted(path, spec.targets)
    ]
    if not chosen:
        raise InvalidRequest(
            f"no linear layer is named {', '.join(spec.targets)}: name layers of this model, or use {ALL_LINEAR}",
            code="invalid_lora_targets",
            param="lora.targets",
        )
    generator = torch.Generator().manual_seed(seed)
    return {path: _adapter(module, spec, generator) for path, module in chosen}


def named_parameters(found: dict[str, Adapter]) -> dict[str, nn.Parameter]:
    """The adapters' parameters by PEFT's tensor names."""
    named = {}
    for path, adapter in found.items():
        named[f"{PREFIX}{path}.lora_A.weight"] = adapter.lora_A
        named[f"{PREFIX}{path}.lora_B.weight"] = adapter.lora_B
        if adapter.magnitude is not None:
            named[f"{PREFIX}{path}.lora_magnitude_vector"] = adapter.magnitude
    return named


def config(spec: LoraSpec, *, base_model: str, targets: list[str], head: str | None) -> dict[str, Any]:
    """The content of PEFT's adapter_config.json."""
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if head else "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": sorted(set(targets)),
        "use_rslora": spec.rank_stabilised,
        "use_dora": spec.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": [head] if head else None,
    }


def _adapter(module: nn.Linear, spec: LoraSpec, generator: torch.Generator) -> Adapter:
    bound = 1 / math.sqrt(module.in_features)
    a_rK: Tensor = torch.empty(spec.rank, module.in_features).uniform_(-bound, bound, generator=generator)
    device = module.weight.device
    return Adapter(
        a_rK.to(device),
        torch.zeros(module.out_features, spec.rank, device=device),
        scale=scale(spec),
        dropout=spec.dropout,
        magnitude_N=torch.linalg.vector_norm(module.weight.detach().float(), dim=1) if spec.dora else None,
    )


def _targeted(path: str, targets: tuple[str, ...]) -> bool:
    return targets == (ALL_LINEAR,) or path.rpartition(".")[2] in targets
