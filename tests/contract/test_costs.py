"""Prices, the ledger, estimates, budgets, reports: charged once, never for what failed, never beyond the budget."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import app
from finery.control import budgets, costs, metrics, runs, validation
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.costs import Meter
from finery.core.deployments import DeploymentStatus
from finery.core.errors import Fenced
from finery.core.jobs import Job
from finery.core.traffic import Answered
from finery.settings import Settings
from finery.storage import deployments, jobs, projects

ROW = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})


@dataclasses.dataclass
class Shop:
    """A control plane whose only workers are the tests."""

    plane: ControlPlane
    client: TestClient
    file_id: str = ""

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        answer = self.client.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, (method, path, answer.text)
        return answer.json()

    def job(self, **more: Any) -> Job:
        """A queued job."""
        body = {"model": "tiny-phi3", "training_file": self.file_id, "hyperparameters": {"n_epochs": 4}, **more}
        made = self("POST", "/v1/fine_tuning/jobs", body)
        validation.validate_pending(self.plane)
        return self.look(made["id"])

    def look(self, job_id: str) -> Job:
        with self.plane.database.read() as connection:
            job = jobs.get(connection, self.caller.project.id, job_id)
        assert job is not None
        return job

    @property
    def caller(self) -> Caller:
        with self.plane.database.read() as connection:
            project = projects.find_project(connection, "default")
        assert project is not None
        return Caller(project=project, key_id="")

    def step(self, claim: runs.Claim, step: int, total: int = 100) -> None:
        """A trainer tells of a step."""
        event = {
            "key": f"step:{step}",
            "type": "metrics",
            "level": "info",
            "message": f"step {step}",
            "data": {"step": step, "total_steps": total},
            "created_at": 1,
        }
        runs.record_events(self.plane, claim.job_id, claim.epoch, [event])

    def spent(self, **query: str) -> dict[str, float]:
        """Amounts by meter."""
        found = self.client.get("/finery/v1/costs", params={"group_by": "meter", **query}).json()
        return {line["meter"]: line["amount"] for line in found["data"]}


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    plane = bootstrap.control_plane(Settings(home=tmp_path_factory.mktemp("application")))
    plane.database.close()
    return app.build(plane)


@pytest.fixture
def shop(tmp_path: Path, tiny_folder: Path, application: FastAPI) -> Iterator[Shop]:
    plane = bootstrap.control_plane(Settings(home=tmp_path, models=tiny_folder))
    application.state.plane = plane
    key = (tmp_path / "admin.key").read_text().strip()
    client = TestClient(application, headers={"authorization": f"Bearer {key}"})
    made = Shop(plane, client)
    price = {"training": 1000.0, "hosting": 3.6, "input": 100.0, "output": 200.0}
    made("PUT", "/finery/v1/prices/tiny-phi3", price)
    upload = {"file": ("rows.jsonl", f"{ROW}\n".encode() * 12)}
    made.file_id = client.post("/v1/files", data={"purpose": "fine-tune"}, files=upload).json()["id"]
    yield made
    plane.database.close()


def total_tokens(job: Job) -> int:
    return int(job.data["training"]["tokens"]) * int(job.resolved["n_epochs"])


def test_training_is_charged_step_by_step_and_once(shop: Shop) -> None:
    estimate = shop(
        "POST",
        "/finery/v1/costs/estimate",
        {"model": "tiny-phi3", "training_file": shop.file_id, "hyperparameters": {"n_epochs": 4}},
    )
    job = shop.job()
    assert shop.spent() == {}
    claim = runs.claim(shop.plane, "w1")
    assert claim is not None
    whole = total_tokens(job) * 1000 / 10**6
    assert estimate["amount"] == pytest.approx(whole)
    shop.step(claim, 50)
    half = shop.spent()["training"]
    assert half == pytest.approx(whole / 2, rel=0.05)
    # The worker dies, another redoes steps it had told of: nothing is charged twice, and the dead one can't charge.
    with shop.plane.database.write() as connection:
        jobs.set_values(connection, job.id, lease_until=0.0)
    again = runs.claim(shop.plane, "w2")
    assert again is not None
    shop.step(again, 30)
    shop.step(again, 50)
    assert shop.spent()["training"] == half
    with pytest.raises(Fenced):
        shop.step(claim, 90)
    assert shop.spent()["training"] == half
    with shop.plane.database.write() as connection:
        costs.charge_training(connection, shop.look(job.id), total_tokens(job))
        costs.charge_training(connection, shop.look(job.id), total_tokens(job))
    assert shop.spent()["training"] == pytest.approx(whole)


def test_what_fails_costs_nothing(shop: Shop) -> None:
    shop.job()
    claim = runs.claim(shop.plane, "w")
    assert claim is not None
    shop.step(claim, 80)
    assert shop.spent()["training"] > 0
    runs.fail(shop.plane, claim.job_id, claim.epoch, code="unsafe_model", text="The safety gate refused it.")
    assert shop.spent() == {"training": 0.0}
    lone = json.dumps({"messages": [{"role": "user", "content": "x " * 9000}, {"role": "assistant", "content": "b"}]})
    upload = {"file": ("rows.jsonl", f"{lone}\n".encode() * 12)}
    shop.file_id = shop.client.post("/v1/files", data={"purpose": "fine-tune"}, files=upload).json()["id"]
    assert shop.job().status == "failed"
    assert shop.spent() == {"training": 0.0}


def test_a_cancelled_job_costs_what_it_did(shop: Shop) -> None:
    job = shop.job()
    claim = runs.claim(shop.plane, "w")
    assert claim is not None
    shop.step(claim, 25)
    before = shop.spent()
    shop("POST", f"/v1/fine_tuning/jobs/{job.id}/cancel")
    assert shop.spent() == before
    assert before["training"] > 0


def test_answers_and_hosting_are_charged(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop("POST", "/finery/v1/deployments", {"name": "desk", "model": "tiny-phi3"})
    with shop.plane.database.write() as connection:
        [deployment] = deployments.list_in(connection, DeploymentStatus.CREATING)
        deployments.change(connection, deployment, status=DeploymentStatus.SUCCEEDED)
    costs.charge_all_hosting(shop.plane)
    for _ in range(3):
        answered = Answered(
            project_id=shop.caller.project.id,
            name="desk",
            outcome="stop",
            prompt_tokens=1000,
            cached_tokens=0,
            completion_tokens=500,
            first_token_seconds=0.1,
            total_seconds=0.2,
        )
        shop.plane.traffic.record(answered)
        metrics.save(shop.plane)
    metrics.save(shop.plane)
    later = costs.now() + 1000
    monkeypatch.setattr(costs, "now", lambda: later)
    costs.charge_all_hosting(shop.plane)
    costs.charge_all_hosting(shop.plane)
    spent = shop.spent()
    assert spent["input"] == pytest.approx(3000 * 100 / 10**6)
    assert spent["output"] == pytest.approx(1500 * 200 / 10**6)
    assert spent["hosting"] == pytest.approx(3.6 * 1000 / 3600, abs=0.01)
    monkeypatch.setattr(costs, "now", lambda: later + 1000)
    shop("DELETE", "/finery/v1/deployments/desk")
    assert shop.spent()["hosting"] == pytest.approx(3.6 * 2000 / 3600, abs=0.01)


def test_a_budget_warns_then_pauses_and_begins_nothing_new(shop: Shop) -> None:
    job, waiting = shop.job(), shop.job()
    whole = total_tokens(job) * 1000 / 10**6
    limit = round(whole / 2, 3)
    shop("PUT", "/finery/v1/budget", {"limit": limit, "period": "total", "warn_at": 0.5})
    claim = runs.claim(shop.plane, "w")
    assert claim is not None
    shop.step(claim, 10)
    assert shop("GET", "/finery/v1/budget")["state"] == "ok"
    shop.step(claim, 30)
    assert shop("GET", "/finery/v1/budget")["state"] == "warned"
    assert runs.heartbeat(shop.plane, claim.job_id, claim.epoch) == "continue"
    shop.step(claim, 55)
    assert shop("GET", "/finery/v1/budget")["state"] == "exhausted"
    assert runs.heartbeat(shop.plane, claim.job_id, claim.epoch) == "pause"
    runs.give_back(shop.plane, claim.job_id, claim.epoch)
    assert {shop.look(job.id).status, shop.look(waiting.id).status} == {"paused"}
    said = " ".join(event["message"] for event in shop("GET", f"/v1/fine_tuning/jobs/{job.id}/events")["data"])
    assert "will soon be used up" in said
    assert "used up" in said
    assert runs.claim(shop.plane, "w") is None
    hello = {"model": "tiny-phi3", "messages": [{"role": "user", "content": "x"}]}
    for path, body in (
        ("/v1/fine_tuning/jobs", {"model": "tiny-phi3", "training_file": shop.file_id}),
        (f"/v1/fine_tuning/jobs/{job.id}/resume", None),
        ("/v1/chat/completions", hello),
        ("/finery/v1/deployments", {"name": "d", "model": "tiny-phi3"}),
    ):
        assert shop("POST", path, body, 429)["error"]["code"] == "insufficient_quota"
    told = [entry["action"] for entry in shop("GET", "/finery/v1/audit")["data"]]
    assert {"budgets.set", "budgets.warned", "budgets.exhausted"} <= set(told)
    shop("PUT", "/finery/v1/budget", {"limit": 1000})
    assert shop("POST", f"/v1/fine_tuning/jobs/{job.id}/resume")["status"] == "queued"


@pytest.mark.parametrize("limit", [-1, 0, 1e9, "NaN", "Infinity", 0.0001, None, [1], "x" * 10_000])
def test_budgets_that_cant_be_are_refused(shop: Shop, limit: Any) -> None:
    shop("PUT", "/finery/v1/budget", {"limit": limit}, 400)
    shop("GET", "/finery/v1/budget", status=404)


@pytest.mark.parametrize(
    "body", [{"training": -1}, {"input": 1e300}, {"output": "NaN"}, {"energy": 1}, {"hosting": 0.00001}], ids=str
)
def test_prices_that_cant_be_are_refused(shop: Shop, body: dict[str, Any]) -> None:
    before = shop("GET", "/finery/v1/prices")
    shop("PUT", "/finery/v1/prices/tiny-phi3", body, 400)
    assert shop("GET", "/finery/v1/prices") == before


def test_prices_hold_from_now_on(shop: Shop) -> None:
    shop.job()
    claim = runs.claim(shop.plane, "w")
    assert claim is not None
    shop.step(claim, 50)
    half = shop.spent()["training"]
    shop("PUT", "/finery/v1/prices/tiny-phi3", {"training": 0})
    shop.step(claim, 100)
    assert shop.spent()["training"] == half
    shop("DELETE", "/finery/v1/prices/tiny-phi3")
    shop("DELETE", "/finery/v1/prices/tiny-phi3", status=404)
    shop("PUT", "/finery/v1/prices/*", {"training": 5})
    owner = shop("POST", "/finery/v1/keys", {"name": "o", "role": "Owner"})
    mine = {"authorization": f"Bearer {owner['key']}"}
    shop("PUT", "/finery/v1/prices/*", {"training": 0}, 403, **mine)


def test_reports_are_safe_in_a_spreadsheet(shop: Shop) -> None:
    with shop.plane.database.write() as connection:
        for name in ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", 'a,"b"\nc'):
            costs._charge(connection, shop.caller.project.id, Meter.INPUT, name, "tiny-phi3", 10**6, costs.now())
    text = shop.client.get("/finery/v1/costs", params={"group_by": "source,model", "format": "csv"}).text
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["source", "model", "quantity", "amount", "currency"]
    assert len(rows) == 7
    for row in rows[1:]:
        assert row[0].lstrip()[:1] not in ("=", "+", "-", "@", "\t")
        assert float(row[3]) == 100.0
    shop("GET", "/finery/v1/costs?group_by=password", status=400)
    shop("GET", "/finery/v1/costs?since=yesterday", status=400)


def test_nobody_reads_anothers_costs(shop: Shop) -> None:
    with shop.plane.database.write() as connection:
        costs._charge(connection, shop.caller.project.id, Meter.INPUT, "canary", "tiny-phi3", 10**6, costs.now())
    shop("POST", "/finery/v1/projects", {"name": "other"})
    made = shop.client.post(
        "/finery/v1/keys", json={"name": "k", "role": "Owner"}, headers={"openai-project": "other"}
    ).json()
    theirs = {"authorization": f"Bearer {made['key']}"}
    assert shop("GET", "/finery/v1/costs?group_by=source,project", **theirs)["data"] == []
    assert shop("GET", "/finery/v1/costs?group_by=source,project")["data"][0]["amount"] == 100.0


def test_enforcing_twice_says_it_once(shop: Shop) -> None:
    job = shop.job()
    shop("PUT", "/finery/v1/budget", {"limit": 1.0, "period": "total"})
    with shop.plane.database.write() as connection:
        costs._charge(connection, job.project_id, Meter.INPUT, "x", "tiny-phi3", 10**5, costs.now())
    for _ in range(3):
        budgets.enforce_all(shop.plane)
    events = shop("GET", f"/v1/fine_tuning/jobs/{job.id}/events")["data"]
    assert sum("used up" in event["message"] for event in events) == 1
