"""Text as a filter should read it: look-alike letters, hidden characters, leet, spaced-out words and simple encodings
undone.

For matching only; what people wrote is kept as they wrote it. Knows no category and no model. The folding is the same
when heads are trained and when they are used.
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
from urllib.parse import unquote

_LOOKALIKES = str.maketrans(
    "аеорсухѕіјԁһԛԝвмнтквАЕОРСУХВМНТКЅІЈαβεικονρτυχγΑΒΕΖΗΙΚΜΝΟΡΤΥΧɑɡıⅼǀ",
    "aeopcyxsijdhqwbmhtkbAEOPCYXBMHTKSIJabeikonptuxyABEZHIKMNOPTYXagill",
)
"""Cyrillic, Greek and other letters that look like Latin ones (after Unicode's confusables table)."""

_LEET = str.maketrans("013457@$!|", "oieastasil")
_WORD = re.compile(r"[^\W_]+(?:[@$!|'*][^\W_]+)*|[@$][^\W\d_]{2,}")
_LEET_INSIDE = re.compile(
    r"(?<=[^\W\d_])[013457@$]+(?=[^\W\d_])|(?<=[^\W\d_])(?<![^\W\d_]{3})[!|]+(?=[^\W\d_])"
    r"|^[013457@$]+(?=[^\W\d_]{3,})|(?<=[^\W\d_]{4})[013457]$|(?<=[^\W\d_])[$]+$"
)
_LEET_WORD = re.compile(r"[a-zA-Z][013457]+[a-zA-Z]|^[013457]+[a-zA-Z]{2,}$|^[a-zA-Z]{2,}[013457]$")
_SPACED = re.compile(r"(?<![^\W_])[^\W_](?:(?P<gap>[ .*_~-])[^\W_])(?:(?P=gap)[^\W_]){2,}(?![^\W_])")
_STRETCHED = re.compile(r"([a-hj-vyzA-HJ-VYZ])\1{2,}")
_SPACES = re.compile(r"[ \t]{3,}")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}={0,2}(?![A-Za-z0-9+/=])")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0x)?((?:[0-9a-fA-F]{2}[ :]?){10,})(?![0-9A-Za-z])")
_ESCAPED = re.compile(r"(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}){3,}")
_COMMON = re.compile(
    r"\b(?:the|and|to|of|you|how|is|in|it|that|with|for|your|my|me|this|are|all|can|what|i|a|do|make|tell)\b",
    re.IGNORECASE,
)
_TURNED_CHARACTERS = 4000
"""How much of a text is tried turned around or rotated: longer ones are told by their beginning."""


def fold(text: str) -> str:
    """A text with its disguises taken off; a plain text comes back nearly as it was."""
    text = _decode(text)
    text = "".join(map(_visible, unicodedata.normalize("NFKC", text))) if not text.isascii() else text
    text = _without_digits(_SPACED.sub(_join, _close_up(text)))
    text = _WORD.sub(_plain_word, text)
    text = _STRETCHED.sub(r"\1", text)
    return _turn_back(_SPACES.sub("  ", text))


def _visible(character: str) -> str:
    if character.isascii():
        return character
    if "\U000e0020" <= character <= "\U000e007e":
        return chr(ord(character) - 0xE0000)  # tag characters: invisible twins of ASCII
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if category[0] == "L":
        return unicodedata.normalize("NFKD", character)[0] if category in ("Ll", "Lu") else character
    return "" if category == "Mn" else character


def _close_up(text: str) -> str:
    """A text whose letters all stand apart, its words two spaces from each other."""
    parts = text[:_TURNED_CHARACTERS].split()
    if len(parts) < 8 or sum(len(part) == 1 for part in parts) < 0.6 * len(parts):
        return text
    return " ".join(word.replace(" ", "") for word in re.split(r"\s{2,}", text))


def _without_digits(text: str) -> str:
    """A text that is written in leet throughout, told by how many of its words have digits inside, in letters."""
    words = text[:_TURNED_CHARACTERS].split()
    if len(words) < 3 or len([word for word in words if _LEET_WORD.search(word)]) * 4 < len(words):
        return text
    return text.translate(_LEET)


def _plain_word(match: re.Match[str]) -> str:
    word = match[0]
    if "@" in word and re.match(r"\.\w", match.string[match.end() : match.end() + 2]):
        return word  # an address
    if not word.isascii():
        latin = word.translate(_LOOKALIKES)
        word = latin if latin.isascii() else word
    if word.isalpha():
        return word
    # Twice: what stands at the end is told by the letters before it, which may be leet themselves.
    once = _LEET_INSIDE.sub(lambda found: found[0].translate(_LEET), word)
    return _LEET_INSIDE.sub(lambda found: found[0].translate(_LEET), once)


def _join(match: re.Match[str]) -> str:
    return match[0].replace(match["gap"], "")


def _decode(text: str) -> str:
    if "%" in text and len(re.findall(r"%[0-9a-fA-F]{2}", text)) >= 3:
        text = unquote(text, errors="ignore")
    if "&" in text:
        text = html.unescape(text)
    if "\\" in text:
        text = _ESCAPED.sub(lambda found: _unescaped(found[0]), text)
    text = _HEX.sub(_from_hex, text)
    return _BASE64.sub(_from_base64, text)


def _unescaped(text: str) -> str:
    try:
        return codecs.decode(text, "unicode_escape")
    except UnicodeDecodeError:
        return text


def _from_hex(match: re.Match[str]) -> str:
    try:
        return _words_or(match[0], bytes.fromhex(match[1].replace(":", " ")))
    except ValueError:
        return match[0]


def _from_base64(match: re.Match[str]) -> str:
    code = match[0].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _words_or(match[0], base64.b64decode(code + "=" * (-len(code) % 4), validate=True))
    except binascii.Error:
        return match[0]


def _words_or(code: str, found: bytes) -> str:
    """What was found in a code, if that reads like words."""
    try:
        text = found.decode()
    except UnicodeDecodeError:
        return code
    wordy = sum(c.isalpha() or c in " '.,?!\n" for c in text)
    return f" {text} " if text and wordy >= 0.9 * len(text) and text.isprintable() else code


def _turn_back(text: str) -> str:
    """Rot13 and reversed texts, known by their small words, the right way round."""
    head = text[:_TURNED_CHARACTERS]
    words = len(head.split())
    seen = len(_COMMON.findall(head))
    if words < 3 or seen * 5 > words:
        return text
    rotated = codecs.encode(head, "rot13")
    if len(_COMMON.findall(rotated)) >= max(2, 2 * seen + 1, words // 8):
        return codecs.encode(text, "rot13")
    if len(_COMMON.findall(head[::-1])) >= max(2, 2 * seen + 1, words // 8):
        return text[::-1]
    return text
