"""The shipped heads find what stands among harmless words. What they find in all: `benchmarks/safety.py`."""

import pytest

from finery.safety.classifier import Classifier

HARMLESS = [
    "The museum opens at nine and closes at five.",
    "On Mondays the entry is free for families.",
    "The garden behind it was planted in spring.",
    "Lunch is served in the small hall upstairs.",
    "Trains run to the old harbour every hour.",
    "The new tower can be seen from the bridge.",
]
HARMFUL = "I will stab you and everyone in your house to death tonight."


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.mark.parametrize("place", range(len(HARMLESS) + 1))
def test_a_harmful_sentence_is_found_wherever_it_stands(classifier: Classifier, place: int) -> None:
    text = " ".join([*HARMLESS[:place], HARMFUL, *HARMLESS[place:]])
    assert classifier.analyze([text])[0].severities["violence"] >= 4


def test_the_harmless_ones_are_harmless(classifier: Classifier) -> None:
    assert set(classifier.analyze([" ".join(HARMLESS)])[0].severities.values()) == {0}
