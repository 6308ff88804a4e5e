"""Batches from file to files, over a restart too; webhooks as the SDK's own check wants them signed."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from servers import Server

MODEL = "tiny-phi3"


class Receiver(HTTPServer):
    """Keeps what it is sent; fails the first time it is asked for each event."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[bytes, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((body, dict(self.headers)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Server]:
    """A server that may tell this machine of events."""
    home = tmp_path_factory.mktemp("batches") / "home"
    running = Server(home, tiny_folder, FINERY_PRIVATE_WEBHOOKS="1").start()
    yield running
    running.stop()


def line(i: int, **body: Any) -> str:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": f"red {i}"}], "max_tokens": 4, "seed": i, **body}
    return json.dumps({"custom_id": f"c{i}", "method": "POST", "url": "/v1/chat/completions", "body": asked}) + "\n"


def start(client: openai.OpenAI, text: str) -> Any:
    file = client.files.create(file=("b.jsonl", text.encode()), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
    )


def wait(client: openai.OpenAI, batch: Any, *statuses: str) -> Any:
    end = time.monotonic() + 90
    while batch.status not in statuses and time.monotonic() < end:
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.status in statuses, batch
    return batch


def test_a_batch_answers_each_line_and_tells_of_its_end(own: Server) -> None:
    client = own.openai()
    receiver = Receiver()
    with own.http() as http:
        made = http.post(
            "/v1/webhook_endpoints", json={"name": "n", "url": receiver.url, "event_types": ["batch.completed"]}
        ).json()
    text = "".join(line(i) for i in range(6)) + line(6, temperature=9) + line(7, temperature=3)
    batch = wait(client, start(client, text), "completed")
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (8, 6, 2)
    answers = [json.loads(row) for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == [f"c{i}" for i in range(6)]
    direct = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "red 3"}], max_tokens=4, seed=3
    )
    body = answers[3]["response"]["body"]
    assert body["choices"][0]["message"]["content"] == direct.choices[0].message.content
    faults = [json.loads(row) for row in client.files.content(batch.error_file_id).text.splitlines()]
    assert {fault["response"]["status_code"] for fault in faults} == {400}
    assert "temperature" in faults[0]["response"]["body"]["error"]["message"]
    assert batch.id in [item.id for item in client.batches.list(limit=1)]
    end = time.monotonic() + 30
    while not receiver.got and time.monotonic() < end:
        time.sleep(0.05)
    payload, headers = receiver.got[0]
    event = client.webhooks.unwrap(payload, headers, secret=made["signing_secret"])
    assert (event.type, event.data.id) == ("batch.completed", batch.id)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(payload + b" ", headers, secret=made["signing_secret"])
    receiver.shutdown()


def test_a_batch_goes_on_after_a_kill(own: Server) -> None:
    client = own.openai()
    batch = start(client, "".join(line(i, max_tokens=40) for i in range(60)))
    end = time.monotonic() + 60
    while client.batches.retrieve(batch.id).request_counts.completed < 5 and time.monotonic() < end:
        time.sleep(0.02)
    own.kill()
    own.start()
    client = own.openai()
    batch = wait(client, client.batches.retrieve(batch.id), "completed")
    assert batch.request_counts.completed == 60
    ids = [json.loads(row)["custom_id"] for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert ids == [f"c{i}" for i in range(60)]


def test_a_batch_can_be_cancelled_and_refused(own: Server) -> None:
    client = own.openai()
    batch = start(client, "".join(line(i, max_tokens=500) for i in range(200)))
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    wait(client, batch, "cancelled")
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    wrong = client.files.create(file=("a.txt", b"abc"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="user_data"):
        client.batches.create(input_file_id=wrong.id, endpoint="/v1/embeddings", completion_window="24h")
    other = client.files.create(file=("b.jsonl", line(1).encode()), purpose="batch")
    failed = client.batches.create(input_file_id=other.id, endpoint="/v1/embeddings", completion_window="24h")
    failed = wait(client, failed, "failed")
    assert failed.errors.data[0].line == 1
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_nothing")


def test_webhooks_are_managed_and_tested(own: Server, server: Server) -> None:
    client = own.openai()
    receiver = Receiver()
    made = client.webhooks.create(name="n", url=receiver.url, event_types=["fine_tuning.job.failed"])
    assert made.id in [item.id for item in client.webhooks.list().data]
    assert client.webhooks.update(made.id, name="m").name == "m"
    new = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert client.webhooks.test(made.id, event_type="batch.failed").status_code == 200
    for secret in (made.signing_secret, new.signing_secret):
        client.webhooks.unwrap(*receiver.got[-1], secret=secret)
    assert client.webhooks.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(made.id)
    for url in (
        "http://127.0.0.1:9/x",
        "https://localhost/x",
        "https://[::1]/x",
        "https://169.254.169.254/",
        "ftp://x",
    ):
        with pytest.raises(openai.BadRequestError):
            server.openai().webhooks.create(name="n", url=url, event_types=["batch.completed"])
    receiver.shutdown()
