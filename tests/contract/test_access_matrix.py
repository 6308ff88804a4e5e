"""Every route × role × project: decided, and nothing of one project shows in another.

The routes come from the application itself, so a new one is in the matrix the moment it exists.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import access, app
from finery.control.issuer import Issuer
from finery.control.plane import ControlPlane, now
from finery.core.models import Checkpoint, TunedModel
from finery.core.records import Kind, Record
from finery.core.roles import HOLDERS, Permission, Role
from finery.settings import Settings
from finery.storage import jobs, models, records
from identity_provider import AUDIENCE, Provider

ROW = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
PLACE = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True, kw_only=True)
class World:
    """Two projects in two hubs; all kinds of things lie in the first."""

    app: FastAPI
    plane: ControlPlane
    client: TestClient
    admin: dict[str, str]
    mine: dict[str, str]
    """Owner of the first project alone."""
    theirs: dict[str, str]
    """Owner of the second project alone."""
    ids: dict[str, str]
    """Path parameter → the id of a thing of the first project."""
    provider: Provider
    """An identity provider whose tokens the server takes."""


def header(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[World]:
    home = tmp_path_factory.mktemp("matrix")
    provider = Provider()
    plane = replace(
        bootstrap.control_plane(Settings(home=home, models=tiny_folder)),
        issuer=Issuer(provider.url, AUDIENCE, transport=provider.transport()),
    )
    built = app.build(plane)
    client = TestClient(built, raise_server_exceptions=False)
    admin = header((home / "admin.key").read_text().strip())
    made = client.post("/finery/v1/hubs", json={"name": "far"}, headers=admin)
    assert made.status_code == 200, made.text
    owners = []
    for project, hub in (("first", "default"), ("second", "far")):
        assert client.post("/finery/v1/projects", json={"name": project, "hub": hub}, headers=admin).is_success
        body = {"name": "owner", "role": "Owner"}
        key = client.post("/finery/v1/keys", json=body, headers=admin | {"openai-project": project}).json()
        owners.append(header(key["key"]))
    ids = furnish(client, plane, admin, owners[0])
    mine, theirs = owners
    with start_blocking_portal() as client.portal:  # By itself the client starts a thread and a loop for each request.
        yield World(
            app=built, plane=plane, client=client, admin=admin, mine=mine, theirs=theirs, ids=ids, provider=provider
        )
    plane.database.close()


def furnish(client: TestClient, plane: ControlPlane, admin: dict[str, str], mine: dict[str, str]) -> dict[str, str]:
    """One of each kind of thing, in the first project."""

    def post(path: str, body: dict[str, Any], headers: dict[str, str] = mine) -> dict[str, Any]:
        answer = client.post(path, json=body, headers=headers)
        assert answer.is_success, (path, answer.text)
        return dict(answer.json())

    upload = {"file": ("canary-rows.jsonl", f"{ROW}\n".encode() * 12)}
    file = client.post("/v1/files", data={"purpose": "fine-tune"}, files=upload, headers=mine).json()
    job = post("/v1/fine_tuning/jobs", {"model": "tiny-phi3", "training_file": file["id"], "suffix": "canary"})
    post("/finery/v1/datasets", {"name": "canary-data", "file_id": file["id"]})
    part = post("/v1/uploads", {"bytes": 3, "filename": "x", "purpose": "user_data", "mime_type": "text/plain"})
    endpoint = {"name": "canary-hook", "url": "http://127.0.0.1:9/x", "event_types": ["batch.completed"]}
    hook = client.post("/v1/webhook_endpoints", json=endpoint, headers=mine).json()
    post("/finery/v1/deployments", {"name": "canary-chat", "model": "tiny-phi3"})
    post(
        "/finery/v1/hubs/default/connections",
        {"name": "canary-search", "category": "CognitiveSearch", "target": "https://search.example/canary"},
        admin,
    )
    principal = post("/finery/v1/roles/principals", {"name": "canary-person"}, admin)
    given = {"principal": "canary-person", "role": "Reader", "project": "first"}
    assignment = post("/finery/v1/roles/assignments", given, admin)
    key = post("/finery/v1/keys", {"name": "canary-key"})
    project = client.get("/finery/v1/projects/first", headers=mine).json()
    model = "ft:tiny-phi3:first:canary:AbCd1234"
    kept = {
        kind: Record(id=f"{kind}_canary", project_id=project["id"], kind=kind, body={}, created_at=now())
        for kind in (Kind.COMPLETION, Kind.RESPONSE, Kind.CONVERSATION, Kind.BATCH)
    }
    permission = Record(
        id="cp_canary",
        project_id=project["id"],
        kind=Kind.PERMISSION,
        owner=model,
        body={"project_id": "proj_nobody"},
        created_at=now(),
    )
    with plane.database.write() as connection:
        tuned = TunedModel(
            name=model,
            project_id=project["id"],
            base_model="tiny-phi3",
            job_id=job["id"],
            step=None,
            manifest={"files": {}},
            created_at=now(),
        )
        models.insert_model(connection, tuned)
        checkpoint = Checkpoint(
            id="ftckpt_canary", job_id=job["id"], step=1, model_name=f"{model}:ckpt-step-1", created_at=now()
        )
        jobs.insert_checkpoint(connection, checkpoint)
        for record in (*kept.values(), permission):
            records.insert_record(connection, record)
    return {
        "file_id": file["id"],
        "job_id": job["id"],
        "fine_tuning_job_id": job["id"],
        "upload_id": part["id"],
        "endpoint_id": hook.get("id", "webhook_canary"),
        "batch_id": kept[Kind.BATCH].id,
        "completion_id": kept[Kind.COMPLETION].id,
        "response_id": kept[Kind.RESPONSE].id,
        "conversation_id": kept[Kind.CONVERSATION].id,
        "key_id": key["id"],
        "assignment_id": assignment["id"],
        "principal_id": principal["id"],
        "model": model,
        "checkpoint": model,
        "permission_id": permission.id,
        "deployments": "canary-chat",
        "datasets": "canary-data",
        "hubs": "default",
        "projects": "first",
        "connection": "canary-search",
    }


def decided(world: World) -> list[tuple[str, str, str]]:
    """Method, path, permission of every route that isn't public."""
    return [
        (method, path, permission)
        for method, path, permission in access.decisions(world.app)
        if permission is not None and path not in access.PUBLIC
    ]


