"""Keys, roles, hubs, projects, locations, providers: what holds, and what is refused."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import app
from finery.control import access
from finery.settings import Settings


class Client:
    """Requests of one key, perhaps about a project it names."""

    def __init__(self, http: TestClient, secret: str, project: str | None = None) -> None:
        self.http = http
        self.headers = {"authorization": f"Bearer {secret}"} | ({"openai-project": project} if project else {})

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer: httpx.Response = self.http.request(method, path, json=body, headers=self.headers)
        assert answer.status_code == status, (method, path, body, answer.text)
        return answer.json()

    def key(self, status: int = 200, **body: Any) -> Any:
        made = self("POST", "/finery/v1/keys", {"name": "k", **body}, status)
        return Client(self.http, made["key"]) if status == 200 else made["error"]


@pytest.fixture(scope="module")
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after its first start; copied, because making one takes longer than most tests."""
    home = tmp_path_factory.mktemp("fresh")
    bootstrap.control_plane(Settings(home=home)).database.close()
    return home


@pytest.fixture(scope="module")
def application(fresh_home: Path) -> FastAPI:
    plane = bootstrap.control_plane(Settings(home=fresh_home))
    plane.database.close()
    return app.build(plane)


@pytest.fixture
def admin(tmp_path: Path, fresh_home: Path, tiny_folder: Path, application: FastAPI) -> Iterator[Client]:
    shutil.copytree(fresh_home, tmp_path, dirs_exist_ok=True)
    plane = bootstrap.control_plane(Settings(home=tmp_path, models=tiny_folder))
    application.state.plane = plane
    yield Client(TestClient(application), (tmp_path / "admin.key").read_text().strip())
    plane.database.close()


def test_the_first_start_makes_a_subscription_a_hub_a_project_and_registers_providers(admin: Client) -> None:
    [subscription] = admin("GET", "/finery/v1/subscriptions")["data"]
    [hub] = admin("GET", "/finery/v1/hubs")["data"]
    [project] = admin("GET", "/finery/v1/projects")["data"]
    assert (hub["name"], hub["location"], hub["subscription_id"]) == ("default", "local", subscription["id"])
    assert (project["name"], project["hub_id"], project["current"]) == ("default", hub["id"], True)
    providers = admin("GET", "/finery/v1/providers")["data"]
    assert {one["registration_state"] for one in providers} == {"Registered"}
    assert len(providers) == 4
    [key] = admin("GET", "/finery/v1/keys")["data"]
    assert (key["role"], key["level"]) == ("Owner", "subscription")


def test_nobody_hands_on_more_than_they_have(admin: Client) -> None:
    contributor = admin.key(role="Contributor")
    assert contributor.key(403, role="Owner")["code"] == "forbidden"
    contributor.key(role="Reader")
    contributor.key(403, role="Reader", level="hub")
    owner = admin.key(role="Owner")
    owner.key(role="Owner")
    owner.key(403, role="Owner", level="subscription")
    narrowed = admin.key(role="Owner", permissions=["keys.write", "files.read"])
    narrowed.key(403, role="Reader")
    narrowed.key(role="Reader", permissions=["files.read"])
    nothing = admin.key(role="Owner", permissions=[])
    nothing("GET", "/v1/files", status=403)
    developer = admin.key()
    developer("GET", "/v1/files")
    assert developer.key(403, role="Reader")["code"] == "forbidden"


@pytest.mark.parametrize(
    "body",
    [
        {"project_id": "proj_other"},
        {"role": "God"},
        {"role": ["Owner"]},
        {"level": "world"},
        {"permissions": ["everything"]},
        {"expires_in": -1},
        {"expires_in": 0},
        {"name": "../k"},
        {"name": "a\x00b"},
        {"principal": "nobody"},
        {"digest": "0" * 64},
    ],
    ids=str,
)
def test_a_key_that_cant_be_is_refused_and_not_made(admin: Client, body: dict[str, Any]) -> None:
    assert admin.key(400, **body)["message"]
    assert len(admin("GET", "/finery/v1/keys")["data"]) == 1


