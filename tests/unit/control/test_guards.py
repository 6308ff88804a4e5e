"""A guard on the network, at a real server: what it is asked, and what follows when it answers, fails or is late."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from finery import bootstrap
from finery.api import app
from finery.control import guards, policies, screening
from finery.control.plane import ControlPlane
from finery.control.screening import Gate, Look
from finery.core.access import Caller
from finery.core.errors import InvalidRequest, Unavailable
from finery.core.policies import DEFAULT, FILTER_ERROR, ContentFilter, Guard, OnFilterError, Policy, Source, Verdict
from finery.settings import Settings

HTTP_GUARD = Guard(kind="llama_guard", model="guard-8b", timeout_seconds=5)


class GuardServer:
    """Speaks OpenAI's API as an inference server with Llama Guard does; `says` is its next answers' text."""

    def __init__(self) -> None:
        self.says: Any = "safe"
        self.status = 200
        self.seconds = 0.0
        self.asked: list[tuple[str, str | None, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((self.path, self.headers["authorization"], body))
                time.sleep(outer.seconds)
                answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": outer.says}}]}).encode()
                self.send_response(outer.status)
                self.send_header("location", "http://127.0.0.1:9/")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Harmless:
    """A classifier that finds nothing."""

    async def examine(self, texts: Sequence[str], scope: str) -> list[Verdict]:
        return [Verdict() for _ in texts]


@pytest.fixture
def guard() -> Iterator[GuardServer]:
    made = GuardServer()
    yield made
    made.close()


@pytest.fixture
def plane(tmp_path: Path, guard: GuardServer, migrated_file: Path) -> Iterator[ControlPlane]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "finery.db").write_bytes(migrated_file.read_bytes())
    made = bootstrap.control_plane(Settings(home=home, guard_url=guard.url, guard_key="sk-guard"))
    classifier: Any = Harmless()
    yield replace(made, filter=classifier)
    made.database.close()


def gate(plane: ControlPlane, caller: Caller, **changes: Any) -> Gate:
    policy = Policy(name="guarded", guard=HTTP_GUARD, **changes).over(DEFAULT)
    return Gate(plane=plane, caller=caller, policy=policy, prompt_results={}, look=Look(), asked="How?")


def test_a_guard_is_asked_with_the_prompt_and_its_verdict_is_joined(
    plane: ControlPlane, caller: Caller, guard: GuardServer
) -> None:
    opened = gate(plane, caller)
    calm = asyncio.run(opened.judge_completion("So."))
    assert not calm.blocked
    assert calm.results["guard"] == {"filtered": False, "detected": False}
    path, key, body = guard.asked[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer sk-guard")
    assert body["model"] == "guard-8b"
    assert [(m["role"], m["content"]) for m in body["messages"]] == [("user", "How?"), ("assistant", "So.")]
    guard.says = "unsafe\nS10"
    harm = asyncio.run(opened.judge_completion("So."))
    assert harm.blocked
    assert harm.results["hate"] == {"filtered": True, "severity": "medium"}
    assert harm.results["guard"] == {"filtered": True, "detected": True}
    assert harm.results["violence"] == {"filtered": False, "severity": "safe"}


def test_a_prompt_is_shown_alone(plane: ControlPlane, caller: Caller, guard: GuardServer) -> None:
    guard.says = "unsafe\nS2"
    verdict = asyncio.run(guards.examine(plane, caller, HTTP_GUARD, "How?", None))
    assert verdict.detected == {"guard"}
    assert guard.asked[0][2]["messages"] == [{"role": "user", "content": "How?"}]


@pytest.mark.parametrize(
    ("says", "status", "seconds"),
    [
        ("I would rather not say.", 200, 0),
        (None, 200, 0),
        ("safe", 500, 0),
        ("safe", 302, 0),
        ("safe", 200, 3),
    ],
    ids=["unreadable", "no text", "error", "redirection", "late"],
)
def test_a_guard_that_gives_no_verdict_is_a_failure_of_the_filter(
    plane: ControlPlane, caller: Caller, guard: GuardServer, says: Any, status: int, seconds: float
) -> None:
    guard.says, guard.status, guard.seconds = says, status, seconds
    quick = replace(HTTP_GUARD, timeout_seconds=1 if seconds else 20)
    opened = gate(plane, caller)
    opened = replace(opened, policy=replace(opened.policy, guard=quick))
    with pytest.raises(Unavailable, match="gave no verdict") as refused:
        asyncio.run(opened.judge_completion("So."))
    assert refused.value.code == "content_filter_error"
    lenient = replace(opened, policy=replace(opened.policy, on_filter_error=OnFilterError.ANNOTATE))
    assert asyncio.run(lenient.judge_completion("So.")).results == FILTER_ERROR


def test_a_guard_that_is_gone_is_a_failure_too(plane: ControlPlane, caller: Caller, guard: GuardServer) -> None:
    guard.close()
    for one in (HTTP_GUARD, Guard(kind="llama_guard", deployment="none")):
        with pytest.raises(Unavailable, match="gave no verdict"):
            asyncio.run(guards.examine(plane, caller, one, "How?", None))


def test_where_its_filter_is_off_the_guard_isnt_asked(plane: ControlPlane, caller: Caller, guard: GuardServer) -> None:
    off = ContentFilter(name="guard", source=Source.COMPLETION, enabled=False)
    judgement = asyncio.run(gate(plane, caller, content_filters=(off,)).judge_completion("So."))
    assert "guard" not in judgement.results
    assert guard.asked == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"guard": Guard(kind="parrot", model="x")}, "'parrot' is no kind of guard"),
        ({"guard": Guard(kind="llama_guard")}, "name one of them"),
        ({"guard": Guard(kind="llama_guard", model="x", deployment="y")}, "name one of them"),
        ({"guard": Guard(kind="llama_guard", deployment="none")}, "no deployment 'none'"),
        ({"guard": Guard(kind="llama_guard", model="x", timeout_seconds=0)}, "timeout is 0 s"),
        ({"content_filters": (ContentFilter(name="guard", source=Source.PROMPT),)}, "no guard"),
    ],
)
def test_what_cant_be_a_guard_is_refused(
    plane: ControlPlane, caller: Caller, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        policies.put(plane, caller, Policy(name="guarded", **changes))


def test_a_policy_keeps_its_guard_and_hands_it_on(plane: ControlPlane, caller: Caller) -> None:
    policies.put(plane, caller, Policy(name="guarded", guard=HTTP_GUARD))
    heir = policies.put(plane, caller, Policy(name="heir", base_policy="guarded"))
    assert policies.get(plane, caller, "heir").guard == heir.guard == HTTP_GUARD
    assert heir.weakened == []
    assert [one.blocking for one in heir.content_filters if one.name == "guard"] == [True, True]
    without = replace(plane, settings=replace(plane.settings, guard_url=""))
    with pytest.raises(InvalidRequest, match="FINERY_GUARD_URL"):
        policies.put(without, caller, Policy(name="guarded", guard=HTTP_GUARD))


def test_what_was_said_reaches_the_guard_in_one(plane: ControlPlane, caller: Caller, guard: GuardServer) -> None:
    parts = screening.said([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "How?"}])
    asked = "\n\n".join(part.text for part in parts)
    asyncio.run(guards.examine(plane, caller, HTTP_GUARD, asked, None))
    assert guard.asked[0][2]["messages"][0]["content"] == "Be kind.\n\nHow?"


def test_azures_policies_have_the_guard_as_a_field_of_its_own(plane: ControlPlane, caller: Caller) -> None:
    client = TestClient(app.build(plane))
    key = (plane.settings.home / "admin.key").read_text().strip()
    account = "/subscriptions/default/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/default"
    where = f"{account}/raiPolicies/guarded?api-version=2024-10-01"
    body = {"properties": {"guard": {"kind": "llama_guard", "model": "guard-8b"}}}
    made = client.put(where, json=body, headers={"api-key": key})
    assert made.status_code == 201, made.text
    wanted = {"kind": "llama_guard", "deployment": None, "model": "guard-8b", "timeout_seconds": 10.0}
    assert client.get(where, headers={"api-key": key}).json()["properties"]["guard"] == wanted
    body["properties"]["guard"] = {"kind": "llama_guard", "deployment": "none"}
    refused = client.put(where, json=body, headers={"api-key": key})
    assert refused.status_code == 400
    assert "no deployment 'none'" in refused.text
