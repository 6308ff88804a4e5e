"""An identity provider's tokens beside keys: whom they let in, to which project, and what everybody else is told."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import app
from finery.control.issuer import Issuer
from finery.settings import Settings
from identity_provider import AUDIENCE, Provider

GROUP = "/subscriptions/any/resourceGroups/default/providers"


class Door:
    """A server that trusts a provider, and its admin."""

    def __init__(self, http: TestClient, admin_key: str, provider: Provider) -> None:
        self.http = http
        self.provider = provider
        self.admin = {"authorization": f"Bearer {admin_key}"}

    def do(self, method: str, path: str, body: Any = None) -> Any:
        """What the admin asks for."""
        answer = self.http.request(method, path, json=body, headers=self.admin)
        assert answer.is_success, answer.text
        return answer.json()

    def know(self, name: str, subject: str, kind: str = "User") -> Any:
        body = {"name": name, "subject": subject, "kind": kind}
        return self.do("POST", "/finery/v1/roles/principals", body)

    def give(self, name: str, role: str, **scope: str) -> str:
        return str(self.do("POST", "/finery/v1/roles/assignments", {"principal": name, "role": role, **scope})["id"])

    def ask(self, token: str, path: str = "/v1/files", project: str | None = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} | ({"openai-project": project} if project else {})
        return self.http.request(more.pop("method", "GET"), path, headers=headers | more.pop("headers", {}), **more)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FastAPI]:
    """A home after its first start, and the application; both are used again, as making them is what takes long."""
    home = tmp_path_factory.mktemp("fresh")
    plane = bootstrap.control_plane(Settings(home=home))
    plane.database.close()
    return home, app.build(plane)


@pytest.fixture
def door(tmp_path: Path, fresh: tuple[Path, FastAPI]) -> Iterator[Door]:
    home, application = fresh
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    provider = Provider()
    plane = bootstrap.control_plane(Settings(home=tmp_path))
    issuer = Issuer(provider.url, AUDIENCE, transport=provider.transport())
    application.state.plane = replace(plane, issuer=issuer)
    yield Door(TestClient(application), (tmp_path / "admin.key").read_text().strip(), provider)
    plane.database.close()


def said(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["message"])


def test_a_role_lets_in_and_taking_it_back_shuts_out_at_once(door: Door) -> None:
    token = door.provider.token("ada-at-work")
    unknown = said(door.ask(token), 403)
    assert "finery principals create NAME --subject ada-at-work" in unknown
    assert "finery roles assign NAME" in unknown
    assert door.ask(token).json()["error"]["code"] == "unknown_subject"
    door.know("ada", "ada-at-work")
    assert "ada has no role in any project" in said(door.ask(token), 403)
    assignment = door.give("ada", "Reader", project="default")
    assert door.ask(token).status_code == 200
    assert "Roles that have it" in said(door.ask(token, "/v1/chat/completions", method="POST", json={}), 403)
    door.do("DELETE", f"/finery/v1/roles/assignments/{assignment}")
    assert "has no role" in said(door.ask(token), 403)
    door.give("ada", "Owner", hub="default")
    assert door.ask(token).status_code == 200
    door.do("DELETE", "/finery/v1/roles/principals/ada")
    assert "nobody here is known" in said(door.ask(token), 403)


def test_a_token_is_taken_wherever_a_key_is(door: Door) -> None:
    door.know("ada", "ada")
    door.give("ada", "Azure AI Developer", project="default")
    token = door.provider.token("ada")
    for path in (
        "/v1/models",
        "/openai/v1/models",
        "/openai/files?api-version=2024-10-21",
        "/finery/v1/deployments",
        "/api/projects/default/deployments?api-version=v1",
        "/api/projects/_project/deployments?api-version=v1",
        f"{GROUP}/Microsoft.CognitiveServices/accounts/default?api-version=2024-10-01",
        f"{GROUP}/Microsoft.MachineLearningServices/workspaces/default?api-version=2024-10-01",
    ):
        assert door.ask(token, path).status_code == 200, path
        for header in ("api-key", "ocp-apim-subscription-key"):
            assert door.http.get(path, headers={header: token}).status_code == 200, (header, path)


def test_errors_are_said_in_the_words_of_each_api(door: Door) -> None:
    late = door.provider.token("ada", exp=1_700_000_000)
    assert door.ask(late).json()["error"]["code"] == "invalid_token"
    assert "expired" in said(door.ask(late), 401)
    azure = door.ask(late, "/openai/files?api-version=2024-10-21")
    assert (azure.status_code, azure.json()["error"]["code"]) == (401, "401")
    arm = door.ask(late, f"{GROUP}/Microsoft.CognitiveServices/accounts/default?api-version=2024-10-01")
    assert (arm.status_code, arm.json()["error"]["code"]) == (401, "AuthenticationFailed")


def test_while_the_provider_is_away_keys_work(door: Door) -> None:
    door.provider.down = httpx.ConnectTimeout("no")
    away = door.ask(door.provider.token("ada"))
    assert "API keys work meanwhile" in said(away, 503)
    assert away.json()["error"]["code"] == "issuer_unavailable"
    assert away.headers["retry-after"]
    assert door.http.get("/v1/files", headers=door.admin).status_code == 200


def test_a_server_that_trusts_nobody_says_so(door: Door, fresh: tuple[Path, FastAPI]) -> None:
    application = fresh[1]
    application.state.plane = replace(application.state.plane, issuer=None)
    assert "FINERY_OIDC_ISSUER" in said(door.ask(door.provider.token("ada")), 401)
    assert door.provider.asked == []


def test_a_token_of_several_projects_has_to_name_one(door: Door) -> None:
    for name in ("alpha", "beta", "gamma"):
        door.do("POST", "/finery/v1/projects", {"name": name})
    door.know("ada", "ada")
    token = door.provider.token("ada")
    door.give("ada", "Contributor", project="alpha")
    assert door.ask(token, "/finery/v1/projects").json()["data"][0]["name"] == "alpha"
    door.give("ada", "Reader", project="beta")
    which = said(door.ask(token), 400)
    assert "alpha, beta" in which
    assert "gamma" not in which
    assert "OpenAI-Project" in which
    door.give("ada", "Reader", hub="default")
    assert "alpha, beta, default, gamma" in said(door.ask(token), 400)
    for project in ("alpha", "beta"):
        assert door.ask(token, project=project).status_code == 200
    # What is allowed is decided by the project that was named, not by another in which more is.
    body = {"name": "k", "role": "Reader"}
    assert door.ask(token, "/finery/v1/keys", "alpha", method="POST", json=body).status_code == 200
    assert door.ask(token, "/finery/v1/keys", "beta", method="POST", json=body).status_code == 403
    absent, foreign = (said(door.ask(token, project=name), 404) for name in ("nothing", "nothing2"))
    assert absent.replace("nothing", "nothing2") == foreign


def test_azures_paths_name_the_project(door: Door) -> None:
    door.do("POST", "/finery/v1/hubs", {"name": "far", "resource_group": "default"})
    for name, hub in (("alpha", "default"), ("beta", "far")):
        door.do("POST", "/finery/v1/projects", {"name": name, "hub": hub})
    door.know("ada", "ada")
    token = door.provider.token("ada")
    for project in ("alpha", "beta"):
        door.give("ada", "Contributor", project=project)
    workspace = f"{GROUP}/Microsoft.MachineLearningServices/workspaces/{{}}?api-version=2024-10-01"
    account = f"{GROUP}/Microsoft.CognitiveServices/accounts/{{}}?api-version=2024-10-01"
    for project, hub in (("alpha", "default"), ("beta", "far")):
        assert door.ask(token, f"/api/projects/{project}/deployments?api-version=v1").status_code == 200
        assert door.ask(token, workspace.format(project)).json()["name"] == project
        found = door.ask(token, account.format(hub)).json()["properties"]
        assert (found["defaultProject"], found["associatedProjects"]) == (project, [project])
    for path in ("/api/projects/default/deployments?api-version=v1", workspace.format("default")):
        assert door.ask(token, path).status_code == 404
    # The header and the path have to mean the same.
    assert door.ask(token, "/api/projects/beta/deployments?api-version=v1", "alpha").status_code == 404
    assert door.ask(token, account.format("far"), "alpha").status_code == 404
    elsewhere = door.ask(token, account.format("nowhere"))
    assert (elsewhere.status_code, "no account 'nowhere' for ada" in elsewhere.text) == (404, True)


def test_two_projects_never_see_each_other(door: Door) -> None:
    tokens = {}
    for name in ("alpha", "beta"):
        door.do("POST", "/finery/v1/projects", {"name": name})
        door.know(f"owner-of-{name}", name)
        door.give(f"owner-of-{name}", "Owner", project=name)
        tokens[name] = door.provider.token(name)
    row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "canary"}]}\n'
    upload = {"data": {"purpose": "fine-tune"}, "files": {"file": ("canary.jsonl", row * 12)}}
    file = door.ask(tokens["alpha"], method="POST", **upload).json()["id"]
    assert [one["id"] for one in door.ask(tokens["alpha"]).json()["data"]] == [file]
    assert door.ask(tokens["beta"]).json()["data"] == []
    assert door.ask(tokens["beta"], f"/v1/files/{file}").status_code == 404
    assert door.ask(tokens["beta"], project="alpha").status_code == 404
    assert [one["name"] for one in door.ask(tokens["beta"], "/finery/v1/projects").json()["data"]] == ["beta"]


def test_the_audit_log_names_the_principal(door: Door) -> None:
    ada = door.know("ada", "ada")
    door.give("ada", "Owner", project="default")
    token = door.provider.token("ada")
    made = door.ask(token, "/finery/v1/keys", method="POST", json={"name": "of-ada"}).json()
    newest = door.do("GET", "/finery/v1/audit?limit=1")["data"][0]
    assert (newest["action"], newest["target"]) == ("keys.create", made["id"])
    assert (newest["principal_id"], newest["key_id"]) == (ada["id"], "")
    assert door.do("GET", "/finery/v1/audit/verify")["valid"]
    log = door.do("GET", "/finery/v1/audit?limit=100")
    assert token not in str(log)


def test_a_service_principal_is_known_by_object_or_application(door: Door) -> None:
    door.know("robot", "app-id", "ServicePrincipal")
    door.know("person", "object-id")
    for name in ("robot", "person"):
        door.give(name, "Reader", project="default")

    def who(**claims: Any) -> str:
        answer = door.ask(door.provider.token("pairwise", **claims), "/v1/chat/completions", method="POST", json={})
        return answer.json()["error"]["code"]

    assert who(azp="app-id", idtyp="app") == "forbidden"
    assert who(appid="app-id", idtyp="app") == "forbidden"
    assert who(oid="object-id") == "forbidden"
    # A person who uses the application isn't the application.
    assert who(azp="app-id") == "unknown_subject"
    # Nor is a person found by an application's id.
    assert who(azp="object-id", idtyp="app") == "unknown_subject"


def test_a_subject_is_that_of_one_issuer(door: Door, fresh: tuple[Path, FastAPI]) -> None:
    assert door.know("ada", "1")["issuer"] == door.provider.url
    door.give("ada", "Reader", project="default")
    assert door.ask(door.provider.token("1")).status_code == 200
    other = Provider("https://other.example")
    application = fresh[1]
    trusting = Issuer(other.url, AUDIENCE, transport=other.transport())
    application.state.plane = replace(application.state.plane, issuer=trusting)
    assert "of https://other.example" in said(door.ask(other.token("1")), 403)
    assert "another issuer" in said(door.ask(other.token("1", iss=door.provider.url)), 401)
    door.know("eve", "1")
    door.give("eve", "Reader", project="default")
    assert door.ask(other.token("1")).status_code == 200
    taken = door.http.post("/finery/v1/roles/principals", json={"name": "eva", "subject": "1"}, headers=door.admin)
    assert taken.status_code == 409


def test_who_was_made_known_before_there_was_a_provider_is_let_in(door: Door, fresh: tuple[Path, FastAPI]) -> None:
    application = fresh[1]
    trusting = application.state.plane
    application.state.plane = replace(trusting, issuer=None)
    assert door.know("ada", "ada")["issuer"] is None
    door.give("ada", "Reader", project="default")
    application.state.plane = trusting
    assert door.ask(door.provider.token("ada")).status_code == 200
    taken = door.http.post("/finery/v1/roles/principals", json={"name": "eve", "subject": "ada"}, headers=door.admin)
    assert taken.status_code == 409


def test_a_subject_is_no_command(door: Door) -> None:
    text = said(door.ask(door.provider.token("x'; rm -rf ~; '")), 403)
    assert """--subject 'x'"'"'; rm -rf ~; '"'"''""" in text


def test_nobody_hands_on_more_than_their_token_gives(door: Door) -> None:
    door.know("ada", "ada")
    door.give("ada", "Contributor", project="default")
    token = door.provider.token("ada")
    for body in ({"name": "k", "role": "Owner"}, {"name": "k", "role": "Reader", "level": "hub"}):
        assert door.ask(token, "/finery/v1/keys", method="POST", json=body).status_code == 403
    own = door.ask(token, "/finery/v1/keys", method="POST", json={"name": "k", "principal": "ada"}).json()
    assert door.ask(own["key"]).status_code == 200
    give = {"principal": "ada", "role": "Owner", "project": "default"}
    assert door.ask(token, "/finery/v1/roles/assignments", method="POST", json=give).status_code == 403


def test_whoever_has_several_projects_can_ask_which_before_naming_one(door: Door) -> None:
    token = door.provider.token("ada")
    door.know("ada", "ada")
    for project in ("one", "two", "three"):
        door.do("POST", "/finery/v1/projects", {"name": project})
    door.give("ada", "Reader", project="one")
    listed = door.ask(token, "/finery/v1/projects").json()["data"]
    assert [(each["name"], each["current"]) for each in listed] == [("one", True)]
    door.give("ada", "Cognitive Services OpenAI User", project="two")
    listed = door.ask(token, "/finery/v1/projects").json()["data"]
    assert [(each["name"], each["current"]) for each in listed] == [("one", False), ("two", False)]
    listed = door.ask(token, "/finery/v1/projects", project="two").json()["data"]
    assert [(each["name"], each["current"]) for each in listed] == [("one", False), ("two", True)]
    assert "no project 'three'" in said(door.ask(token, "/finery/v1/projects", project="three"), 404)
    assert "Which project" in said(door.ask(token, "/finery/v1/projects/one"), 400)
    assert "nobody here is known" in said(door.ask(door.provider.token("eve"), "/finery/v1/projects"), 403)
