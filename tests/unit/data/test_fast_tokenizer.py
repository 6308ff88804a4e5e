"""The faster tokenizer gives the very same tokens, offsets and weights, or steps aside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from finery.data.fast_tokenizer import FastTokenizer, accelerated
from finery.modeling.template import ChatTemplate

from .conftest import CHATML, talk, write_template

pytest.importorskip("fastokens", reason="fastokens is optional")

TEXT = "The quick brown fox isn't 12345 years old.\n\n  def f(x):\n\treturn x + 1  # naïve café 東京 🙂 привет"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def trained(pre_tokenizer: Any, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([TEXT] * 9, trainer)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "smollm2": lambda: trained(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    ),
    "llama3": lambda: trained(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    ),
    "qwen, normalised": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC()),
}
PIECES = [
    "<|im_start|>user\n",
    "<|im_end|>\n",
    "  ",
    "\n\n",
    "don't",
    "12345",
    "é",
    "e\u0301",
    "東京",
    "🙂",
    "👩‍👩‍👧",
    "\u200b",
    "a",
    " b",
    "\x00",
    "<|im",
    "İ",
    "\u00a0",
]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20)


@pytest.fixture(scope="module", params=list(KINDS))
def exact(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts, max_size=8))
def test_ids_and_offsets_are_those_of_the_exact_tokenizer(exact: Tokenizer, batch: list[str]) -> None:
    fast = FastTokenizer.of(exact)
    assert fast is not None
    quick = fast.encode_batch(batch, add_special_tokens=False)
    for encoding, wanted in zip(quick, exact.encode_batch(batch, add_special_tokens=False), strict=True):
        assert encoding.ids == wanted.ids
        assert list(encoding.offsets) == wanted.offsets


def test_the_engine_really_encodes_when_nothing_is_wrong() -> None:
    fast = FastTokenizer.of(KINDS["smollm2"]())
    assert fast is not None
    encodings = fast.encode_batch([TEXT] * 200, add_special_tokens=False)
    assert sum(type(encoding).__name__ == "FastEncoding" for encoding in encodings) == 200
    assert fast.uses_engine


def test_a_wrong_token_puts_the_engine_out_and_the_batch_stays_right() -> None:
    exact = KINDS["gpt2"]()
    fast = FastTokenizer(exact, _Liar(exact))
    batch = [TEXT, "two"]
    wanted = [encoding.ids for encoding in exact.encode_batch(batch, add_special_tokens=False)]
    assert [encoding.ids for encoding in fast.encode_batch(batch, add_special_tokens=False)] == wanted
    assert not fast.uses_engine


class _Liar:
    """Gives tokens of the right bytes, but single ones instead of merged ones."""

    def __init__(self, exact: Tokenizer) -> None:
        self._exact = exact

    def encode_batch_flat(self, texts: list[str], *, add_special_tokens: bool) -> tuple[bytes, bytes]:
        tokens = [encoding.tokens for encoding in self._exact.encode_batch(texts)]
        ids = [[self._exact.token_to_id(sign) for token in row for sign in token] for row in tokens]
        edges = np.cumsum([0, *map(len, ids)])
        return np.concatenate(ids).astype("<u4").tobytes(), edges.astype("<u8").tobytes()


def test_examples_are_the_same_row_by_row(tmp_path: Path) -> None:
    template = write_template(tmp_path, CHATML)
    quick = accelerated(template)
    assert quick is not template
    rows = [talk(f"Frage {number}: süß 🙂 {TEXT}?", f" {TEXT} " * (number % 3 + 1)) for number in range(300)]
    rows.append({"prompt": "a", "completion": " b"})
    assert quick.encode_examples(rows) == template.encode_examples(rows)
    assert template.tokenizer is not quick.tokenizer


def test_sentencepiece_tokenizers_are_left_as_they_are(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator(
        [TEXT] * 9, trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", "<|im_end|>"], show_progress=False)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}), encoding="utf-8")
    template = ChatTemplate.load(tmp_path)
    rows = [talk("How is it?", "So it is.")] * 40
    assert accelerated(template).encode_examples(rows) == template.encode_examples(rows)
