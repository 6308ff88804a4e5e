"""The demo's data: complete, balanced, without repeats, and honest (nothing of the held-out set stands in training)."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[3] / "demo"
FILES = {"train": DEMO / "support_tickets.train.jsonl", "heldout": DEMO / "support_tickets.heldout.jsonl"}
LEAST_ROWS = {"train": 300, "heldout": 60}
QUEUES = {
    "account-access",
    "billing-refunds",
    "orders-shipping",
    "product-advice",
    "rentals-booking",
    "repairs-warranty",
    "returns-exchange",
    "safety-urgent",
}
NEAR = 0.4
"""Jaccard similarity of character 3-grams from which two tickets count as the same one told twice."""


def read(name: str) -> list[list[dict[str, Any]]]:
    return [json.loads(line)["messages"] for line in FILES[name].read_text(encoding="utf-8").splitlines()]


def texts(name: str) -> list[str]:
    return [messages[1]["content"] for messages in read(name)]


def trigrams(text: str) -> set[str]:
    plain = re.sub(r"\W+", " ", text.lower()).strip()
    return {plain[i : i + 3] for i in range(len(plain) - 2)}


def similarity(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_system_user_assistant_and_nothing_else(name: str) -> None:
    for number, line in enumerate(FILES[name].read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        assert list(row) == ["messages"], number
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"], number
        assert all(set(message) == {"role", "content"} for message in row["messages"]), number
        assert all(message["content"] == message["content"].strip() != "" for message in row["messages"]), number


@pytest.mark.parametrize("name", FILES)
def test_there_are_enough_rows_of_every_queue(name: str) -> None:
    counts = Counter(messages[2]["content"] for messages in read(name))
    assert set(counts) == QUEUES
    assert counts.total() >= LEAST_ROWS[name]
    mean = counts.total() / len(QUEUES)
    assert all(0.8 * mean <= count <= 1.2 * mean for count in counts.values()), counts


def test_one_system_prompt_that_names_every_queue() -> None:
    prompts = {messages[0]["content"] for name in FILES for messages in read(name)}
    assert len(prompts) == 1
    (prompt,) = prompts
    assert all(queue in prompt for queue in QUEUES)


@pytest.mark.parametrize("name", FILES)
def test_no_customer_knows_the_name_of_a_queue(name: str) -> None:
    given_away = [text for text in texts(name) if any(queue in text.lower() for queue in QUEUES)]
    assert given_away == []


@pytest.mark.parametrize("name", FILES)
def test_messages_are_of_many_lengths(name: str) -> None:
    lengths = [len(text.split()) for text in texts(name)]
    assert 4 <= min(lengths) < 8
    assert 50 <= max(lengths) <= 70
    assert len(set(lengths)) >= 20


def test_no_two_tickets_are_alike_within_or_across_the_files() -> None:
    everything = [(text, trigrams(text)) for name in FILES for text in texts(name)]
    alike = [(a, b) for (a, x), (b, y) in itertools.combinations(everything, 2) if similarity(x, y) >= NEAR]
    assert alike == []


@pytest.mark.parametrize("name", FILES)
def test_tickets_are_not_stamped_from_a_template(name: str) -> None:
    openings = Counter(" ".join(text.lower().split()[:3]) for text in texts(name))
    opening, count = openings.most_common(1)[0]
    assert count <= max(3, 0.02 * openings.total()), opening


@pytest.mark.parametrize("name", FILES)
def test_nobody_can_be_reached_by_what_is_written(name: str) -> None:
    """No e-mail addresses, no links, no digits long enough for a telephone or a card."""
    reachable = re.compile(r"\S+@\S+|https?:|www\.|(?:\d[ -]?){7,}")
    assert [text for text in texts(name) if reachable.search(text)] == []
