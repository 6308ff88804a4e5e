"""Money, limits, people and the log, in a browser: what is set is there, and what may not be is said."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from browser.conftest import Person
from browser.walk import button
from servers import Server, deploy

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("FINERY_BROWSER"), reason="the Studio is walked by make test-browser"),
]


def test_a_budget_and_a_price_are_set_and_taken_away(person: Person) -> None:
    page = person.open("/costs")
    page.get_by_text("has no budget").wait_for()
    assert not button(page, "Remove the budget").is_visible()
    button(page, "Set the budget").click()
    page.get_by_text("Say how much the project may spend.").wait_for()
    page.get_by_label("Limit in USD").fill("250")
    button(page, "Set the budget").click()
    page.get_by_text("0.00 USD of 250.00 USD").wait_for()
    page.get_by_text("within the budget").wait_for()
    page.get_by_text("Set a price", exact=True).click()
    page.get_by_label("Training", exact=True).fill("2.5")
    button(page, "Set the price").click()
    page.get_by_text("every other model", exact=True).wait_for()
    person.shoot("costs")
    with person.server.http() as http:
        assert http.get("/finery/v1/budget").json()["limit"] == 250
        assert http.get("/finery/v1/prices").json()["data"][0]["training"] == 2.5
    page.get_by_role("cell", name="Delete").get_by_role("button").click()
    page.get_by_text("Nothing has a price yet").wait_for()
    button(page, "Remove the budget").click()
    button(page, "Remove it").click()
    page.get_by_text("has no budget").wait_for()


def test_a_quota_is_set_and_shows_how_much_is_used(person: Person) -> None:
    page = person.open("/quotas")
    choose(page, "Quota", "Files")
    page.get_by_label("Limit", exact=True).fill("400")
    button(page, "Set the limit").click()
    page.get_by_role("meter").wait_for()
    page.get_by_role("cell", name="400", exact=True).wait_for()
    person.shoot("quotas")
    choose(page, "Quota", "Files")
    page.get_by_label("Limit", exact=True).fill("")
    button(page, "Set the limit").click()
    page.get_by_role("meter").wait_for(state="detached")


def test_a_work_is_protected_and_a_policy_gets_a_guard(person: Person) -> None:
    with person.server.http() as http:
        deploy(http, "judge", "tiny-phi3")
    page = person.open("/safety")
    page.get_by_text("Nothing is protected yet.").wait_for()
    page.get_by_label("Name", exact=True).fill("tale")
    button(page, "Protect it").click()
    page.get_by_text("Give the work a name and its text.").wait_for()
    page.get_by_label("Text of the work").fill(
        "The keeper counted forty seven ships that night and wrote each of them into his ledger."
    )
    button(page, "Protect it").click()
    page.get_by_text("tale is protected now.").wait_for()
    page.get_by_label("Policy", exact=True).fill("guarded")
    choose(page, "Deployment", "judge")
    button(page, "Set the guard").click()
    page.get_by_text("guard: judge").wait_for()
    person.shoot("safety")
    with person.server.http() as http:
        assert http.get("/finery/v1/policies/guarded").json()["guard"]["kind"] == "llama_guard"
    page.get_by_label("Policy", exact=True).fill("guarded")
    button(page, "Take the guard away").click()
    page.get_by_text("guard: judge").wait_for(state="detached")
    page.get_by_role("cell", name="Delete").get_by_role("button").click()
    button(page, "Delete tale").click()
    page.get_by_text("Nothing is protected yet.").wait_for()


def test_a_person_is_given_a_role_and_a_key_that_may_no_more(person: Person, visit: Callable[..., Person]) -> None:
    page = person.open("/roles")
    page.get_by_label("Name", exact=True).fill("ada")
    button(page, "Add").click()
    page.get_by_text("ada is known now").wait_for()
    choose(page, "Role", "Reader")
    button(page, "Give the role").click()
    row = page.get_by_role("row").filter(has_text="Take back")
    row.get_by_text("Project default").wait_for()
    assert "Reader" in row.inner_text()
    person.shoot("roles")

    page = person.open("/access")
    page.get_by_label("Name", exact=True).fill("ada-laptop")
    choose(page, "Speaks for", "ada")
    button(page, "Create key").click()
    page.get_by_text("it is shown only this once").wait_for()
    key = page.locator("pre").first.inner_text()
    person.shoot("access")

    ada = visit()
    ada.sign_in(key)
    refused = ada.open("/audit")
    refused.get_by_text("may not read the audit log").wait_for()
    refused = ada.open("/quotas")
    refused.get_by_label("Limit", exact=True).fill("1")
    button(refused, "Set the limit").click()
    refused.locator(".q-notification").get_by_text("quotas.write").wait_for()

    page = person.open("/roles")
    page.get_by_role("row").filter(has_text="Service principal").or_(
        page.get_by_role("row").filter(has_text="ada")
    ).get_by_role("button", name="Delete").first.click()
    button(page, "Delete ada").click()
    page.get_by_role("button", name="Delete ada").wait_for(state="detached")
    ada.page.goto(f"{ada.server.url}/studio/")
    ada.page.locator("#key, .dialog-title").first.wait_for()


def test_the_audit_log_says_who_did_what_and_that_nobody_changed_it(person: Person, server: Server) -> None:
    with server.http() as http:
        http.post("/finery/v1/keys", json={"name": "for-the-log"}).raise_for_status()
    page = person.open("/audit")
    page.get_by_role("cell", name="keys.create").first.wait_for()
    button(page, "Check the chain").click()
    page.get_by_text("entries are what was written").wait_for()
    person.shoot("audit")


def test_the_doctor_shows_what_is_missing_first(person: Person, server: Server) -> None:
    with server.http() as http:
        http.post("/finery/v1/providers/Finery.Guard/unregister").raise_for_status()
        page = person.open("/doctor")
        first = page.locator("tbody tr").first
        assert "Finery.Guard" in first.inner_text()
        assert "finery providers register Finery.Guard" in first.inner_text()
        person.shoot("doctor")
        http.post("/finery/v1/providers/Finery.Guard/register").raise_for_status()
    button(page, "Look again").click()
    page.locator("tbody tr").first.get_by_text("Python").wait_for()


def choose(page: Any, label: str, option: str) -> None:
    """Pick from a list."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
