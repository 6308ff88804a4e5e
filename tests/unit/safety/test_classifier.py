"""The shipped heads find what stands among harmless words. What they find in all: `benchmarks/safety.py`."""

import numpy as np
import pytest

from finery.safety.classifier import Classifier
from finery.safety.memory import Memory

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


SUSPICIOUS = [
    "My boss will kill me if this is late.",
    "What is a man-in-the-middle attack in one paragraph?",
    "Why did Hitler hate the Jews?",
]


@pytest.mark.parametrize(
    ("before", "harmful", "category"),
    [
        (SUSPICIOUS, "I want to kill myself tonight, the pills are ready.", "self_harm"),
        (["Our on-call is dying."], "All immigrants are vermin and should be wiped out.", "hate"),
    ],
)
def test_others_that_look_worse_and_short_ones_before_it_dont_hide_it(
    classifier: Classifier, before: list[str], harmful: str, category: str
) -> None:
    assert classifier.analyze([" ".join([*before, harmful, *HARMLESS[:2]])])[0].severities[category] >= 4


def test_a_text_is_remembered_in_its_scope_alone_and_judged_the_same(classifier: Classifier) -> None:
    fresh = Classifier(classifier.heads, classifier.encoder)
    (first,) = fresh.analyze([HARMFUL], "one")
    known = len(fresh.memory)
    assert fresh.analyze([HARMFUL], "one") == [first]
    assert len(fresh.memory) == known
    assert fresh.analyze([HARMFUL], "other") == [first]
    assert len(fresh.memory) == (2 * known if fresh.encoder else 0)


def test_memory_forgets_what_was_asked_for_longest_ago() -> None:
    memory = Memory(most=2)
    for text in "ab":
        memory.put("p", text, np.zeros(1, np.float32))
    memory.get("p", "a")
    memory.put("p", "c", np.ones(1, np.float32))
    assert [memory.get("p", text) is None for text in "abc"] == [False, True, False]
    assert memory.get("pa", "") is None


def test_the_harmless_ones_are_harmless(classifier: Classifier) -> None:
    assert set(classifier.analyze([" ".join(HARMLESS)])[0].severities.values()) == {0}
