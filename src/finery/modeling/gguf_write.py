"""Hugging Face folders to GGUF, for llama.cpp: a model in f16 or quantised, and a LoRA adapter of PEFT's format.

llama.cpp's llama architecture rotates neighbouring pairs where transformers rotates halves, so rows of q and k (and
rows of an adapter's B for q and k) are reordered; its phi3, qwen2 and qwen3 rotate halves and are taken as they are.
An adapter exported without that order answers plausibly and wrongly: the tests compare logits with transformers and
PEFT. It does not run llama.cpp.

Formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, names as in the `gguf` package; adapters carry
`adapter.type` lora, `adapter.lora.alpha` and pairs NAME.lora_a (rank, inputs), NAME.lora_b (outputs, rank), which
llama.cpp applies with alpha / rank.
"""

import math
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from finery.core.errors import InvalidRequest
from finery.modeling.adapters import PREFIX, module_name, read_adapter
from finery.modeling.architectures import Dimensions, dimensions, read_config
from finery.modeling.gguf_packing import QUANTIZATIONS, Quantization, pack, packed_bytes, type_of
from finery.modeling.gguf_vocab import add_vocabulary, general_name
from finery.modeling.merging import MergedFolder
from finery.modeling.rotary import Rotary, rotary
from finery.modeling.template import ChatTemplate
from finery.modeling.tensors import TensorFolder

_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "phi3": "phi3", "qwen2": "qwen2", "qwen3": "qwen3"}
_PERMUTED = frozenset({"llama", "mistral"})
_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_model(
    model_folder: Path,
    out_file: Path,
    *,
    adapter_folder: Path | None = None,
    quantization: Quantization = QUANTIZATIONS["f16"],
) -> None:
    """Write a model folder as GGUF: matrices as quantized, vectors f32; an adapter is merged in float32 first.

    InvalidRequest if the config asks for what llama.cpp computes in another way, or a weight does not fit f16.
    """
    config = read_config(model_folder)
    d, angles = dimensions(config), rotary(config)
    weights = TensorFolder(model_folder) if adapter_folder is None else MergedFolder(model_folder, adapter_folder)
    names = [name for name in weights.names() if not (d.tied and name == "lm_head.weight")]
    extra = angles.factor_tensors(d.model_type)
    writer = gguf.GGUFWriter(out_file, _ARCHITECTURES[d.model_type])
    template = ChatTemplate.load(model_folder)
    writer.add_name(general_name(model_folder.name, template))
    writer.add_file_type(quantization.file_type)
    _add_numbers(writer, config, d, angles)
    add_vocabulary(writer, model_folder, template, d.vocabulary)
    for name, values in extra.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    kinds = {}
    for name in names:
        shape, written_as = weights.info(name).shape, _gguf_name(name)
        kinds[name] = type_of(quantization, written_as, shape, layers=d.layers, tied=d.tied)
        in_bytes = packed_bytes(kinds[name], shape)
        writer.add_tensor_info(written_as, in_bytes, np.dtype(np.uint8), math.prod(in_bytes), raw_dtype=kinds[name])
    _write_head(writer)
    for values in extra.values():
        writer.write_tensor_data(values)
    for name in names:
        writer.write_tensor_data(pack(name, _ordered(name, weights.float32(name), d), kinds[name]))
    _close(writer, out_file)


def write_adapter(model_folder: Path, adapter_folder: Path, out_file: Path) -> None:
    """Write a PEFT adapter of the base in `model_folder` as a GGUF adapter, in float32.

    InvalidRequest if it is no adapter of that base, or one that llama.cpp can't apply (DoRA, a classification head).
    """
    base = read_config(model_folder)
    config, tensors = read_adapter(adapter_folder, base)
    if config.dora:
        raise InvalidRequest(
            f"{adapter_folder} is a DoRA adapter, whose magnitudes GGUF adapters can't express. Merge it: "
            "`finery export MODEL --format gguf` writes the merged model."
        )
    if config.task != "CAUSAL_LM":
        raise InvalidRequest(f"{adapter_folder} has a classification head, which llama.cpp can't serve.")
    d = dimensions(base)
    writer = gguf.GGUFWriter(out_file, _ARCHITECTURES[d.model_type])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp divides by the rank; rsLoRA's division by its root goes into alpha.
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, config.scale * config.rank)
    converted: dict[str, NDArray[np.float32]] = {}
    for module in sorted({module_name(name) for name in tensors}):
        target = _gguf_name(f"{module}.weight")
        b = _ordered(f"{module}.weight", tensors[f"{PREFIX}{module}.lora_B.weight"], d)
        converted[f"{target}.lora_a"] = tensors[f"{PREFIX}{module}.lora_A.weight"]
        converted[f"{target}.lora_b"] = b
    for name, values in converted.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    _write_head(writer)
    for values in converted.values():
        writer.write_tensor_data(np.ascontiguousarray(values))
    _close(writer, out_file)


def permute(rows: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """llama.cpp's row order of q and k, of a weight, bias or LoRA B (num_heads * head_dim, ...): halves to pairs."""
    halves = rows.reshape(num_heads, 2, rows.shape[0] // num_heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _add_numbers(writer: gguf.GGUFWriter, config: dict[str, Any], d: Dimensions, angles: Rotary) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(d.hidden)
    writer.add_block_count(d.layers)
    writer.add_feed_forward_length(d.intermediate)
    writer.add_head_count(d.heads)
    writer.add_head_count_kv(d.key_value_heads)
    writer.add_key_length(d.head_dim)
    writer.add_value_length(d.head_dim)
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    writer.add_vocab_size(d.vocabulary)
    writer.add_rope_dimension_count(angles.dimensions)
    writer.add_rope_freq_base(angles.theta)
    angles.add_scaling(writer)


def _gguf_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module in _TOP:
        return f"{_TOP[module]}.{kind}"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{_PARTS[part]}.{kind}"


def _ordered(name: str, rows: NDArray[np.float32], d: Dimensions) -> NDArray[np.float32]:
    part = name.split(".")[-2]
    if d.model_type in _PERMUTED and part in {"q_proj", "k_proj"}:
        return permute(rows, d.heads if part == "q_proj" else d.key_value_heads)
    return rows


def _write_head(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _close(writer: gguf.GGUFWriter, path: Path) -> None:
    writer.close()
    with path.open("rb") as written:
        os.fsync(written.fileno())
