"""Text out of tokens: equal to the tokenizer's own decoding, in whole characters, cut before stop strings."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from finery.serving.pieces import TokenPieces
from finery.serving.protocol import AnswerToken
from finery.serving.text import TextStream

_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
_MERGED = ["Ġiron", "forge", "ðŁ", "ðŁ¦Ļ", "ĠÃ©", "ab", "abc", "bc", "cd"]


def byte_level() -> Tokenizer:
    vocab = {text: token for token, text in enumerate([*_ALPHABET, *_MERGED])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.add_tokens(["<tool>"])
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    """As Llama 2's and Phi-3's tokenizer.json."""
    texts = ["<unk>", *[f"<0x{byte:02X}>" for byte in range(256)], "▁iron", "▁", "forge", "é", "▁▁", "ab", "c"]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(texts)}, merges=[], byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


def pieces_of(tokenizer: Tokenizer) -> TokenPieces:
    return TokenPieces(json.loads(tokenizer.to_str()))


def token_of(number: int) -> AnswerToken:
    return AnswerToken(id=number, text="")


def run(stream: TextStream, tokens: list[int]) -> tuple[str, list[int], str | None, list[str]]:
    """Whole text, tokens shown, stop string, and the pieces as they came."""
    texts, shown = [], []
    for token in tokens:
        piece = stream.push(token_of(token))
        texts.append(piece.text)
        shown += [shown_token.id for shown_token in piece.tokens]
        if piece.stop is not None:
            return "".join(texts), shown, piece.stop, texts
    piece = stream.flush()
    return "".join([*texts, piece.text]), shown + [token.id for token in piece.tokens], piece.stop, [*texts, piece.text]


BYTE_LEVEL = byte_level()
BYTE_PIECES = pieces_of(BYTE_LEVEL)


@given(st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=30))
@settings(deadline=None)
def test_byte_level_text_equals_the_tokenizers_decoding(tokens: list[int]) -> None:
    text, shown, stop, _ = run(TextStream(pieces=BYTE_PIECES), tokens)
    assert text == BYTE_LEVEL.decode(tokens, skip_special_tokens=True)
    assert shown == tokens
    assert stop is None


@given(st.text(max_size=20))
def test_sentencepiece_text_equals_the_tokenizers_decoding(text: str) -> None:
    tokenizer = sentencepiece_like()
    tokens = [token for character in text for token in _spell(tokenizer, character)]
    assert run(TextStream(pieces=pieces_of(tokenizer)), tokens)[0] == tokenizer.decode(tokens)


def _spell(tokenizer: Tokenizer, character: str) -> list[int]:
    whole = tokenizer.token_to_id("▁" if character == " " else character)
    if whole is not None:
        return [whole]
    return [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in character.encode(errors="surrogatepass")]


def test_a_character_is_shown_whole_or_not_at_all() -> None:
    tokens = [BYTE_LEVEL.token_to_id(text) for text in ["Ġiron", *_byte_letters("🦙")]]
    *_, pieces = run(TextStream(pieces=BYTE_PIECES), tokens)
    assert pieces == [" iron", "", "", "", "🦙", ""]


def test_tokens_of_a_late_character_come_with_it() -> None:
    stream = TextStream(pieces=BYTE_PIECES)
    tokens = [BYTE_LEVEL.token_to_id(letter) for letter in _byte_letters("é")]
    assert stream.push(token_of(tokens[0])).tokens == ()
    assert [token.id for token in stream.push(token_of(tokens[1])).tokens] == tokens


@given(
    st.lists(st.sampled_from(["a", "b", "c", "d", "ab", "abc", "bc", "cd"]), max_size=12),
    st.lists(st.text("abcd", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stop_strings_are_found_across_tokens_and_never_leak(texts: list[str], stops: list[str]) -> None:
    tokens = [BYTE_LEVEL.token_to_id(text) for text in texts]
    text, shown, stop, pieces = run(TextStream(pieces=BYTE_PIECES, stop=stops), tokens)
    whole = "".join(texts)
    ends = [whole.find(word) + len(word) for word in stops if word in whole]
    if not ends:
        assert (text, stop, shown) == (whole, None, tokens)
        return
    # The first stop string to be complete ends the answer, as it would for a reader of the stream.
    first = min(ends)
    assert stop is not None
    assert whole.startswith(text + stop)
    assert len(text) + len(stop) <= _token_end(texts, first)
    assert not any(word in text for word in stops)
    assert "".join(pieces) == text
    assert shown == tokens[: len(shown)]


def _token_end(texts: list[str], place: int) -> int:
    """The end of the token in which the character before `place` lies: stops are looked for token by token."""
    end = 0
    for text in texts:
        end += len(text)
        if end >= place:
            return end
    raise AssertionError


@pytest.mark.parametrize("character", ["é", "鉄", "🦙", "🏴"])
def test_the_tokens_of_a_character_follow_from_its_bytes(character: str) -> None:
    letters = _byte_letters(character)
    tokens = [BYTE_LEVEL.token_to_id(letter) for letter in letters]
    assert BYTE_PIECES.split(character.encode(), len(letters)) == tokens
    assert BYTE_PIECES.split(character.encode(), len(letters) + 1) is None


def test_special_tokens_spell_nothing_but_have_a_name() -> None:
    end, tool = BYTE_LEVEL.token_to_id("<|end|>"), BYTE_LEVEL.token_to_id("<tool>")
    assert (BYTE_PIECES.bytes_of(end), BYTE_PIECES.label(end)) == (b"", "<|end|>")
    assert (BYTE_PIECES.bytes_of(tool), BYTE_PIECES.label(tool)) == (b"<tool>", "<tool>")


def _byte_letters(text: str) -> list[str]:
    """The byte-level alphabet's letters for a text."""
    encoded = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return list("".join(part for part, _ in encoded))
