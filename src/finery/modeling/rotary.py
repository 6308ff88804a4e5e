"""Rotary positions as a config asks for them, in llama.cpp's terms: base, dimensions, and how they are stretched.

Both spellings are read: `rope_theta` with `rope_scaling`, and transformers 5's `rope_parameters`. Kinds known: default,
linear, llama3, longrope (also `su`, Phi-3's old word) and yarn; formulas as in transformers' modeling_rope_utils. It
does not know tensors of weights.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from finery.core.errors import InvalidRequest
from finery.modeling.architectures import dimensions

_KINDS = {"default", "linear", "llama3", "longrope", "yarn"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotary:
    """How positions turn queries and keys."""

    theta: float
    """Base of the geometric series of angles."""
    dimensions: int
    """Dimensions of a head that are turned."""
    kind: str = "default"
    context_tokens: int
    original_context_tokens: int
    """Before stretching."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """The rest of the scaling's parameters."""

    def add_scaling(self, writer: gguf.GGUFWriter) -> None:
        """Add the keys which tell llama.cpp of the stretching; llama3's and longrope's factors are tensors."""
        if self.kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(self.numbers["factor"]))
        elif self.kind == "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(float(self.numbers["factor"]))
            writer.add_rope_scaling_orig_ctx_len(self.original_context_tokens)
        elif self.kind == "longrope":
            writer.add_rope_scaling_orig_ctx_len(self.original_context_tokens)
            writer.add_rope_scaling_attn_factors(self._longrope_attention())

    def factor_tensors(self, model_type: str) -> dict[str, NDArray[np.float32]]:
        """By GGUF name, what each angle is divided by: (dimensions / 2,) float32; empty where nothing is."""
        if self.kind == "llama3":
            return {"rope_freqs.weight": self._llama3_factors()}
        if self.kind != "longrope":
            return {}
        if model_type != "phi3":
            raise InvalidRequest(f"llama.cpp knows longrope for phi3 only, not for {model_type}.")
        factors = {
            f"rope_factors_{reach}.weight": np.array(self.numbers[f"{reach}_factor"], np.float32)
            for reach in ("long", "short")
        }
        for name, values in factors.items():
            if values.shape != (self.dimensions // 2,):
                raise InvalidRequest(f"{name} has {values.size} factors; {self.dimensions // 2} are needed.")
        return factors

    def _longrope_attention(self) -> float:
        given = self.numbers.get("attention_factor")
        if given is not None:
            return float(given)
        stretch = self.numbers.get("factor") or self.context_tokens / self.original_context_tokens
        return math.sqrt(1 + math.log(stretch) / math.log(self.original_context_tokens)) if stretch > 1 else 1.0

    def _llama3_factors(self) -> NDArray[np.float32]:
        factor, low, high = (float(self.numbers[k]) for k in ("factor", "low_freq_factor", "high_freq_factor"))
        exponents = np.arange(0, self.dimensions, 2, dtype=np.float64) / self.dimensions
        lengths = 2 * math.pi * self.theta**exponents
        smooth = np.clip((self.original_context_tokens / lengths - low) / (high - low), 0, 1)
        return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def rotary(config: dict[str, Any]) -> Rotary:
    """The rotary positions of a config; InvalidRequest if they are of a kind that llama.cpp is not given."""
    given = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = given.get("rope_type", given.get("type", "default"))
    kind = "longrope" if kind == "su" else kind
    if kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise InvalidRequest(f"config.json asks for rotary positions of kind {kind!r}; {known} are known.")
    head_dim = dimensions(config).head_dim
    share = given.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    context = config["max_position_embeddings"]
    original = given.get("original_max_position_embeddings", config.get("original_max_position_embeddings")) or context
    return Rotary(
        theta=float(given.get("rope_theta", config.get("rope_theta")) or 10000.0),
        dimensions=int(head_dim * share),
        kind=kind,
        context_tokens=context,
        original_context_tokens=original,
        numbers=given,
    )
