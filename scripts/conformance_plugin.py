"""A live server for the `openai` package's own tests, with the fixed ids they ask for put there before each test."""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import delete

from finery import bootstrap
from finery.api import app
from finery.control import conversations
from finery.control.plane import ControlPlane
from finery.core import hyperparameters
from finery.core.files import File, FileStatus
from finery.core.jobs import Job, JobStatus
from finery.core.models import TunedModel
from finery.core.records import Kind, Record
from finery.modeling import sources
from finery.settings import Settings
from finery.storage import files, jobs, models, projects, records, schema

BASES = ("gpt-4o-mini", "gpt-6-astra", "gpt-3.5-turbo-instruct", "text-embedding-3-small", "string", "model")
CHECKPOINTS = (
    "ft-AF1WoRqd3aJAHsqc9NY7iL8F",
    "ft:gpt-4o-mini-2024-07-18:org:weather:B7R9VjQd",
    "ft:gpt-4o-mini:acemeco:suffix:abc123",
)
JOB = "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def _status_for(test: str) -> JobStatus:
    """The state in which a test needs the job."""
    if "resume" in test:
        return JobStatus.PAUSED
    return JobStatus.RUNNING if "pause" in test else JobStatus.QUEUED


class _Receiver(BaseHTTPRequestHandler):
    """Whoever is told by a webhook."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _receive() -> str:
    """The address of a receiver on this machine."""
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{receiver.server_port}/"


RECEIVER = _receive()


class Seeds:
    """Puts the suite's ids into one server's database."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.rows = plane.blobs.put([(json.dumps(ROW) + "\n").encode() * 12])
        self.part = plane.blobs.put([b"x"])
        with plane.database.read() as connection:
            project = projects.find_project(connection, "default")
        assert project is not None
        self.project = project.id

    def sow(self, test: str) -> None:
        """Bring back what tests before have deleted or ended."""
        now = int(time.time())
        for content in (b"x", (json.dumps(ROW) + "\n").encode() * 12):
            self.plane.blobs.put([content])
        with self.plane.database.write() as connection:
            for table in (schema.records, schema.models, schema.events, schema.checkpoints, schema.replays):
                connection.execute(delete(table))
            connection.execute(delete(schema.jobs))
            connection.execute(delete(schema.files))
            for file_id in ("file_id", "file-abc123", "input_file_id"):
                purpose = "batch" if file_id == "input_file_id" else "fine-tune"
                files.insert_file(connection, self._file(file_id, purpose, now))
            jobs.insert_job(connection, self._job(_status_for(test), now))
            for name in CHECKPOINTS:
                made = TunedModel(
                    name=name,
                    project_id=self.project,
                    base_model=BASES[0],
                    job_id=JOB,
                    step=None,
                    manifest={"files": {}},
                    created_at=now,
                )
                models.insert_model(connection, made)
            for record in self._records(now):
                records.insert_record(connection, record)

    def _file(self, file_id: str, purpose: str, now: int) -> File:
        return File(
            id=file_id,
            project_id=self.project,
            filename="rows.jsonl",
            purpose=purpose,
            bytes=self.rows.bytes,
            sha256=self.rows.sha256,
            status=FileStatus.PROCESSED,
            rows=12,
            format="chat",
            created_at=now,
        )

    def _job(self, status: JobStatus, now: int) -> Job:
        return Job(
            id=JOB,
            project_id=self.project,
            model=BASES[0],
            base_model=BASES[0],
            training_file="file-abc123",
            validation_file=None,
            suffix=None,
            seed=1,
            status=status,
            method="supervised",
            options=hyperparameters.check({}),
            metadata=None,
            integrations=None,
            created_at=now,
        )

    def _records(self, now: int) -> list[Record]:
        def record(kind: Kind, record_id: str, status: str, body: dict, owner: str = "") -> Record:
            return Record(
                id=record_id,
                project_id=self.project,
                kind=kind,
                owner=owner,
                status=status,
                metadata={},
                body=body,
                created_at=now,
                expires_at=now + 3600,
            )

        upload = {
            "bytes": 1, "filename": "f", "purpose": "assistants", "mime_type": "text/plain", "keep_seconds": None
        }  # fmt: skip
        batch = {
            "endpoint": "/v1/responses",
            "input_file_id": "input_file_id",
            "keep_seconds": None,
            "expires_at": now + 3600,
            "counts": {"total": 1, "completed": 0, "failed": 0},
        }
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "b", "refusal": None},
        }
        completion = {
            "id": "completion_id", "object": "chat.completion", "created": now, "model": "string", "choices": [choice]
        }  # fmt: skip
        found = [
            record(Kind.UPLOAD, "upload_abc123", "pending", upload),
            record(Kind.UPLOAD_PART, "string", "", {"sha256": self.part.sha256, "bytes": 1}, "upload_abc123"),
            record(Kind.BATCH, "batch_id", "in_progress", batch),
            record(
                Kind.COMPLETION,
                "completion_id",
                "",
                # The SDK's type of a stored message knows answers only.
                {"completion": completion, "messages": [{"role": "assistant", "content": "a"}]},
            ),
            record(Kind.PERMISSION, "cp_zc4Q7MP6XxulcVzj4MZdwsAB", "", {"project_id": "p"}, CHECKPOINTS[1]),
            record(
                Kind.WEBHOOK_ENDPOINT,
                "whe_123",
                "enabled",
                {
                    "name": "n", "url": RECEIVER, "event_types": [], "secrets": [["whsec_QQ==", None]],
                    "updated_at": now,
                },
            ),
        ]  # fmt: skip
        message = {"id": "msg_abc", "type": "message", "role": "user", "status": "completed", "content": []}
        item_id = conversations.item_record_id("conv_123", message["id"])
        found.append(record(Kind.CONVERSATION, "conv_123", "", {}))
        found.append(record(Kind.CONVERSATION_ITEM, item_id, "", message, "conv_123"))
        for response_id in ("resp_677efb5139a88190b512bc3fef8e535d", "response_id", "resp_123"):
            response = {
                "id": response_id, "object": "response", "created_at": now, "status": "cancelled", "model": "string",
                "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {},
            }  # fmt: skip
            item = {
                "id": "m", "type": "message", "role": "user", "status": "completed",
                "content": [{"type": "input_text", "text": "a"}],
            }  # fmt: skip
            body = {"response": response, "items": [item], "messages": [{"role": "user", "content": "a"}]}
            found.append(record(Kind.RESPONSE, response_id, "cancelled", body))
        return found


