"""A GGUF file turned, once, into a Hugging Face folder: `python -m finery.modeling.gguf_read FILE.gguf FOLDER`.

Weights are dequantised and stored as bfloat16, llama.cpp's row order of q and k is undone, and the tokenizer is built
from the file's vocabulary and merges. It runs in a child process, since a quantised model in float32 needs memory
which the control plane should not keep. It reads llama-architecture files with a byte-level BPE vocabulary, which is
what the starter model is; it does not know where files come from or go (`sources` does).

Formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; q/k order as in llama.cpp's convert_hf_to_gguf.
"""

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from finery.core.errors import FineryError, InvalidRequest
from finery.modeling.bpe import build_tokenizer
from finery.modeling.tensors import TensorWriter

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_TIED_ROWS = "output.weight"


def convert(source: Path, folder: Path) -> None:
    """Write config, weights, tokenizer and chat template of the GGUF file `source` into `folder` (made if missing).

    InvalidRequest if the file's architecture or vocabulary is not one this module reads.
    """
    try:
        reader = gguf.GGUFReader(source)
    except (ValueError, OSError, IndexError, KeyError) as error:
        raise InvalidRequest(f"{source} is not a readable GGUF file ({error}).") from error
    facts = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    _check(source, facts, set(tensors))
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(facts, tied=_TIED_ROWS not in tensors)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {k: v for k, v in config.items() if k.endswith("_token_id")})
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    build_tokenizer(tokens, kinds, facts["tokenizer.ggml.merges"], facts["tokenizer.ggml.pre"]).save(
        str(folder / "tokenizer.json")
    )
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(facts, config))
    template = facts.get("tokenizer.chat_template")
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    _write_weights(folder / "model.safetensors", tensors, config)


def unpermute(rows: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Undo llama.cpp's row order of a q or k weight, (num_heads * head_dim, hidden): interleaved pairs to halves."""
    pairs = rows.reshape(num_heads, rows.shape[0] // num_heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def main(arguments: list[str]) -> int:
    """The child process: 0 when the folder is complete, 2 with a message on stderr otherwise."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m finery.modeling.gguf_read FILE.gguf FOLDER\n")
        return 2
    try:
        convert(Path(arguments[0]), Path(arguments[1]))
    except FineryError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    return 0


def _check(source: Path, facts: dict[str, Any], names: set[str]) -> None:
    architecture, vocabulary = facts.get("general.architecture"), facts.get("tokenizer.ggml.model")
    if architecture != "llama" or vocabulary != "gpt2":
        raise InvalidRequest(
            f"{source} has architecture {architecture!r} and vocabulary {vocabulary!r}; only llama with gpt2 "
            "(byte-level BPE) can be turned back. Import the model's Hugging Face folder instead."
        )
    scaled = "rope_freqs.weight" in names or any(name.startswith("llama.rope.scaling.") for name in facts)
    if scaled or "llama.expert_count" in facts:
        raise InvalidRequest(
            f"{source} uses scaled rotary positions or experts; import its Hugging Face folder instead."
        )


def _config(facts: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    llama = {k.removeprefix("llama."): v for k, v in facts.items() if k.startswith("llama.")}
    heads = llama["attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts.get("tokenizer.ggml.padding_token_id", facts["tokenizer.ggml.eos_token_id"]),
        "head_dim": llama.get("attention.key_length", llama["embedding_length"] // heads),
        "hidden_act": "silu",
        "hidden_size": llama["embedding_length"],
        "intermediate_size": llama["feed_forward_length"],
        "max_position_embeddings": llama["context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": llama["block_count"],
        "num_key_value_heads": llama.get("attention.head_count_kv", heads),
        "rms_norm_eps": _shortest(llama["attention.layer_norm_rms_epsilon"]),
        "rope_theta": _shortest(llama.get("rope.freq_base", 10000.0)),
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
    }


def _shortest(value: float) -> float:
    """GGUF keeps float32, configs decimals: the shortest decimal of the same float32 (1e-05, not 9.99...e-06)."""
    return float(str(np.float32(value)))


def _tokenizer_config(facts: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": bool(facts.get("tokenizer.ggml.add_bos_token", False)),
        "add_prefix_space": bool(facts.get("tokenizer.ggml.add_space_prefix", False)),
        "bos_token": tokens[config["bos_token_id"]],
        "eos_token": tokens[config["eos_token_id"]],
        "pad_token": tokens[config["pad_token_id"]],
        "unk_token": tokens[facts.get("tokenizer.ggml.unknown_token_id", config["eos_token_id"])],
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
    }


def _write_weights(path: Path, tensors: dict[str, Any], config: dict[str, Any]) -> None:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    shapes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    with TensorWriter(path, {_hf_name(name): ("BF16", shape) for name, shape in shapes.items()}) as out:
        for name, tensor in tensors.items():
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shapes[name])
            part = name.split(".")[-2]
            out.write(_hf_name(name), unpermute(values, heads[part]) if part in heads else values)


def _hf_name(name: str) -> str:
    parts = name.split(".")
    if len(parts) == 2 and parts[0] in _TOP_NAMES:
        return f"{_TOP_NAMES[parts[0]]}.{parts[1]}"
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES:
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
    raise InvalidRequest(
        f"The GGUF file has a tensor {name!r} that a llama model does not; import the original folder."
    )


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
