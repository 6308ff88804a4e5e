"""Characters and forms a text should rarely hold: control characters, broken encodings, invisible marks."""

import re
import unicodedata

_ODD: dict[str, re.Pattern[str]] = {
    # Text that was UTF-8 and was read as Latin-1 or Windows-1252: Ã©, â€™, Â°.
    "broken_encoding": re.compile("\ufffd|Ã[\u0080-\u00bf\u0152\u0153\u0160\u0161]|â€[\u0080-\u2122]|Â[\u00a0-\u00bf]"),
    "control_character": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    # Zero width space, word joiner, byte order mark; the joiners of emoji and Indic scripts are no fault.
    "invisible_character": re.compile("[\u00ad\u200b\u2060-\u2064\ufeff]"),
    "text_direction_override": re.compile("[\u202a-\u202e\u2066-\u2069]"),
    "private_use_character": re.compile("[\ue000-\uf8ff]"),
    "html_remnant": re.compile(r"&(?:amp|lt|gt|quot|nbsp|#\d{2,5});|</(?:p|div|span|a|br|b|i|li|ul|td|tr)>|<br ?/?>"),
    "unusual_white_space": re.compile("[\u1680\u2000-\u200a\u2028\u2029\u205f]"),
}
INVISIBLE = re.compile("[\u00ad\u200b\u2060-\u2064\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What can be taken out without a reader missing it."""


def find_odd(text: str) -> list[tuple[str, str]]:
    """Kinds of odd characters in the text, each with the first of them; an empty list for a clean text."""
    # Most texts are ASCII, and two searches are enough for them.
    kinds = ("control_character", "html_remnant") if text.isascii() else tuple(_ODD)
    found = [(kind, match.group()) for kind in kinds if (match := _ODD[kind].search(text))]
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        found.append(("not_normalised", "text that is not in Unicode's normal form C"))
    return found
