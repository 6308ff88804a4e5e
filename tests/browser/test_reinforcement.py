"""The wizard with a grader: what is wrong with it is said, and the job learns from its grades."""

import json
import os
from pathlib import Path

import pytest

from browser.conftest import Person
from browser.walk import button

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("FINERY_BROWSER"), reason="the Studio is walked by make test-browser"),
]

GRADER = {
    "type": "string_check",
    "name": "says red",
    "operation": "ilike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.colour}}",
}

# No two alike: near duplicates can't be split between training and validation.
QUESTIONS = (
    "which colour has the ticket?",
    "name a nice colour and only that",
    "it is about black or white or red, reply with one",
    "route it to a colour",
    "the reply is a colour, and it is?",
    "say what the sky wears at dusk",
    "of which hue are ripe cherries",
    "stop signs are painted how?",
    "fire engines look like what",
    "tell me the tint of rust",
    "a robin's breast has one colour",
    "poppies in a field of wheat",
    "what do you see when you are angry",
    "paint the town, as they say",
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"messages": [{"role": "user", "content": asked}], "colour": "red"} for asked in QUESTIONS]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_grader_is_typed_mended_and_learned_from(person: Person, prompts: Path) -> None:
    page = person.open("/fine-tune")
    page.get_by_label("Name of the fine-tuned model").fill("graded")
    button(page, "Next").click()
    page.get_by_role("combobox", name="Task type", exact=True).click()
    page.get_by_role("option", name="Reinforcement (a grader)", exact=True).click()
    grader = page.get_by_label("Grader, as JSON")
    page.locator("input[type=file]").set_input_files(prompts)
    page.get_by_text("prompts.jsonl").first.wait_for()
    grader.fill("says red")
    button(page, "Next").click()
    page.get_by_text("The grader is a JSON object with type and name.").wait_for()
    person.shoot("wizard-grader-fault")
    grader.fill(json.dumps(GRADER, indent=2))
    person.shoot("wizard-grader")
    button(page, "Next").click()
    page.get_by_text("Automatic split of training data").wait_for()
    button(page, "Next").click()
    page.get_by_role("heading", name="Parameters").wait_for()
    page.get_by_label("Epochs").fill("1")
    person.shoot("wizard-grader-parameters")
    button(page, "Next").click()
    page.get_by_role("heading", name="Review").wait_for()
    person.shoot("wizard-grader-review")
    button(page, "Submit").click()
    page.get_by_role("heading", name="Events").wait_for()
    page.locator(".badge", has_text="Completed").wait_for(timeout=600_000)
    person.shoot("job-graded")
    assert not person.complaints
