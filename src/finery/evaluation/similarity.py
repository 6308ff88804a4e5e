"""How alike two texts are: BLEU, GLEU, METEOR, ROUGE and fuzzy match, from 0 to 1, by the libraries that define them.

sacrebleu, rouge-score, nltk and rapidfuzz come with `finery[evaluation]` and are imported when first asked for. METEOR
is nltk's without synonyms: exact and stemmed words count (WordNet is no package). Knows no models: `cosine` compares
vectors that somebody else made.
"""

import importlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from finery.core.errors import NotOffered


def sentence_bleu(answer: str, reference: str) -> float:
    """sacrebleu's sentence BLEU (exponential smoothing, effective order), over 100."""
    return float(_bleu(True).sentence_score(answer, [reference]).score) / 100


def corpus_bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """sacrebleu's corpus BLEU with its standard settings, over 100."""
    return float(_bleu(False).corpus_score(list(answers), [list(references)]).score) / 100


def gleu(answer: str, reference: str) -> float:
    """Google-BLEU of white-space words, n-grams of 1 to 4 (Wu et al. 2016, arXiv 1609.08144)."""
    if not answer.split() or not reference.split():
        return float(answer.split() == reference.split())
    return float(_needed("nltk.translate.gleu_score").sentence_gleu([reference.split()], answer.split()))


def meteor(answer: str, reference: str) -> float:
    """METEOR of white-space words, by exact and stemmed matches (Banerjee and Lavie 2005)."""
    scorer = _needed("nltk.translate.meteor_score")
    return float(scorer.single_meteor_score(reference.split(), answer.split(), wordnet=_NoSynonyms()))


def rouge(kind: str, answer: str, reference: str) -> float:
    """F1 of ROUGE (Lin 2004) with stemming, by rouge-score; `kind` is rouge1 to rouge9, or rougeL."""
    return float(_rouge(kind).score(reference, answer)[kind].fmeasure)


def fuzzy_match(answer: str, reference: str) -> float:
    """rapidfuzz's weighted ratio, over 100."""
    return float(_needed("rapidfuzz.fuzz").WRatio(answer, reference)) / 100


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two vectors; 0 where one has no length."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


class _NoSynonyms:
    """A WordNet that knows no synonyms."""

    def synsets(self, _word: str) -> list[Any]:
        return []


@lru_cache(maxsize=2)
def _bleu(effective_order: bool) -> Any:
    return _needed("sacrebleu.metrics").BLEU(effective_order=effective_order)


@lru_cache(maxsize=8)
def _rouge(kind: str) -> Any:
    return _needed("rouge_score.rouge_scorer").RougeScorer([kind], use_stemmer=True)


def _needed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotOffered(
            f"This metric needs the package {module.partition('.')[0]}, which the server hasn't: "
            "pip install 'finery[evaluation]'.",
            code="missing_package",
        ) from error
