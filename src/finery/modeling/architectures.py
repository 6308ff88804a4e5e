"""Which model architectures Finery takes, what their config.json may say and which tensors, of what shape, they have.

A config comes from strangers, so it is parsed here and not by transformers: architectures are on a short list, and only
keys that the model code of that list reads are kept (everything else has no effect, or names code to run, as
`auto_map` and `_attn_implementation_internal` do). It does not know files of weights, nor torch.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finery.core.errors import CorruptArtifact, InvalidRequest

MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Phi3ForCausalLM": "phi3",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}

_KEYS = frozenset(
    """
    architectures model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim hidden_act max_position_embeddings original_max_position_embeddings initializer_range
    rms_norm_eps use_cache bos_token_id eos_token_id pad_token_id tie_word_embeddings attention_bias attention_dropout
    mlp_bias rope_theta rope_scaling rope_parameters partial_rotary_factor sliding_window use_sliding_window
    max_window_layers layer_types embd_pdrop resid_pdrop pretraining_tp torch_dtype dtype transformers_version
    """.split()  # noqa: SIM905
)
_CODE_KEYS = frozenset({"auto_map", "_attn_implementation_internal", "_attn_implementation", "attn_implementation"})
_COUNTS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_MAX_CONFIG_BYTES = 1 << 20
_MAX_COUNT = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimensions:
    """The numbers that give every tensor its shape."""

    model_type: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    tied: bool
    """The output layer is the embedding's matrix."""
    attention_bias: tuple[str, ...]
    """Attention projections with a bias."""
    mlp_bias: bool

    @property
    def query_rows(self) -> int:
        """Rows of q, columns of o."""
        return self.heads * self.head_dim

    @property
    def key_value_rows(self) -> int:
        """Rows of k and of v."""
        return self.key_value_heads * self.head_dim


def clean_config(raw: dict[str, Any], origin: str) -> dict[str, Any]:
    """The config with only the keys that its model reads; InvalidRequest if the architecture isn't one of ours.

    `origin` names the config in messages.
    """
    quantised = raw.get("quantization_config")
    if quantised:
        raise InvalidRequest(
            f"{origin} is quantised (quantization_config); take the model's full-precision folder instead."
        )
    config = {key: value for key, value in raw.items() if key in _KEYS}
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and len(architectures) == 1 else architectures
    if not isinstance(name, str) or name not in MODEL_TYPES:
        raise InvalidRequest(f"{origin} has the architecture {name!r}; Finery takes {', '.join(MODEL_TYPES)}.")
    if config.get("model_type") != MODEL_TYPES[name]:
        raise InvalidRequest(
            f"{origin} says model_type {config.get('model_type')!r}, but {name} is {MODEL_TYPES[name]!r}."
        )
    dimensions(config, origin)
    return config


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json, as plain JSON; CorruptArtifact if it can't be read or names code."""
    path = folder / "config.json"
    config = read_json(path)
    code = sorted(_CODE_KEYS & set(config))
    if code:
        raise CorruptArtifact(
            f"{path} names code to run ({', '.join(code)}); import the folder anew, which leaves that out."
        )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a small file; CorruptArtifact names the file if it is none."""
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise CorruptArtifact(f"{path} has more than {_MAX_CONFIG_BYTES} bytes; that is no config.")
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CorruptArtifact(f"{path} is missing.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is not JSON ({error}).") from error
    if not isinstance(data, dict):
        raise CorruptArtifact(f"{path} holds no JSON object.")
    return data


def dimensions(config: dict[str, Any], origin: str = "config.json") -> Dimensions:
    """The shape-giving numbers of a config; InvalidRequest names the key that is missing or impossible."""
    for key in _COUNTS:
        _count(config, key, origin)
    heads, model_type = config["num_attention_heads"], config["model_type"]
    key_value_heads = (
        heads if config.get("num_key_value_heads") is None else _count(config, "num_key_value_heads", origin)
    )
    if config.get("head_dim") is None and config["hidden_size"] % heads:
        raise InvalidRequest(f"{origin}: hidden_size {config['hidden_size']} is no multiple of {heads} heads.")
    default_head_dim = 128 if model_type == "qwen3" else config["hidden_size"] // heads
    head_dim = default_head_dim if config.get("head_dim") is None else _count(config, "head_dim", origin)
    if heads % key_value_heads:
        raise InvalidRequest(f"{origin}: {heads} heads can't share {key_value_heads} key/value heads evenly.")
    biased = ("q_proj", "k_proj", "v_proj", "o_proj") if config.get("attention_bias") else ()
    return Dimensions(
        model_type=model_type,
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias={"qwen2": ("q_proj", "k_proj", "v_proj"), "llama": biased, "qwen3": biased}.get(model_type, ()),
        mlp_bias=model_type == "llama" and bool(config.get("mlp_bias")),
    )


def linear_layers(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Every linear layer inside the blocks, by module name (`model.layers.0.self_attn.q_proj`): (outputs, inputs)."""
    return {name: shape for name, shape, _ in _linear(dimensions(config))}


def tensors(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor that the model's safetensors must hold, by name, with its shape."""
    d = dimensions(config)
    result: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (d.vocabulary, d.hidden)}
    for name, shape, bias in _linear(d):
        result[f"{name}.weight"] = shape
        if bias:
            result[f"{name}.bias"] = (shape[0],)
    for i in range(d.layers):
        result[f"model.layers.{i}.input_layernorm.weight"] = (d.hidden,)
        result[f"model.layers.{i}.post_attention_layernorm.weight"] = (d.hidden,)
        if d.model_type == "qwen3":
            result[f"model.layers.{i}.self_attn.q_norm.weight"] = (d.head_dim,)
            result[f"model.layers.{i}.self_attn.k_norm.weight"] = (d.head_dim,)
    result["model.norm.weight"] = (d.hidden,)
    if not d.tied:
        result["lm_head.weight"] = (d.vocabulary, d.hidden)
    return result


def _linear(d: Dimensions) -> Iterator[tuple[str, tuple[int, int], bool]]:
    """(module name, (outputs, inputs), has a bias), layer by layer."""
    q, kv = d.query_rows, d.key_value_rows
    if d.model_type == "phi3":
        attention = {"qkv_proj": (q + 2 * kv, d.hidden), "o_proj": (d.hidden, q)}
        mlp = {"gate_up_proj": (2 * d.intermediate, d.hidden), "down_proj": (d.hidden, d.intermediate)}
    else:
        attention = {
            "q_proj": (q, d.hidden),
            "k_proj": (kv, d.hidden),
            "v_proj": (kv, d.hidden),
            "o_proj": (d.hidden, q),
        }
        up = (d.intermediate, d.hidden)
        mlp = {"gate_proj": up, "up_proj": up, "down_proj": (d.hidden, d.intermediate)}
    for i in range(d.layers):
        for part, shape in attention.items():
            yield f"model.layers.{i}.self_attn.{part}", shape, part in d.attention_bias
        for part, shape in mlp.items():
            yield f"model.layers.{i}.mlp.{part}", shape, d.mlp_bias


def _count(config: dict[str, Any], key: str, origin: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= _MAX_COUNT:
        raise InvalidRequest(f"{origin}: {key} is {value!r}; a whole number from 1 to {_MAX_COUNT} is needed.")
    return value
