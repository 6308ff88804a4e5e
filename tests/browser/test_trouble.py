"""What goes wrong is said, with the way out, and nothing that was typed is lost."""

import os
import signal
from pathlib import Path

import pytest

from browser.conftest import Person
from browser.walk import button
from servers import Server

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("FINERY_BROWSER"), reason="the Studio is walked by make test-browser"),
]


def test_an_answer_whose_server_dies_before_its_first_word_comes_after_all(person: Person, server: Server) -> None:
    page = person.open("/playground?model=tiny-phi3")
    page.get_by_label("Most tokens").fill("2")
    page.get_by_label("Your message").fill("first")
    button(page, "Send").click()
    answered = page.locator("#content .turns .hint", has_text=" tokens")
    answered.wait_for()
    (process,) = server.children("finery.serving.server")
    os.kill(process, signal.SIGSTOP)  # Nothing comes until it is gone: the question is in flight for sure.
    page.get_by_label("Your message").fill("where is my parcel")
    button(page, "Send").click()
    page.get_by_text("The model is loaded and reads your message.").wait_for()
    os.kill(process, signal.SIGKILL)
    answered.nth(1).wait_for()


def test_what_somebody_else_deleted_is_said_to_be_gone(person: Person, server: Server) -> None:
    with server.http() as http:
        file = http.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("shared.jsonl", b'{"prompt": "a"}')}
        ).json()
        page = person.open(f"/data/{file['id']}")
        http.delete(f"/v1/files/{file['id']}").raise_for_status()
    button(page, "Delete").click()
    button(page, "Delete the file").click()
    page.locator(".q-notification").get_by_text(file["id"]).wait_for()
    page.reload()
    page.get_by_role("heading", name="This can't be shown").wait_for()
    page.get_by_text(file["id"]).wait_for()


def test_a_wrong_upload_is_told_line_by_line(person: Person, tmp_path: Path) -> None:
    wrong = tmp_path / "holiday.jsonl"
    wrong.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    page = person.open("/data")
    page.locator("input[type=file]").set_input_files(wrong)
    page.get_by_role("heading", name="What the check found").wait_for()
    page.locator(".callout--bad").first.wait_for()
    person.shoot("wrong-upload")


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(person: Person, tmp_path: Path) -> None:
    huge = tmp_path / "huge.jsonl"
    with huge.open("wb") as file:
        file.truncate(513 * 1024 * 1024)
    page = person.open("/data")
    page.locator("input[type=file]").set_input_files(huge)
    page.get_by_text("This file is over 512 MB").wait_for()
    assert not [url for url in person.requests if "/_nicegui/client/" in url]


def test_training_data_that_somebody_else_deleted_is_chosen_anew(person: Person, server: Server) -> None:
    with server.http() as http:
        row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
        files = {"file": ("shared.jsonl", row)}
        file = http.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()
        page = person.open(f"/fine-tune?model=tiny-phi3&training_file={file['id']}")
        page.get_by_label("Name of the fine-tuned model").fill("mine")
        http.delete(f"/v1/files/{file['id']}").raise_for_status()
    button(page, "Next").click()
    page.get_by_text("The file that was chosen is gone").wait_for()
    button(page, "Next").click()
    page.get_by_text("Choose training data or upload a file.").wait_for()


def test_a_key_that_is_revoked_meanwhile_ends_the_session_kindly(person: Person, server: Server) -> None:
    with server.http() as http:
        made = http.post("/finery/v1/keys", json={"name": "short-lived"}).json()
        other = person.context.browser.new_context()
        page = other.new_page()
        page.goto(f"{server.url}/")
        page.fill("#key", made["key"])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("#content h1")
        page.goto(f"{server.url}/studio/fine-tune?model=tiny-phi3")
        page.get_by_label("Name of the fine-tuned model").fill("mine")
        http.delete(f"/finery/v1/keys/{made['id']}").raise_for_status()
    button(page, "Next").click()
    page.get_by_text("Your session has ended").wait_for()
    button(page, "Stay here").click()
    assert page.get_by_label("Name of the fine-tuned model").input_value() == "mine"
    assert page.locator("[aria-current=step]").inner_text().endswith("Name")
    other.close()
