"""The guide's whole way through the Studio, its words being what one clicks on: the browser test walks it with a tiny
model, `scripts/screenshots.py` with the starter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from browser.conftest import Person


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is tuned, with what, and how one sees that it learned."""

    model: str
    search: str
    """Finds the model in the catalog."""
    data: Path
    learning_rate: str
    """Times the model's own."""
    epochs: int
    question: str
    expected: str
    """In the tuned model's answer."""
    system: str = ""
    """What the training rows begin with."""


def walk(person: Person, plan: Plan) -> None:
    """From the model catalog to an endpoint and back; a picture of each page is kept on the way."""
    choose_the_model(person, plan)
    name_and_give_data(person, plan)
    set_parameters_and_submit(person, plan)
    watch_the_job(person)
    deploy(person)
    ask_side_by_side(person, plan)
    delete(person, plan)


def choose_the_model(person: Person, plan: Plan) -> None:
    """Model catalog -> search -> choose -> Fine-tune."""
    page = person.page
    page.get_by_role("link", name="Model catalog").click()
    page.get_by_label("Search").fill(plan.search)
    page.wait_for_function("!document.querySelector('#content').innerText.includes('Qwen3-1.7B')")
    person.shoot("catalog")
    page.locator(f"a[href$='/catalog/{plan.model}']").click()
    page.get_by_role("heading", name="Facts").wait_for()
    person.shoot("model")
    page.get_by_role("link", name="Fine-tune", exact=True).click()


def name_and_give_data(person: Person, plan: Plan) -> None:
    """The wizard's first half. A name is asked for before it goes on; what the check found, and the coloured view,
    stand beside the upload; nothing is lost on reload."""
    page = person.page
    page.get_by_label("Name of the fine-tuned model").fill("")  # Drafts of a key are kept: another test may have typed.
    button(page, "Next").click()
    page.get_by_text("Give the model a name.").wait_for()
    page.get_by_label("Name of the fine-tuned model").fill("tickets")
    person.shoot("wizard-name")
    button(page, "Next").click()
    page.get_by_role("heading", name="Training data").wait_for()
    page.locator("input[type=file]").set_input_files(plan.data)
    page.get_by_text("As the model sees it").wait_for()
    page.locator(".token--trained").first.wait_for()
    assert plan.expected in page.locator(".tokens").inner_text()
    person.shoot("wizard-training-data")
    page.reload()
    page.get_by_role("heading", name="Training data").wait_for()
    page.locator(".token--trained").first.wait_for()


def set_parameters_and_submit(person: Person, plan: Plan) -> None:
    """The wizard's second half."""
    page = person.page
    button(page, "Next").click()
    page.get_by_text("Automatic split of training data").wait_for()
    person.shoot("wizard-validation-data")
    button(page, "Next").click()
    page.get_by_label("Batch size multiplier").fill("1")
    page.get_by_label("Learning rate").fill(plan.learning_rate)
    page.get_by_label("Epochs").fill(str(plan.epochs))
    person.shoot("wizard-parameters")
    button(page, "Next").click()
    page.get_by_role("heading", name="Review").wait_for()
    page.get_by_text("Tokens an epoch").wait_for()
    page.get_by_role("heading", name="Pricing and terms").wait_for()
    person.shoot("wizard-review")
    button(page, "Submit").click()


def watch_the_job(person: Person) -> None:
    """The job, live, to "Completed"."""
    page = person.page
    page.get_by_role("heading", name="Events").wait_for()
    page.locator(".badge", has_text="Completed").wait_for(timeout=person.patience * 1000)
    page.get_by_role("heading", name="Checkpoints").wait_for()
    page.locator("canvas").wait_for()
    assert "Training loss over" in (page.locator(".chart").get_attribute("aria-label") or "")
    person.shoot("job")


def deploy(person: Person) -> None:
    """Deploy, and the endpoint page with ready code."""
    page = person.page
    page.get_by_role("link", name="Deploy", exact=True).first.click()
    page.get_by_label("Deployment name").fill("tickets")
    page.get_by_role("heading", name="Pricing and terms").wait_for()
    person.shoot("deploy")
    button(page, "Deploy").click()
    page.locator(".badge", has_text="Ready").wait_for(timeout=person.patience * 1000)
    assert person.server.url in page.locator("pre").first.inner_text()
    person.shoot("endpoint")


def ask_side_by_side(person: Person, plan: Plan) -> None:
    """The playground, base and tuned side by side."""
    page = person.page
    page.get_by_role("link", name="Open in playground").click()
    page.get_by_label("Most tokens").fill("12")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("System prompt").fill(plan.system)
    page.get_by_label("Your message").fill(plan.question)
    button(page, "Send").click()
    page.wait_for_function(
        "[...document.querySelectorAll('#content .hint')].filter(e => / tokens/.test(e.innerText)).length == 2",
        timeout=person.patience * 1000,
    )
    columns = page.locator(".talk__column")
    assert [columns.nth(i).get_attribute("aria-label") for i in range(2)] == [plan.model, "tickets"]
    assert plan.expected in columns.nth(1).locator(".turn--assistant").inner_text()
    person.shoot("playground")


def delete(person: Person, plan: Plan) -> None:
    """Delete is refused while the model is deployed, with the way out; then it goes."""
    page = person.page
    tuned = f"ft:{plan.model}:default:tickets"
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("link", name=tuned).first.click()
    page.get_by_role("heading", name="Facts").wait_for()
    button(page, "Delete").click()
    button(page, "Delete the model").click()
    page.get_by_text("Delete the deployment first").wait_for()
    person.shoot("delete-refused")
    page.get_by_role("link", name="Go to the deployments").click()
    page.get_by_role("link", name="tickets", exact=True).first.click()
    button(page, "Delete").click()
    button(page, "Delete the deployment").click()
    page.get_by_text("No deployments yet").wait_for()
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("link", name=tuned).first.click()
    button(page, "Delete").click()
    button(page, "Delete the model").click()
    page.get_by_text("No tuned models yet").wait_for()


def button(page: Any, name: str) -> Any:
    """A button by its words."""
    return page.get_by_role("button", name=name, exact=True)
