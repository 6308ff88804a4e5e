"""A base model's weights in torch, in one of three precisions; it knows no requests and no adapters.

    fp32  exact: the reference
    bf16  fast where the processor multiplies it
    fp16  weights of 16 bits packed once for FBGEMM, everything between them in fp32

A pass over a few tokens costs what reading the weights costs. FBGEMM reads half the bytes, and its kernels are made for
so few rows: on a CPU without bf16 8 rows take 0.4 of fp32's time, and the numbers are nearer to fp32's than bf16's.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from finery.core.errors import CorruptArtifact, InvalidRequest

_DTYPES: dict[str, torch.dtype | str] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": "auto"}


class PackedLinear(nn.Module):
    """An nn.Linear whose weight lies packed in fp16; takes and gives fp32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[…, in] to […, out]."""
        outputs: Tensor = torch.ops.quantized.linear_dynamic_fp16(inputs, self._packed)
        return outputs


def fastest_precision() -> str:
    """fp16 where torch has FBGEMM's kernels (x86-64), else fp32."""
    return "fp16" if "fbgemm" in torch.backends.quantized.supported_engines else "fp32"


def activation_dtype(precision: str) -> torch.dtype:
    """What layers take and give; adapters are of it too."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def load(folder: Path, precision: str, attention: str) -> PreTrainedModel:
    """The model of a folder with the attention registered under this name.

    Raises CorruptArtifact where it can't be loaded, InvalidRequest for a precision that isn't to be had.
    """
    if precision not in _DTYPES:
        raise InvalidRequest(f"{precision!r} is no precision; there are {', '.join(_DTYPES)}.")
    if precision == "fp16" and fastest_precision() != "fp16":
        raise InvalidRequest("This processor has no kernels for fp16 weights in torch; take fp32.")
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_DTYPES[precision],
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention,
        )
    except (OSError, ValueError, KeyError) as error:
        raise CorruptArtifact(f"{folder} can't be loaded: {error}.") from error
    model.train(False)
    if precision == "fp16":
        _pack(model)
    return model


def _pack(model: PreTrainedModel) -> None:
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, PackedLinear(module))
    nn.Module.to(model, torch.float32)
