"""Tiny random models with a tiny tokenizer: real architectures, real files, milliseconds instead of minutes."""

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = "the ticket is about red green blue yellow black white route reply with colour only name it and nice"


def own_copy(folder: Path, family: str, factory: pytest.TempPathFactory) -> Path:
    """A copy of `write_model`'s folder that is the caller's.

    Only the first worker of a session writes the model itself, which takes torch and ten seconds.
    """
    base = factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "tiny_models"
    shared.mkdir(exist_ok=True)
    with (shared / f"{family}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / family).exists():
            write_model(shared / f"{family}.part", family).rename(shared / family)
    shutil.copytree(shared / family, folder)
    return folder


def write_model(folder: Path, family: str, *, special: Sequence[str] = ()) -> Path:
    """A random model of a family (llama, phi3, qwen2) with two layers, as a Hugging Face folder.

    Its tokenizer has further `special` tokens, if any.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM

    classes: dict[str, tuple[Any, Any]] = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "phi3": (Phi3Config, Phi3ForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }
    tokenizer = _tokenizer([*SPECIAL, *special])
    config_class, model_class = classes[family]
    config = config_class(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=family == "llama",
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    model_class(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    tokenizer_config = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
    return folder


def _tokenizer(special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    return tokenizer
