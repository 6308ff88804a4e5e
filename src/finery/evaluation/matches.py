"""An answer against its reference: exactly, normalised, by label, by token, by JSON field. All scores are from 0 to 1.

Normalising is SQuAD's (Rajpurkar et al. 2016, arXiv 1606.05250), which Foundry's F1 evaluator uses too: lower case, no
punctuation, no articles, single spaces. It does not know where answers come from.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")

NO_LABEL = "(none)"
"""Stands in tables for an answer that names no label."""


def normalise(text: str) -> str:
    """A text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """1 where both are the same but for the space around them."""
    return float(answer.strip() == reference.strip())


def accuracy(answer: str, reference: str) -> float:
    """1 where both are the same once normalised."""
    return float(normalise(answer) == normalise(reference))


def contains(answer: str, reference: str) -> float:
    """1 where the normalised reference stands in the normalised answer, as whole words."""
    return float(bool(normalise(reference)) and f" {normalise(reference)} " in f" {normalise(answer)} ")


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the words both share; 1 where both are empty."""
    said, wanted = normalise(answer).split(), normalise(reference).split()
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


def label_of(answer: str, labels: Sequence[str]) -> str | None:
    """The label an answer names: all of it, or the only one that stands in it; None where there is none such."""
    said = normalise(answer)
    named = {normalise(label): label for label in labels}
    if said in named:
        return named[said]
    inside = [label for text, label in named.items() if text and f" {text} " in f" {said} "]
    return inside[0] if len(inside) == 1 else None


def read_json(text: str) -> Any:
    """The JSON of an answer, perhaps in a fenced block; ValueError where it is none."""
    stripped = text.strip()
    if stripped.startswith("```"):
        stripped = stripped.strip("`").removeprefix("json")
    try:
        return json.loads(stripped)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def json_validity(answer: str, _reference: str = "") -> float:
    """1 where the answer is JSON."""
    try:
        read_json(answer)
    except ValueError:
        return 0.0
    return 1.0


def json_fields(answer: str, reference: str) -> float:
    """Share of the reference's leaf fields that the answer has with the same value; 0 where either is no JSON.

    Texts are compared normalised, numbers by value; a field that the answer has beyond the reference's counts as wrong.
    """
    try:
        said, wanted = _leaves(read_json(answer)), _leaves(read_json(reference))
    except ValueError:
        return 0.0
    places = said.keys() | wanted.keys()
    right = sum(place in said and place in wanted and _same_value(said[place], wanted[place]) for place in places)
    return right / len(places) if places else 1.0


def _leaves(value: Any, place: str = "$") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = [(f"{place}.{key}", inner) for key, inner in value.items()]
    elif isinstance(value, list) and value:
        parts = [(f"{place}[{i}]", inner) for i, inner in enumerate(value)]
    else:
        return {place: value}
    return {leaf: inner for at, part in parts for leaf, inner in _leaves(part, at).items()}


def _same_value(said: Any, wanted: Any) -> bool:
    if isinstance(said, str) and isinstance(wanted, str):
        return normalise(said) == normalise(wanted)
    # True is 1 in Python, and not in JSON.
    return isinstance(said, bool) == isinstance(wanted, bool) and bool(said == wanted)
