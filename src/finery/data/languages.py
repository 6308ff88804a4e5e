"""Which language a text is in, by py3langid's model (97 languages, inside the package; Lui and Baldwin 2012).

Short texts say little: what the model is not sure of is "und", undetermined (ISO 639-2).
"""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

SURE = 0.5
"""Probability from which a language is taken as told."""
_READ_CHARACTERS = 400


def language_of(text: str) -> str:
    """The text's language as an ISO 639-1 code, or "und"."""
    language, probability = _identifier().classify(text[:_READ_CHARACTERS])
    return str(language) if probability >= SURE else "und"


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