def test_a_key_ends_when_revoked_expired_or_rotated_away(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = admin("POST", "/finery/v1/keys", {"name": "k"})
    old = Client(admin.http, made["key"])
    new = admin("POST", f"/finery/v1/keys/{made['id']}/rotate", {"keep_old_for": 3600})
    assert new["rotated_from"] == made["id"]
    both = [old, Client(admin.http, new["key"])]
    for client in both:
        client("GET", "/v1/files")
    admin("POST", f"/finery/v1/keys/{made['id']}/rotate", status=409)
    third = admin("POST", f"/finery/v1/keys/{new['id']}/rotate", {"keep_old_for": 0})
    both[1]("GET", "/v1/files", status=401)
    admin("DELETE", f"/finery/v1/keys/{made['id']}")
    old("GET", "/v1/files", status=401)
    brief = admin.key(expires_in=3600)
    brief("GET", "/v1/files")
    monkeypatch.setattr(access, "now", lambda: int(time.time()) + 3601)
    brief("GET", "/v1/files", status=401)
    Client(admin.http, third["key"])("GET", "/v1/files")


def test_a_key_that_may_more_is_neither_rotated_nor_revoked(admin: Client) -> None:
    [first] = admin("GET", "/finery/v1/keys")["data"]
    for role in ("Contributor", "Owner"):
        lesser = admin.key(role=role)
        lesser("POST", f"/finery/v1/keys/{first['id']}/rotate", status=403)
        lesser("DELETE", f"/finery/v1/keys/{first['id']}", status=403)


@pytest.mark.parametrize(
    "token",
    ["", "Bearer", "Bearer ", "Basic eA==", "Bearer sk-finery-", "Bearer " + "ä" * 50, "Bearer " + "x" * 20_000],
    ids=lambda token: token[:20],
)
def test_garbled_tokens_are_refused(admin: Client, token: str) -> None:
    answer = admin.http.get("/v1/files", headers=[(b"authorization", token.encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_principal_may_what_it_was_given_and_loses_it_at_once(admin: Client) -> None:
    admin("POST", "/finery/v1/projects", {"name": "alpha"})
    person = admin("POST", "/finery/v1/roles/principals", {"name": "ada", "kind": "User"})
    ada = admin.key(principal="ada")
    ada("GET", "/v1/files", status=403)
    give = {"principal": "ada", "role": "Azure AI Developer", "project": "alpha"}
    assignment = admin("POST", "/finery/v1/roles/assignments", give)
    admin("POST", "/finery/v1/roles/assignments", give, status=409)
    in_alpha = Client(admin.http, ada.headers["authorization"].removeprefix("Bearer "), "alpha")
    in_alpha("GET", "/v1/files")
    in_alpha("GET", "/finery/v1/keys", status=403)
    ada("GET", "/v1/files", status=403)
    assert [project["name"] for project in ada("GET", "/finery/v1/projects")["data"]] == ["alpha"]
    admin("DELETE", f"/finery/v1/roles/assignments/{assignment['id']}")
    in_alpha("GET", "/v1/files", status=404)
    admin("POST", "/finery/v1/roles/assignments", {"principal": person["id"], "role": "Owner", "hub": "default"})
    in_alpha("GET", "/finery/v1/keys")
    admin("DELETE", "/finery/v1/roles/principals/ada")
    in_alpha("GET", "/v1/files", status=401)


def test_roles_are_given_by_owners_of_the_place_alone(admin: Client) -> None:
    admin("POST", "/finery/v1/roles/principals", {"name": "eve", "kind": "ServicePrincipal"})
    here = {"principal": "eve", "role": "Reader", "project": "default"}
    admin.key(role="Contributor")("POST", "/finery/v1/roles/assignments", here, status=403)
    owner = admin.key(role="Owner")
    owner("POST", "/finery/v1/roles/assignments", here | {"role": "Owner"})
    owner("POST", "/finery/v1/roles/assignments", {"principal": "eve", "role": "Reader"}, status=403)
    owner("POST", "/finery/v1/roles/assignments", {"principal": "eve", "role": "Reader", "hub": "default"}, status=403)
    admin("POST", "/finery/v1/roles/assignments", here | {"role": "King"}, status=400)
    admin("POST", "/finery/v1/roles/assignments", here | {"hub": "default"}, status=400)


@pytest.mark.parametrize("name", ["", "../a", "a/b", "a\nb", "a\x00", "-a", "a" * 65, "proj_abc", "hub_x", "ä", "a b"])
def test_names_with_path_parts_or_control_characters_are_refused(admin: Client, name: str) -> None:
    assert name != "default"
    for path, more in (
        ("projects", {}),
        ("hubs", {}),
        ("locations", {}),
        ("roles/principals", {}),
        ("hubs/default/connections", {"category": "AIServices", "target": "https://a.example"}),
    ):
        refused = admin("POST", f"/finery/v1/{path}", {"name": name, **more}, 400)
        assert refused["error"]["param"] == "name"


def test_hubs_and_projects_come_and_go(admin: Client) -> None:
    admin("POST", "/finery/v1/hubs", {"name": "lab", "resource_group": "rg.(1)", "location": "local"})
    admin("POST", "/finery/v1/hubs", {"name": "lab"}, 409)
    admin("POST", "/finery/v1/hubs", {"name": "moon", "location": "moon"}, 400)
    admin("POST", "/finery/v1/hubs", {"name": "bad", "resource_group": "a/b"}, 400)
    project = admin("POST", "/finery/v1/projects", {"name": "alpha", "hub": "lab"})
    admin("POST", "/finery/v1/projects", {"name": "alpha"}, 409)
    assert admin("DELETE", "/finery/v1/hubs/lab", status=409)["error"]["message"].count("alpha")
    alpha = Client(admin.http, admin.headers["authorization"].removeprefix("Bearer "), "alpha")
    alpha("POST", "/finery/v1/deployments", {"name": "chat", "model": "tiny-phi3"})
    assert "1 deployments" in admin("DELETE", "/finery/v1/projects/alpha", status=409)["error"]["message"]
    alpha("DELETE", "/finery/v1/deployments/chat")
    admin("DELETE", f"/finery/v1/projects/{project['id']}")
    admin("GET", "/finery/v1/projects/alpha", status=404)
    admin("DELETE", "/finery/v1/hubs/lab")
    admin("DELETE", "/finery/v1/hubs/default", status=409)
    admin("DELETE", "/finery/v1/projects/default", status=409)


def test_connections_hold_no_secret(admin: Client) -> None:
    path, good = "/finery/v1/hubs/default/connections", {"name": "search", "category": "CognitiveSearch"}
    for target in ("ftp://a.example", "https://u:p@a.example", "https://", "javascript:alert(1)", "http://[x"):
        admin("POST", path, good | {"target": target}, 400)
    admin("POST", path, good | {"target": "https://a.example", "key": "secret"}, 400)
    admin("POST", path, good | {"target": "https://a.example"})
    admin("POST", path, good | {"target": "https://a.example"}, 409)
    assert [one["name"] for one in admin("GET", path)["data"]] == ["search"]
    admin("DELETE", f"{path}/search")
    admin("DELETE", f"{path}/search", status=404)


ROWS = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 12


def upload(client: Client, status: int = 200) -> Any:
    answer = client.http.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", ROWS)}, headers=client.headers
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_model_is_tuned_only_where_it_is_offered(admin: Client) -> None:
    file = upload(admin)
    admin("POST", "/finery/v1/locations", {"name": "eastus2", "display_name": "East US 2"})
    admin("PUT", "/finery/v1/locations/local/models", {"models": ["smollm2-135m-instruct"]})
    job = {"model": "tiny-phi3", "training_file": file["id"]}
    refused = admin("POST", "/v1/fine_tuning/jobs", job, 400)["error"]
    assert refused["code"] == "model_not_offered_in_location"
    assert "eastus2 (East US 2)" in refused["message"]
    assert "tiny-phi3" in refused["message"]
    admin("POST", "/finery/v1/hubs", {"name": "east", "location": "eastus2"})
    admin("POST", "/finery/v1/projects", {"name": "phi", "hub": "east"})
    there = Client(admin.http, admin.headers["authorization"].removeprefix("Bearer "), "phi")
    there("POST", "/v1/fine_tuning/jobs", job | {"training_file": upload(there)["id"]})
    admin("PUT", "/finery/v1/locations/eastus2/models", {"models": []})
    assert "No location" in admin("POST", "/v1/fine_tuning/jobs", job, 400)["error"]["message"]
    admin("DELETE", "/finery/v1/locations/eastus2", status=409)
    admin("DELETE", "/finery/v1/locations/local", status=409)


def test_a_provider_is_registered_before_use(admin: Client) -> None:
    file = upload(admin)

    def state(namespace: str, verb: str) -> str:
        return str(admin("POST", f"/finery/v1/providers/{namespace}/{verb}")["registration_state"])

    assert state("Finery.Compute", "unregister") == "NotRegistered"
    job = {"model": "tiny-phi3", "training_file": file["id"]}
    refused = admin("POST", "/v1/fine_tuning/jobs", job, 409)["error"]
    assert refused["code"] == "MissingSubscriptionRegistration"
    assert "finery providers register Finery.Compute" in refused["message"]
    assert state("finery.compute", "register") == "Registered"
    admin("POST", "/v1/fine_tuning/jobs", job)
    state("Finery.Storage", "unregister")
    upload(admin, 409)
    state("Finery.Inference", "unregister")
    admin("POST", "/finery/v1/deployments", {"name": "chat", "model": "tiny-phi3"}, 409)
    hello = {"model": "tiny-phi3", "messages": [{"role": "user", "content": "x"}]}
    admin("POST", "/v1/chat/completions", hello, 409)
    admin("GET", "/finery/v1/providers/Microsoft.Network", status=404)
