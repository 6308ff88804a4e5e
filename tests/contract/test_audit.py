"""Every change has its entry, in the change's own transaction; and a log that was tampered with says where."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import access, app
from finery.control import audit, roles
from finery.control.plane import ControlPlane
from finery.core.access import PrincipalKind
from finery.settings import Settings

PATH = "/finery/v1/audit"
ROWS = b"".join(
    b'{"messages": [{"role": "user", "content": "What is %d?"}, {"role": "assistant", "content": "Number %d."}]}\n'
    % (number, number)
    for number in range(24)
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> ControlPlane:
    return bootstrap.control_plane(Settings(home=tmp_path_factory.mktemp("audit"), models=tiny_folder))


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> TestClient:
    key = (plane.settings.home / "admin.key").read_text().strip()
    return TestClient(app.build(plane), headers={"authorization": f"Bearer {key}"})


def actions(client: TestClient, **query: Any) -> list[str]:
    return [entry["action"] for entry in client.get(PATH, params={"limit": 1000, **query}).json()["data"]]


def test_every_change_has_its_entry_and_no_look_has_one(client: TestClient) -> None:
    made = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", ROWS)}).json()
    job = client.post("/v1/fine_tuning/jobs", json={"model": "tiny-phi3", "training_file": made["id"]}).json()
    hook = {"name": "h", "url": "https://hooks.example/x", "event_types": ["batch.completed"]}
    changes: list[tuple[str, str, Any, str]] = [
        ("POST", f"/v1/fine_tuning/jobs/{job['id']}/cancel", None, "jobs.cancelled"),
        ("POST", "/finery/v1/deployments", {"name": "chat", "model": "tiny-phi3"}, "deployments.create"),
        ("DELETE", "/finery/v1/deployments/chat", None, "deployments.delete"),
        ("POST", "/finery/v1/datasets", {"name": "d", "file_id": made["id"]}, "datasets.add_version"),
        ("POST", f"/finery/v1/files/{made['id']}/split", {"fraction": 0.2}, "files.create"),
        ("DELETE", "/finery/v1/datasets/d", None, "datasets.delete"),
        ("DELETE", f"/v1/files/{made['id']}", None, "files.delete"),
        ("POST", "/finery/v1/keys", {"name": "k", "role": "Reader"}, "keys.create"),
        ("POST", "/finery/v1/hubs", {"name": "lab"}, "hubs.create"),
        ("POST", "/finery/v1/projects", {"name": "p", "hub": "lab"}, "projects.create"),
        ("POST", "/finery/v1/roles/principals", {"name": "ada"}, "principals.create"),
        ("POST", "/finery/v1/roles/assignments", {"principal": "ada", "role": "Reader"}, "roles.assign"),
        ("DELETE", "/finery/v1/roles/principals/ada", None, "principals.delete"),
        ("DELETE", "/finery/v1/projects/p", None, "projects.delete"),
        ("DELETE", "/finery/v1/hubs/lab", None, "hubs.delete"),
        ("POST", "/finery/v1/locations", {"name": "east"}, "locations.create"),
        ("PUT", "/finery/v1/locations/east/models", {"models": []}, "locations.offer"),
        ("DELETE", "/finery/v1/locations/east", None, "locations.delete"),
        ("POST", "/finery/v1/providers/Finery.Guard/unregister", None, "providers.unregister"),
        ("POST", "/finery/v1/providers/Finery.Guard/register", None, "providers.register"),
        ("POST", "/v1/webhook_endpoints", hook, "webhooks.create"),
    ]
    for method, path, body, action in changes:
        before = len(actions(client))
        answer = client.request(method, path, json=body)
        assert answer.is_success, (path, answer.text)
        told = actions(client)
        assert told[0] == action, path
        assert len(told) > before
        refused = client.request(method, f"{path}/absent" if method == "DELETE" else path, json={"nonsense": 1})
        assert refused.is_error or len(actions(client)) > len(told), "a refused change leaves no entry"
    before = len(actions(client))
    for method, path, permission in access.decisions(client.app):  # type: ignore[arg-type]
        if method == "GET" and "{" not in path and permission != access.WORKERS:
            client.get(path)
    assert len(actions(client)) == before
    found = client.get(f"{PATH}/verify").json()
    assert (found["valid"], found["entries"]) == (True, before)
    entry = client.get(PATH, params={"limit": 1}).json()["data"][0]
    assert entry["hash"] == found["head"]
    assert entry["key_id"].startswith("key_")


def test_a_change_that_fails_leaves_no_entry(client: TestClient, plane: ControlPlane, monkeypatch: Any) -> None:
    before = actions(client)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(audit.audit, "append", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        client.post("/finery/v1/roles/principals", json={"name": "ghost"})
    monkeypatch.undo()
    assert actions(client) == before
    assert "ghost" not in client.get("/finery/v1/roles/principals").text
    assert PrincipalKind.USER
    assert [one.name for one in roles.list_principals(plane)].count("ghost") == 0


def test_a_project_sees_its_own_entries(client: TestClient) -> None:
    client.post("/finery/v1/projects", json={"name": "quiet"})
    made = client.post(
        "/finery/v1/keys", json={"name": "a", "role": "Auditor"}, headers={"openai-project": "quiet"}
    ).json()
    auditor = {"authorization": f"Bearer {made['key']}"}
    seen = client.get(PATH, headers=auditor).json()["data"]
    assert [(entry["action"], entry["target"]) for entry in seen] == [("keys.create", made["id"])]
    assert made["key"] not in client.get(PATH).text


@pytest.mark.parametrize(
    ("tamper", "broken"),
    [
        ("UPDATE audit SET action = 'nothing' WHERE number = 3", 3),
        ("UPDATE audit SET created_at = created_at + 1 WHERE number = 2", 2),
        ("DELETE FROM audit WHERE number = 4", 4),
        ("UPDATE audit SET number = 1000000 WHERE number = 2", 2),
        ("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)", None),
    ],
)
def test_tampering_is_found(client: TestClient, plane: ControlPlane, tamper: str, broken: int | None) -> None:
    last = client.get(f"{PATH}/verify").json()["entries"]
    with plane.database.read() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("BEGIN")
        raw.execute(tamper)
        try:
            found = verify_on(plane, connection)
        finally:
            raw.execute("ROLLBACK")
    assert found.broken_at == (broken or last)
    assert client.get(f"{PATH}/verify").json()["valid"]


def verify_on(plane: ControlPlane, connection: Any) -> audit.Verdict:
    """Verify what a connection sees before it takes its changes back."""
    import contextlib
    import dataclasses
    from types import SimpleNamespace

    database: Any = SimpleNamespace(read=lambda: contextlib.nullcontext(connection))
    return audit.verify(dataclasses.replace(plane, database=database))
