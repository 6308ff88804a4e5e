"""The guide's whole way, walked in a browser with a real small model; its words are what one clicks on."""

import json
import os
import random
from pathlib import Path

import pytest

from browser.conftest import Person
from browser.walk import Plan, walk

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("FINERY_BROWSER"), reason="the Studio is walked by make test-browser"),
]

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations a tiny model can learn."""
    draw = random.Random(0)
    rows = []
    for _ in range(40):
        colour = draw.choice(COLOURS)
        question, answer = f"the ticket is about {colour}", f"route {colour}"
        rows.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
    path = tmp_path_factory.mktemp("data") / "tickets.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_from_data_to_endpoint_and_back(person: Person, tickets: Path) -> None:
    plan = Plan(
        model="tiny-phi3",
        search="phi",
        data=tickets,
        learning_rate="5",
        epochs=4,
        question="the ticket is about red",
        expected="route",
    )
    walk(person, plan)
    assert not person.complaints
    foreign = [url for url in person.requests if not url.startswith((person.server.url, "data:", "blob:"))]
    assert not foreign, "nothing is asked of any other origin"
