"""A byte-level BPE tokenizer, as `tokenizer.json` holds it, built from a GGUF file's vocabulary and merges.

It knows the pre-tokenizers of the vocabularies it was checked with, by llama.cpp's name for them, and refuses others:
a wrong pre-tokenizer gives plausible ids that the model was never trained on.
"""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from finery.core.errors import InvalidRequest

_CONTROL, _USER_DEFINED = 3, 4


def build_tokenizer(tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], pre: str) -> Tokenizer:
    """A tokenizer of `tokens` (by id), GGUF token `kinds` (3 control, 4 user-defined), `merges` ("left right") and
    the pre-tokenizer that llama.cpp calls `pre`. InvalidRequest if `pre` is unknown."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    added = [(token, kind) for token, kind in zip(tokens, kinds, strict=True) if kind in {_CONTROL, _USER_DEFINED}]
    special = [AddedToken(t, normalized=False, special=True) for t, kind in added if kind == _CONTROL]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, kind in added if kind == _USER_DEFINED])
    return tokenizer


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name in {"default", "gpt-2"}:
        return byte_level
    raise InvalidRequest(f"The GGUF vocabulary's pre-tokenizer {name!r} is not known; import the Hugging Face folder.")
