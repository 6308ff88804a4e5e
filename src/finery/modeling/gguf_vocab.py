"""A model folder's tokenizer as a GGUF file holds it: llama.cpp must open it, and know where text and turns end.

Finery hands llama.cpp token ids and turns ids back into text itself, so the vocabulary here is what others run an
exported file with. Two kinds are written: byte-level BPE ("gpt2": tokens, merges, llama.cpp's name of the
pre-tokenizer) and BPE with byte fallback, as Phi-3 and Llama 2 have ("llama": tokens with scores, where llama.cpp
merges what has the higher score, so a merge's score is minus its rank).
"""

import json
import logging
from pathlib import Path
from typing import Any

import gguf

from finery.core.errors import CorruptArtifact, InvalidRequest
from finery.modeling.template import ChatTemplate

_log = logging.getLogger(__name__)

_DIGITS_3 = r"\p{N}{1,3}"
_DIGITS_1 = r"\p{N}"
_PHI3_TOKENS = {"<unk>", "<s>", "</s>", "<|endoftext|>"}
_MAX_TOKENIZER_BYTES = 256 << 20


def add_vocabulary(writer: gguf.GGUFWriter, folder: Path, template: ChatTemplate, vocabulary_size: int) -> None:
    """Add tokens, merges or scores, special ids and the chat `template` of `folder` to a GGUF file being written.

    `vocabulary_size` is the embedding's number of rows: ids beyond the tokenizer's are filled with unused tokens.
    """
    path = folder / "tokenizer.json"
    if path.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise CorruptArtifact(f"{path} has more than {_MAX_TOKENIZER_BYTES} bytes.")
    data: dict[str, Any] = json.loads(path.read_bytes())
    model = data["model"]
    if model.get("type") != "BPE":
        raise InvalidRequest(f"{path} is of type {model.get('type')!r}; llama.cpp is given BPE vocabularies only.")
    tokens, kinds = _tokens(data, vocabulary_size)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if model.get("byte_fallback"):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_bool(gguf.Keys.Tokenizer.ADD_PREFIX, _adds_space(data))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre_tokenizer_name(data))
        writer.add_token_merges(merges)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    _add_special(writer, template)


def pre_tokenizer_name(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name for the pre-tokenizer of a byte-level BPE tokenizer.json; `default` where it has none."""
    steps = tokenizer.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    regex = next((s["pattern"].get("Regex", "") for s in steps if s.get("type") == "Split"), None)
    if regex is None:
        digits = any(s.get("type") == "Digits" and s.get("individual_digits") for s in steps)
        return "smollm" if digits else "gpt-2"
    if r"\p{Lu}" in regex and _DIGITS_3 in regex:
        return "gpt-4o"
    if _DIGITS_3 in regex:
        # Llama 3 and cl100k (Phi-4) cut alike; llama.cpp's name for the one also sets `ignore_merges`.
        return "llama-bpe" if tokenizer["model"].get("ignore_merges") else "dbrx"
    if _DIGITS_1 in regex and r"\s*[\r\n]+" in regex:
        return "qwen2"
    _log.warning("llama.cpp has no name for the pre-tokenizer %r; other programs may cut text differently.", regex)
    return "default"


def general_name(name: str, template: ChatTemplate) -> str:
    """The name that the GGUF file of a model must have.

    llama.cpp takes it from the name `phi-3` that end tokens swallow the white space after them, and that certain
    tokens are there, without which it fails to open the file. So just the models whose tokenizer is so get that name.
    """
    added = template.tokenizer.get_added_tokens_decoder().values()
    swallowing = any(token.rstrip for token in added if token.special)
    tokens = {token.content for token in added}
    plain = name.replace("-", " ").replace("phi3", "phi 3")
    return f"{plain} (phi-3)" if swallowing and tokens >= _PHI3_TOKENS else plain


def _tokens(data: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Token texts and kinds by id, filled up to `size`."""
    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [int(gguf.TokenType.UNUSED)] * size
    byte_fallback = bool(data["model"].get("byte_fallback"))
    unknown = data["model"].get("unk_token")
    for text, i in data["model"]["vocab"].items():
        if i < size:
            tokens[i], kinds[i] = text, int(gguf.TokenType.NORMAL)
            if byte_fallback and len(text) == 6 and text.startswith("<0x"):
                kinds[i] = int(gguf.TokenType.BYTE)
            elif byte_fallback and text == unknown:
                kinds[i] = int(gguf.TokenType.UNKNOWN)
    for added in data.get("added_tokens", []):
        i, text = added["id"], added["content"]
        if i < size and kinds[i] != gguf.TokenType.UNKNOWN:
            tokens[i] = text
            kinds[i] = int(gguf.TokenType.CONTROL if added.get("special") else gguf.TokenType.USER_DEFINED)
    return tokens, kinds


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    ranks = {merge.replace(" ", "", 1): i for i, merge in reversed(list(enumerate(merges)))}
    return [-float(ranks.get(token, len(merges))) for token in tokens]


def _adds_space(data: dict[str, Any]) -> bool:
    """Whether text gets a space in front: by a normalizer (Prepend) or a pre-tokenizer (Metaspace)."""
    normalizer = data.get("normalizer") or {}
    prepends = [n for n in normalizer.get("normalizers", [normalizer]) if n.get("type") == "Prepend"]
    pre = data.get("pre_tokenizer") or {}
    spaces = [p for p in pre.get("pretokenizers", [pre]) if p.get("type") == "Metaspace"]
    return bool(prepends) or any(p.get("prepend_scheme", "always") != "never" for p in spaces)


def _add_special(writer: gguf.GGUFWriter, template: ChatTemplate) -> None:
    add = {"bos": writer.add_bos_token_id, "unk": writer.add_unk_token_id, "pad": writer.add_pad_token_id}
    for name, write in add.items():
        found = template.special_token_id(f"{name}_token")
        if found is not None:
            write(found)
    end_of_turn = template.end_of_turn_id
    writer.add_eos_token_id(template.eos_token_id)
    writer.add_eot_token_id(template.eos_token_id if end_of_turn is None else end_of_turn)
    writer.add_add_bos_token(bool(template.bos_ids))
    writer.add_chat_template(template.source)