NUMBERS = ("line", "step", "version")

COPIES = ("/openai/v1/", "/api/projects/{project}/openai/v1/")
"""Surfaces with the very routes of `/openai/`, which is asked in their place: the dependencies are the same objects."""


def asked(world: World) -> list[tuple[str, str, str]]:
    """The decided routes that are asked."""
    return [route for route in decided(world) if not route[1].startswith(COPIES)]


def absent(path: str, project: str = "absent") -> str:
    """A path to things that there aren't, in a project that Azure's paths name."""

    def fill(place: re.Match[str]) -> str:
        if place[1] in ("account", "workspace", "project"):
            return project
        return "1" if place[1] in NUMBERS else "absent"

    return PLACE.sub(fill, path)


def test_copies_need_what_the_originals_need(world: World) -> None:
    dated = {(m, p.removeprefix("/openai/")): need for m, p, need in decided(world) if p.startswith("/openai/")}
    copied = 0
    for method, path, permission in decided(world):
        for prefix in COPIES:
            if path.startswith(prefix):
                assert dated[method, path.removeprefix(prefix)] == permission
                copied += 1
    assert copied > 80


def test_all_routes_are_decided_and_the_public_ones_are_pinned(world: World) -> None:
    assert access.undecided(world.app) == []
    assert {"/healthz", "/readyz", "/openapi.json"} == access.PUBLIC
    public = {path for _, path, permission in access.decisions(world.app) if permission is None}
    assert public <= access.PUBLIC
    assert len(decided(world)) > 90


def test_nouns_of_our_own_are_under_our_own_path() -> None:
    paths = {route.path for noun in app.OWN_NOUNS for route in noun.router.routes}
    assert {path for path in paths if not path.startswith("/finery/v1/")} == set()
    assert "/finery/v1/doctor" in paths


def test_an_application_with_an_open_door_is_not_built(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import APIRouter

    router = APIRouter()
    router.add_api_route("/door", lambda: None)
    monkeypatch.setattr(app, "public", router)
    with pytest.raises(RuntimeError, match="GET /door"):
        app.build(world.plane)


@pytest.mark.parametrize("role", [*Role, None], ids=lambda role: str(role).replace(" ", "-"))
def test_a_role_may_what_the_table_says_and_nothing_else(world: World, role: Role | None) -> None:
    headers = {}
    if role is not None:
        body = {"name": "matrix", "role": role, "level": "subscription"}
        headers = header(world.client.post("/finery/v1/keys", json=body, headers=world.admin).json()["key"])
    for method, path, permission in asked(world):
        answer = world.client.request(method, absent(path, "default"), headers=headers)
        told = (method, path, permission, answer.status_code, answer.text)
        assert answer.status_code < 500 or answer.status_code == 501, told
        if permission == access.BySignature.permission:
            assert answer.status_code in (401, 403), told
        elif role is None or permission == access.WORKERS:
            assert answer.status_code == 401, told
        elif role in HOLDERS[Permission(permission)]:
            assert answer.status_code not in (401, 403), told
        else:
            assert answer.status_code == 403, told
            assert permission in answer.text, told


def known(world: World, name: str, role: Role, **scope: str) -> dict[str, str]:
    """The headers of somebody with a token and a role."""
    person = {"name": name, "subject": name}
    assert world.client.post("/finery/v1/roles/principals", json=person, headers=world.admin).is_success
    given = {"principal": name, "role": role, **scope}
    assert world.client.post("/finery/v1/roles/assignments", json=given, headers=world.admin).is_success
    return header(world.provider.token(name))


def test_tokens_that_arent_good_open_nothing(world: World) -> None:
    late, stranger = (header(world.provider.token("x", **claims)) for claims in ({"exp": 1_700_000_000}, {}))
    for method, path, permission in asked(world):
        if permission == access.BySignature.permission:
            continue
        at = absent(path, "default")
        assert world.client.request(method, at, headers=late).status_code == 401, (method, path)
        status = 401 if permission == access.WORKERS else 403
        assert world.client.request(method, at, headers=stranger).status_code == status, (method, path)


@pytest.mark.parametrize("role", [Role.READER, Role.OPENAI_USER, Role.CONTRIBUTOR])
def test_a_role_held_with_a_token_may_what_the_table_says(world: World, role: Role) -> None:
    headers = known(world, f"token-{role.replace(' ', '-')}", role, project="default")
    for method, path, permission in asked(world):
        if permission in (access.BySignature.permission, access.WORKERS):
            continue
        answer = world.client.request(method, absent(path, "default"), headers=headers)
        told = (method, path, permission, answer.status_code, answer.text)
        assert answer.status_code < 500 or answer.status_code == 501, told
        if role not in HOLDERS[Permission(permission)]:
            assert answer.status_code == 403, told
            assert permission in answer.text, told
        else:
            # At the subscription or a hub, a role in a project isn't enough; no route lets it in by mistake.
            assert answer.status_code != 401, told


def test_a_worker_may_only_work(world: World) -> None:
    headers = header((world.plane.settings.home / "worker.key").read_text().strip())
    for method, path, permission in asked(world):
        answer = world.client.request(method, absent(path), headers=headers)
        if permission == access.WORKERS:
            assert answer.status_code != 401, (method, path)
        elif permission == access.BySignature.permission:
            assert answer.status_code in (401, 403), (method, path)
        else:
            assert answer.status_code == 401, (method, path)


def reachable(world: World, path: str) -> str:
    """The path to what lies in the first project."""

    def fill(place: re.Match[str]) -> str:
        if place[1] in ("account", "workspace", "project"):
            return "first"
        if place[1] == "name":
            noun = path.split("/")[3]
            return world.ids.get(noun, world.ids["principal_id"] if "principals" in path else "absent")
        return world.ids.get(place[1], "1" if place[1] in NUMBERS else "absent")

    return PLACE.sub(fill, path)


WHOSE = re.compile(r"canary|AbCd1234")


@pytest.mark.parametrize("known_by", ["key", "token"])
def test_what_is_of_one_project_is_absent_in_another(world: World, known_by: str) -> None:
    theirs = world.theirs if known_by == "key" else known(world, "owner-of-second", Role.OWNER, project="second")
    looked_at = 0
    for method, path, permission in sorted(asked(world)):
        if permission in (access.WORKERS, access.BySignature.permission) or not PLACE.search(path):
            continue
        real, nothing = reachable(world, path), absent(path)
        if real == nothing:
            continue
        answers = [world.client.request(method, at, headers=theirs, json={}) for at in (real, nothing)]
        assert answers[0].status_code == answers[1].status_code, (method, path, answers[0].text, answers[1].text)
        assert answers[0].status_code in (400, 403, 404), (method, path, answers[0].text)
        looked_at += 1
        for word in WHOSE.findall(answers[0].text):
            assert word in real, (method, path, answers[0].text)
    assert looked_at > 45


def test_lists_of_one_project_show_nothing_of_another(world: World) -> None:
    looked_at = shown = 0
    for method, path, permission in asked(world):
        if method != "GET" or PLACE.search(path) or permission == access.WORKERS:
            continue
        theirs = world.client.get(path, headers=world.theirs)
        if path != "/finery/v1/roles/principals":  # Names of people are known wherever roles are.
            assert not WHOSE.search(theirs.text), (path, theirs.text)
        for name in ("file_id", "job_id", "upload_id", "key_id", "assignment_id"):
            assert world.ids[name] not in theirs.text, (path, name)
        mine = world.client.get(path, headers=world.mine)
        shown += bool(WHOSE.search(mine.text))
        looked_at += 1
    assert looked_at > 12
    assert shown >= 6, "the lists would show the things if they were one's own"


def test_a_body_cant_reach_into_another_project(world: World) -> None:
    ids = world.ids
    hello = [{"role": "user", "content": "hello"}]
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/fine_tuning/jobs", {"model": "tiny-phi3", "training_file": ids["file_id"]}),
        ("/v1/fine_tuning/jobs", {"model": ids["model"], "training_file": "file-absent"}),
        ("/v1/chat/completions", {"model": ids["model"], "messages": hello}),
        ("/v1/chat/completions", {"model": ids["deployments"], "messages": hello}),
        ("/v1/completions", {"model": ids["model"], "prompt": "x"}),
        ("/v1/responses", {"model": "tiny-phi3", "input": "x", "previous_response_id": ids["response_id"]}),
        ("/v1/responses", {"model": "tiny-phi3", "input": "x", "conversation": ids["conversation_id"]}),
        ("/v1/responses", {"model": ids["model"], "input": "x"}),
        ("/v1/embeddings", {"model": ids["model"], "input": "x"}),
        ("/v1/tokenize", {"model": ids["model"], "prompt": "x"}),
        ("/v1/batches", {"input_file_id": ids["file_id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}),
        ("/finery/v1/deployments", {"name": "mine", "model": ids["model"]}),
        ("/finery/v1/datasets", {"name": "mine", "file_id": ids["file_id"]}),
        ("/finery/v1/keys", {"name": "mine", "principal": "canary-person"}),
        ("/finery/v1/projects", {"name": "mine", "hub": "default"}),
        ("/finery/v1/roles/assignments", {"principal": "canary-person", "role": "Reader", "project": "first"}),
    ]
    for path, body in bodies:
        answer = world.client.post(path, json=body, headers=world.theirs)
        assert answer.status_code in (400, 403, 404), (path, body, answer.text)
    for project in ("first", world.client.get("/finery/v1/projects/first", headers=world.mine).json()["id"]):
        entered = world.client.get("/v1/files", headers=world.theirs | {"openai-project": project})
        nowhere = world.client.get("/v1/files", headers=world.theirs | {"openai-project": "absent"})
        assert (entered.status_code, nowhere.status_code) == (404, 404)
        assert entered.json()["error"]["message"].replace(project, "absent") == nowhere.json()["error"]["message"]