@asynccontextmanager
async def _no_caretaker(_: object) -> AsyncIterator[None]:
    """Nothing happens to the seeds but what a test does."""
    yield


def _start() -> Seeds:
    from tiny_models import write_model

    folder = Path(tempfile.mkdtemp(prefix="finery-conformance-"))
    raw = write_model(folder / "raw", "phi3")
    # OpenAI's model of that name is the one that takes a suffix.
    inserting = write_model(
        folder / "inserting", "phi3", special=["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    )
    for name in BASES:
        sources.import_folder(folder / "models", inserting if name == "gpt-3.5-turbo-instruct" else raw, name)
    (folder / "home").mkdir()
    plane = bootstrap.control_plane(
        Settings(
            home=folder / "home", models=folder / "models", worker=False, private_webhooks=1, default_model=BASES[0]
        )
    )
    seeds = Seeds(plane)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app.build(plane, lifespan=_no_caretaker), log_level="warning", access_log=False)
    )
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    os.environ["TEST_API_BASE_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    return seeds


SEEDS = _start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the suite's clients a key of this server."""
    from tests import conftest  # type: ignore[import-not-found]  # the suite's

    conftest.api_key = (SEEDS.plane.settings.home / "admin.key").read_text().strip()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A fresh field for each test."""
    SEEDS.sow(item.name)
