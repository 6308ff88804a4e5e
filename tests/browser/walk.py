"""The guide's whole way through the Studio, its words being what one clicks on: the browser test walks it with a tiny
model, `scripts/screenshots.py` with the starter."""

from pathlib import Path
from typing import Any

from browser.conftest import Person


def walk(person: Person, data: Path, *, model: str, search: str, question: str, expected: str, epochs: int) -> None:
    """From the model catalog to an endpoint and back; a picture of each page is kept on the way."""
    page = person.page
    # Model catalog -> search -> choose -> Fine-tune.
    page.get_by_role("link", name="Model catalog").click()
    page.get_by_label("Search").fill(search)
    page.wait_for_function("!document.querySelector('#content').innerText.includes('Qwen3-1.7B')")
    person.shoot("catalog")
    page.locator(f"a[href$='/catalog/{model}']").click()
    page.get_by_role("heading", name="Facts").wait_for()
    person.shoot("model")
    page.get_by_role("link", name="Fine-tune", exact=True).click()

    # The wizard: a name is asked for before it goes on.
    button(page, "Next").click()
    page.get_by_text("Give the model a name.").wait_for()
    page.get_by_label("Name of the fine-tuned model").fill("tickets")
    person.shoot("wizard-name")
    button(page, "Next").click()

    # Training data from the local machine; what the check found, and the coloured view, stand right there.
    page.get_by_role("heading", name="Training data").wait_for()
    page.locator("input[type=file]").set_input_files(data)
    page.get_by_text("As the model sees it").wait_for()
    page.locator(".token--trained").first.wait_for()
    assert expected in page.locator(".tokens").inner_text()
    person.shoot("wizard-training-data")

    # Nothing is lost on reload.
    page.reload()
    page.get_by_role("heading", name="Training data").wait_for()
    page.locator(".token--trained").first.wait_for()
    button(page, "Next").click()
    page.get_by_text("Automatic split of training data").wait_for()
    person.shoot("wizard-validation-data")
    button(page, "Next").click()
    page.get_by_label("Batch size multiplier").fill("1")
    page.get_by_label("Learning rate").fill("5" if model.startswith("tiny") else "1")
    page.get_by_label("Epochs").fill(str(epochs))
    person.shoot("wizard-parameters")
    button(page, "Next").click()
    page.get_by_role("heading", name="Review").wait_for()
    person.shoot("wizard-review")
    button(page, "Submit").click()

    # The job, live, to "Completed".
    page.get_by_role("heading", name="Events").wait_for()
    page.locator(".badge", has_text="Completed").wait_for(timeout=person.patience * 1000)
    page.get_by_role("heading", name="Checkpoints").wait_for()
    page.locator("canvas").wait_for()
    assert "Training loss over" in (page.locator(".chart").get_attribute("aria-label") or "")
    person.shoot("job")

    # Deploy, and the endpoint page with ready code.
    page.get_by_role("link", name="Deploy", exact=True).first.click()
    page.get_by_label("Deployment name").fill("tickets")
    person.shoot("deploy")
    button(page, "Deploy").click()
    page.locator(".badge", has_text="Ready").wait_for()
    assert person.server.url in page.locator("pre").first.inner_text()
    person.shoot("endpoint")

    # The playground, base and tuned side by side.
    page.get_by_role("link", name="Open in playground").click()
    page.get_by_label("Most tokens").fill("12")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Your message").fill(question)
    button(page, "Send").click()
    page.wait_for_function(
        "[...document.querySelectorAll('#content .hint')].filter(e => / tokens/.test(e.innerText)).length == 2"
    )
    columns = page.locator(".talk__column")
    assert [columns.nth(i).get_attribute("aria-label") for i in range(2)] == [model, "tickets"]
    assert expected in columns.nth(1).locator(".turn--assistant").inner_text()
    person.shoot("playground")

    # Delete is refused while the model is deployed, with the way out; then it goes.
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("link", name=f"ft:{model}:default:tickets").first.click()
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
    page.get_by_role("link", name=f"ft:{model}:default:tickets").first.click()
    button(page, "Delete").click()
    button(page, "Delete the model").click()
    page.get_by_text("No tuned models yet").wait_for()


def button(page: Any, name: str) -> Any:
    """A button by its words."""
    return page.get_by_role("button", name=name, exact=True)
