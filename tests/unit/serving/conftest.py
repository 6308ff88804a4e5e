"""Tiny random models of two families, imported as Finery imports any model, and adapters that PEFT wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config

from finery.modeling import sources

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FAMILIES = ("llama", "phi3")
_LINE = "The smith heats the iron, beats it flat and folds it; then {} does it again. Éclair, 鉄 and 🦙 number {}. "
_CORPUS = [_LINE.format(who, i) for i, who in enumerate(["she", "he", "the boy", "a guest"] * 20)]


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By family, the folder of a base model with random weights."""
    root = tmp_path_factory.mktemp("serving")
    for family in FAMILIES:
        write_model(root / "made" / family, family)
        sources.import_folder(root / "models", root / "made" / family, family)
    return {family: root / "models" / family for family in FAMILIES}


@pytest.fixture(scope="session")
def tiny_adapters(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """By family, three adapters in PEFT's format, each different from the others."""
    root = tmp_path_factory.mktemp("adapters")
    return {
        family: [write_adapter(folder, root / f"{family}-{seed}", seed) for seed in range(3)]
        for family, folder in tiny_models.items()
    }


@pytest.fixture(scope="session")
def make_adapter() -> Callable[..., Path]:
    """write_adapter, for tests that want their own."""
    return write_adapter


def write_model(folder: Path, family: str) -> None:
    """A model of two layers whose weights are exact in f16, with a byte-level tokenizer and ChatML."""
    torch.manual_seed(11)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _CORPUS, trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": family == "llama",
    }
    config = LlamaConfig(**shape) if family == "llama" else Phi3Config(**shape)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHATML)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))


def write_adapter(model_folder: Path, folder: Path, seed: int, rank: int = 4) -> Path:
    """PEFT itself writes it; both matrices random, so that it matters."""
    torch.manual_seed(100 + seed)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    )
    adapted.save_pretrained(folder)
    file = folder / "adapter_model.safetensors"
    tensors = {name: (torch.randn_like(tensor) * 0.2).half().float() for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    return folder
