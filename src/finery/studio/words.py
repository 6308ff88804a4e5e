"""The Studio's words: English in the code, translations in `locale/`, one JSON file a language. Knows no pages.

A text's English is its key. A text that has no translation stays English; a test sees to it that there is none.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES = {"en": "English", "id": "Bahasa Indonesia"}
"""Tag and own name of every language."""

DEFAULT_LANGUAGE = "en"

_FOLDER = Path(__file__).parent / "locale"


class Words:
    """Texts in one language."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else DEFAULT_LANGUAGE
        self._texts = _texts(self.language)

    def __call__(self, english: str, **values: Any) -> str:
        """A text; `{name}` in it is replaced by the value of that name."""
        text = self._texts.get(english, english)
        return text.format(**values) if values else text


def preferred(accept_language: str) -> str:
    """The first language of an Accept-Language header that there is."""
    for entry in accept_language.split(","):
        tag = entry.partition(";")[0].strip().lower().partition("-")[0]
        # Browsers of old say `in` for Indonesian.
        tag = "id" if tag == "in" else tag
        if tag in LANGUAGES:
            return tag
    return DEFAULT_LANGUAGE


@cache
def _texts(language: str) -> dict[str, str]:
    if language == DEFAULT_LANGUAGE:
        return {}
    texts: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts
