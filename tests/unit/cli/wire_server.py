"""A small real server that speaks the wire the client needs, in memory. Files are checked by the real preflight."""

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from finery.data import preflight

KEY = "sk-finery-test"


@dataclass
class State:
    """What the server remembers and how it shall behave."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By job, oldest first."""
    unfolding: list[list[dict[str, Any]]] = field(default_factory=list)
    """Each look at a job lets the next batch of events happen; with the last one the job ends."""
    ending: dict[str, Any] = field(default_factory=lambda: {"status": "succeeded", "fine_tuned_model": "ft:m:p:s:1"})
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    people: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Principals by name, role assignments by id."""
    answer: list[dict[str, Any]] = field(default_factory=list)
    """Chunks of the next streamed chat."""
    break_off: int = 0
    """So many of the next answers break off in their middle."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and raw path of each request, as sent."""
    bodies: list[dict[str, Any]] = field(default_factory=list)


def job(job_id: str, **fields: Any) -> dict[str, Any]:
    """A job as it is right after its creation."""
    return {
        "id": job_id,
        "object": "fine_tuning.job",
        "created_at": 1_700_000_000,
        "finished_at": None,
        "status": "queued",
        "model": "m",
        "fine_tuned_model": None,
        "training_file": "file-1",
        "validation_file": None,
        "result_files": [],
        "trained_tokens": None,
        "error": None,
        "seed": 1,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
        "metadata": None,
        **fields,
    }


def message(number: int, text: str, level: str = "info") -> dict[str, Any]:
    """An event for people."""
    return {"id": f"ftevent-{number}", "created_at": 1_700_000_000 + number, "level": level, "message": text} | {
        "type": "message",
        "data": {},
    }


def metrics(number: int, step: int, total_steps: int, loss: float) -> dict[str, Any]:
    """An event of one step."""
    data = {"step": step, "total_steps": total_steps, "train_loss": loss}
    return message(number, f"Step {step}/{total_steps}: training loss={loss}") | {"type": "metrics", "data": data}


def error(status: int, code: str, text: str, param: str | None = None) -> JSONResponse:
    """The error envelope."""
    inner = {"message": text, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": inner}, status_code=status)


class WireServer:
    """The routes over a State that a test may change at any time."""

    def __init__(self) -> None:
        self.state = State()
        self.url = ""

    def app(self) -> Any:
        """The application, behind a door that checks keys and may break answers off."""
        routes = [
            Route("/v1/files", self.files, methods=["GET", "POST"]),
            Route("/v1/files/{file}", self.file, methods=["GET", "DELETE"]),
            Route("/v1/files/{file}/content", self.content),
            Route("/finery/v1/files/{file}/report", self.report),
            Route("/v1/fine_tuning/jobs", self.jobs, methods=["GET", "POST"]),
            Route("/v1/fine_tuning/jobs/{job}", self.job),
            Route("/v1/fine_tuning/jobs/{job}/events", self.events),
            Route("/v1/fine_tuning/jobs/{job}/checkpoints", self.list_checkpoints),
            Route("/v1/fine_tuning/jobs/{job}/{verb}", self.move, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{model:path}", self.model, methods=["GET", "DELETE"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/finery/v1/deployments", self.list_deployments, methods=["GET", "POST"]),
            Route("/finery/v1/deployments/{name}", self.deployment, methods=["GET", "PATCH", "DELETE"]),
            Route("/finery/v1/providers", self.list_providers),
            Route("/finery/v1/roles/{noun}", self.people, methods=["GET", "POST"]),
            Route("/finery/v1/roles/{noun}/{name}", self.forget, methods=["DELETE"]),
            Route("/finery/v1/keys", self.list_keys, methods=["GET", "POST"]),
            Route("/finery/v1/keys/{key}", self.key, methods=["DELETE"]),
            Route("/html", lambda _: HTMLResponse("<h1>Bad gateway</h1>", status_code=502)),
        ]
        inner = Starlette(routes=routes)

        async def door(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return
            state = self.state
            state.requests.append((scope["method"], scope["raw_path"].decode()))
            if state.break_off:
                state.break_off -= 1
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
                await send({"type": "http.response.body", "body": b"{", "more_body": False})
                return
            if dict(scope["headers"]).get(b"authorization") != f"Bearer {KEY}".encode():
                await error(401, "invalid_api_key", "The API key isn't one of this server's.")(scope, receive, send)
                return
            await inner(scope, receive, send)

        return door

    async def files(self, request: Request) -> Response:
        state = self.state
        if request.method == "GET":
            wanted = request.query_params.get("purpose")
            return _page(request, [f for f in state.files.values() if wanted in {None, f["purpose"]}])
        form = await request.form()
        upload, purpose = form["file"], form["purpose"]
        content = await upload.read()  # type: ignore[union-attr]
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(content)
            copy.flush()
            report = preflight.check(Path(copy.name), str(purpose))
        file = {
            "id": f"file-{len(state.files) + 1}",
            "filename": upload.filename,  # type: ignore[union-attr]
            "purpose": purpose,
            "bytes": len(content),
            "created_at": int(time.time()),
            "status": "processed" if report.ok else "error",
            "status_details": None if report.ok else report.summary,
        }
        state.files[file["id"]] = file
        state.contents[file["id"]] = content
        state.reports[file["id"]] = report.to_json()
        return JSONResponse(file)

    async def file(self, request: Request) -> Response:
        name = request.path_params["file"]
        if name not in self.state.files:
            return error(404, "not_found", f"No such file: {name}")
        if request.method == "DELETE":
            del self.state.files[name]
            return JSONResponse({"id": name, "deleted": True})
        return JSONResponse(self.state.files[name])

    async def content(self, request: Request) -> Response:
        name = request.path_params["file"]
        if name not in self.state.contents:
            return error(404, "not_found", f"No such file: {name}")
        content = self.state.contents[name]
        pieces = (content[start : start + 50_000] for start in range(0, len(content), 50_000))
        return StreamingResponse(pieces, media_type="application/octet-stream")

    async def report(self, request: Request) -> Response:
        name = request.path_params["file"]
        if name not in self.state.reports:
            return error(404, "not_found", f"No such file: {name}")
        return JSONResponse(self.state.reports[name])

    async def jobs(self, request: Request) -> Response:
        state = self.state
        if request.method == "GET":
            return _page(request, list(state.jobs.values()))
        body = await request.json()
        state.bodies.append(body)
        if body["model"] == "unknown":
            return error(404, "model_not_found", "The model 'unknown' does not exist.", "model")
        made = job(f"ftjob-{len(state.jobs) + 1}", model=body["model"], metadata=body.get("metadata"))
        state.jobs[made["id"]] = made
        return JSONResponse(made)

    async def job(self, request: Request) -> Response:
        state, name = self.state, request.path_params["job"]
        if name not in state.jobs:
            return error(404, "not_found", f"Could not find fine tune: {name}")
        if state.unfolding:
            state.events.setdefault(name, []).extend(state.unfolding.pop(0))
            state.jobs[name]["status"] = "running"
            if not state.unfolding:
                state.jobs[name] |= {"finished_at": 1_700_000_090, "trained_tokens": 12345, **state.ending}
        return JSONResponse(state.jobs[name])

    async def move(self, request: Request) -> Response:
        states = {"cancel": "cancelled", "pause": "pausing", "resume": "queued"}
        moved = self.state.jobs[request.path_params["job"]]
        moved["status"] = states[request.path_params["verb"]]
        return JSONResponse(moved)

    async def events(self, request: Request) -> Response:
        return _page(request, self.state.events.get(request.path_params["job"], []))

    async def list_checkpoints(self, request: Request) -> Response:
        return _page(request, self.state.checkpoints)

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self.state.models})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        found = [model for model in self.state.models if model["id"] == name]
        if not found:
            return error(404, "model_not_found", f"The model '{name}' does not exist.")
        if request.method == "DELETE":
            self.state.models.remove(found[0])
            return JSONResponse({"id": name, "deleted": True})
        return JSONResponse(found[0])

    async def chat(self, request: Request) -> Response:
        self.state.bodies.append(await request.json())
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in self.state.answer]
        return StreamingResponse(iter([*lines, "data: [DONE]\n\n"]), media_type="text/event-stream")

    async def list_deployments(self, request: Request) -> Response:
        state = self.state
        if request.method == "GET":
            return JSONResponse({"object": "list", "data": list(state.deployments.values())})
        body = await request.json()
        if body["name"] in state.deployments:
            return error(409, "conflict", f"There is a deployment {body['name']!r} already.", "name")
        details = "out of memory." if body["model"] == "too-big" else None
        made = {**body, "status": "Creating", "status_details": details, "created_at": int(time.time())}
        state.deployments[body["name"]] = made
        return JSONResponse(made, status_code=201)

    async def deployment(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.state.deployments:
            return error(404, "not_found", f"There is no deployment {name!r}.")
        found = self.state.deployments[name]
        if request.method == "DELETE":
            del self.state.deployments[name]
            return Response(status_code=204)
        if request.method == "PATCH":
            changes = await request.json()
            details = "out of memory." if changes.get("model") == "too-big" else None
            found["update"] = {"changes": changes, "status": "Creating", "status_details": details}
            return JSONResponse(found)
        update = found.get("update")
        if update and update["status_details"]:
            update["status"] = "Failed"
        elif update:
            found |= {**update["changes"], "update": None}
        found["status"] = "Failed" if found["status_details"] else "Succeeded"
        return JSONResponse(found)

    async def list_providers(self, request: Request) -> Response:
        found = {"namespace": "Finery.Compute", "registration_state": "Registered", "missing": []}
        return JSONResponse({"object": "list", "data": [found]})

    async def people(self, request: Request) -> Response:
        known = self.state.people.setdefault(request.path_params["noun"], {})
        if request.method == "GET":
            return JSONResponse({"object": "list", "data": list(known.values())})
        self.state.bodies.append(body := await request.json())
        made = {"id": f"{request.path_params['noun']}-{len(known) + 1}", "principal_id": "principals-1", **body}
        known[body.get("name") or made["id"]] = made
        return JSONResponse(made)

    async def forget(self, request: Request) -> Response:
        known = self.state.people[request.path_params["noun"]]
        return JSONResponse({"id": known.pop(request.path_params["name"])["id"], "deleted": True})

    async def list_keys(self, request: Request) -> Response:
        state = self.state
        if request.method == "GET":
            return JSONResponse({"object": "list", "data": list(state.keys.values())})
        name = (await request.json())["name"]
        made = {
            "id": f"key-{len(state.keys) + 1}",
            "name": name,
            "hint": "sk-finery-a…b",
            "created_at": int(time.time()),
        }
        state.keys[made["id"]] = made
        return JSONResponse({**made, "key": "sk-finery-whole"})

    async def key(self, request: Request) -> Response:
        del self.state.keys[request.path_params["key"]]
        return Response(status_code=204)

    @contextlib.contextmanager
    def running(self) -> Iterator["WireServer"]:
        """Listen on a free port of this machine."""
        config = uvicorn.Config(self.app(), port=0, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        listener = config.bind_socket()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.listen()
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join()


def _page(request: Request, oldest_first: list[dict[str, Any]]) -> Response:
    """A cursor page, newest first."""
    items = oldest_first[::-1]
    after, limit = request.query_params.get("after"), int(request.query_params.get("limit", 20))
    if after:
        items = items[[item["id"] for item in items].index(after) + 1 :]
    return JSONResponse({"object": "list", "data": items[:limit], "has_more": len(items) > limit})


@pytest.fixture(scope="session")
def _running() -> Iterator[WireServer]:
    with WireServer().running() as server:
        yield server


@pytest.fixture
def server(_running: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WireServer:
    """The server with a fresh state, and an environment that names it."""
    _running.state = State()
    monkeypatch.setenv("FINERY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINERY_BASE_URL", _running.url)
    monkeypatch.setenv("FINERY_API_KEY", KEY)
    return _running
