"""The demo's script: what counts as right, what it tells when it can't go on, and when it ends with 0."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, OpenAI

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture(autouse=True)
def _demo_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules are found as they are when `python demo/run.py` is run; afterwards their short names are free again."""
    monkeypatch.syspath_prepend(str(DEMO))
    yield
    for name in ("run", "scoring", "screen", "server"):
        sys.modules.pop(name, None)


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def client(answer: Any) -> OpenAI:
    """The real client; `answer` makes the body of a response from a request."""
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer(request)))
    return OpenAI(base_url="http://finery/v1", api_key="key", http_client=httpx2.Client(transport=transport))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("safety-urgent", True),
        ("  Safety-Urgent\n", True),
        ("safety-urgent.", False),
        ("The queue is safety-urgent", False),
        ("safety", False),
        ("", False),
    ],
)
def test_only_the_queue_name_itself_is_right(answer: str, right: bool) -> None:
    assert module("scoring").is_right(answer, "safety-urgent") is right


def test_held_out_tickets_come_without_their_answer() -> None:
    tickets = module("scoring").read_tickets(DEMO / "support_tickets.heldout.jsonl")
    assert {message["role"] for ticket in tickets for message in ticket.prompt} == {"system", "user"}
    assert all(ticket.text == ticket.prompt[1]["content"] and ticket.queue != ticket.text for ticket in tickets)


def test_each_answer_stays_with_its_ticket_though_many_are_asked_at_once() -> None:
    def echo(request: httpx2.Request) -> dict[str, Any]:
        body = json.loads(request.content)
        assert body["temperature"] == 0
        message = {"role": "assistant", "content": body["model"] + body["messages"][-1]["content"]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}

    scoring = module("scoring")
    tickets = scoring.read_tickets(DEMO / "support_tickets.heldout.jsonl")[:24]
    answers = scoring.evaluate(client(echo), {"base": "b:", "tuned": "t:"}, tickets)
    assert answers == [[f"{model}{ticket.text}" for ticket in tickets] for model in ("b:", "t:")]


def test_the_gain_is_the_difference_in_points(capsys: pytest.CaptureFixture[str]) -> None:
    scoring = module("scoring")
    tickets = scoring.read_tickets(DEMO / "support_tickets.heldout.jsonl")[:8]
    base = ["I am sorry [to hear]"] * 7 + [tickets[7].queue]
    tuned = [ticket.queue for ticket in tickets[:6]] + ["safety", "safety"]
    assert scoring.report(tickets, base, tuned) == 75.0 - 12.5
    shown = capsys.readouterr().out
    assert "12.5 %" in shown
    assert "75.0 %" in shown
    assert "in 1 of 8 answers" in shown


def test_every_event_is_seen_once_and_in_order() -> None:
    """The API lists the newest first, in pages; between two looks new events come in front."""
    events: list[dict[str, Any]] = []

    def page(request: httpx2.Request) -> dict[str, Any]:
        newest_first = events[::-1]
        after = request.url.params.get("after")
        begin = 1 + [event["id"] for event in newest_first].index(after) if after else 0
        data = newest_first[begin : begin + 3]
        return {"object": "list", "data": data, "has_more": begin + 3 < len(newest_first)}

    def happen(number: int) -> None:
        event = {"object": "fine_tuning.job.event", "created_at": number, "level": "info", "type": "message"}
        events.append({"id": f"e{number}", "message": str(number), **event})

    run, seen, shown = module("run"), set[str](), []
    for first, last in ((0, 7), (7, 7), (7, 9), (9, 16)):
        for number in range(first, last):
            happen(number)
        shown += [event.id for event in run.new_events(client(page), "ftjob-1", seen)]
    assert shown == [event["id"] for event in events]


@pytest.mark.parametrize(("gain", "status"), [(29.9, 1), (30.0, 0), (87.5, 0), (-5.0, 1)])
def test_it_ends_with_0_only_if_the_model_learned(monkeypatch: pytest.MonkeyPatch, gain: float, status: int) -> None:
    run = module("run")
    monkeypatch.setattr(run, "demo", lambda: gain)
    assert run.main() == status


def test_failures_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = module("run")

    def raises(error: Exception) -> Any:
        def demo() -> float:
            raise error

        return demo

    refused = module("screen").DemoError("The job [ftjob-1] is failed: out of luck")
    gone = APIConnectionError(request=httpx2.Request("GET", "http://finery/v1/files"))
    for error, told in ((refused, str(refused)), (gone, "no longer answers")):
        monkeypatch.setattr(run, "demo", raises(error))
        assert run.main() == 1
        assert told in capsys.readouterr().out


def test_a_server_that_ends_at_once_is_explained_by_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = module("server")
    log = tmp_path / "serve.log"
    log.write_text("starting\nAnother `finery serve` uses this home.\n", encoding="utf-8")
    monkeypatch.setattr(server, "LOG", log)
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    process.wait()
    with pytest.raises(server.DemoError, match="Another `finery serve` uses this home"):
        server.wait_until_ready(process, "http://127.0.0.1:1")


def test_the_new_ticket_of_the_chat_is_new() -> None:
    ticket = module("run").NEW_TICKET
    files = (DEMO / "support_tickets.train.jsonl", DEMO / "support_tickets.heldout.jsonl")
    assert all(ticket[:40] not in path.read_text(encoding="utf-8") for path in files)
