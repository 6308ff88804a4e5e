"""Tiny models of every architecture Finery takes, with tokenizers trained here: real formats, seconds to make."""

import json
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. 1234567890 times, isn't it?",
    "def add(a, b):\n    return a + b  # 12 + 30 = 42\n",
    "Grüße aus Köln: naïve café, 東京, привет, مرحبا, 🙂!",
    "In the beginning there was a cat; the cat sat on the mat, and the mat was flat.",
    string.printable,
] * 20

CHATML = """\
{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
# As the released Phi-3 does it: the end of text follows a conversation that is over, so no rendering of a beginning is
# a beginning of the whole.
PHI3 = """\
{% for message in messages %}
{% if message['role'] == 'system' %}
{{- '<|system|>\\n' + message['content'] + '<|end|>\\n' }}
{%- elif message['role'] == 'user' %}
{{- '<|user|>\\n' + message['content'] + '<|end|>\\n' }}
{%- elif message['role'] == 'assistant' %}
{{- '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endif %}
{%- endfor %}
{% if add_generation_prompt %}
{{- '<|assistant|>\\n' }}
{%- else %}
{{- eos_token }}
{%- endif %}"""
LLAMA3 = """\
{% for message in messages %}
{% set head = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' %}
{% if loop.index0 == 0 %}{% set head = bos_token + head %}{% endif %}
{{- head + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def chatml_tokenizer() -> Tokenizer:
    """As SmolLM2 and Qwen have it: byte-level BPE, no BOS, single digits."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return _train_byte_level(tokenizer, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


def llama3_tokenizer() -> Tokenizer:
    """As Llama 3 has it: a regular expression before the bytes, and BOS from a post-processor."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = _train_byte_level(tokenizer, special)
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    return tokenizer


def phi3_tokenizer() -> Tokenizer:
    """As Phi-3 and Llama 2 have it: BPE of characters with byte fallback, spaces as U+2581, end tokens that strip."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=520, special_tokens=["<unk>", "<s>", "</s>", *fallback], limit_alphabet=60, show_progress=False
    )
    # Words are cut at spaces only while training, as SentencePiece does.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tokenizer.train_from_iterator(CORPUS, trainer)
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = None
    # The bytes are plain tokens of the vocabulary in the real file, not added ones.
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in {"<unk>", "<s>", "</s>"}]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    strip = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
    tokenizer.add_special_tokens([AddedToken(t, rstrip=t != "<|endoftext|>", normalized=False) for t in strip])
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer, template: str, **special: str) -> None:
    """The tokenizer's files of a model folder."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_chatml(folder: Path) -> None:
    """A tokenizer in the manner of SmolLM2."""
    write_tokenizer(folder, chatml_tokenizer(), CHATML, bos_token="<|im_start|>", eos_token="<|im_end|>")


def write_phi3(folder: Path) -> None:
    """A tokenizer in the manner of Phi-3."""
    write_tokenizer(folder, phi3_tokenizer(), PHI3, bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>")


def write_llama3(folder: Path) -> None:
    """A tokenizer in the manner of Llama 3."""
    write_tokenizer(folder, llama3_tokenizer(), LLAMA3, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


@pytest.fixture(scope="session")
def tokenizer_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a tokenizer and a template each, by the manner: chatml, phi3, llama3."""
    folders = {}
    writers: dict[str, Callable[[Path], None]] = {"chatml": write_chatml, "phi3": write_phi3, "llama3": write_llama3}
    for name, write in writers.items():
        folders[name] = tmp_path_factory.mktemp(name)
        write(folders[name])
    return folders


def _train_byte_level(tokenizer: Tokenizer, special: list[str]) -> Tokenizer:
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer
