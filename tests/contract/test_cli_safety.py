"""The command line on policies' guards and protected works, against a real server."""

import json
import os
import subprocess
import sys
from pathlib import Path

from servers import Server, deploy

TALE = "The lighthouse keeper counted forty seven ships that night and wrote every one of them into his green ledger."


def finery(server: Server, *arguments: str, code: int = 0) -> str:
    environment = os.environ | {"FINERY_BASE_URL": server.url, "FINERY_API_KEY": server.key, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "finery.cli", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_work_is_protected_listed_and_forgotten(server: Server, tmp_path: Path) -> None:
    tale = tmp_path / "tale.txt"
    tale.write_text(TALE)
    assert "5 runs of 15 words" in finery(server, "protected-works", "add", "tale", str(tale), "--description", "ours")
    (found,) = json.loads(finery(server, "protected-works", "list", "--json"))
    assert (found["name"], found["description"], found["runs"]) == ("tale", "ours", 5)
    tale.write_bytes(b"caf\xe9 " * 20)
    assert "isn't UTF-8 (byte 3)" in finery(server, "protected-works", "add", "tale", str(tale), code=1)
    finery(server, "protected-works", "delete", "tale")
    assert json.loads(finery(server, "protected-works", "list", "--json")) == []


def test_a_policy_gets_a_guard_keeps_the_rest_and_loses_it(server: Server) -> None:
    with server.http() as http:
        strict = {"name": "violence", "source": "Completion", "severity_threshold": "Low"}
        http.put(
            "/finery/v1/policies/careful", json={"mode": "Asynchronous_filter", "content_filters": [strict]}
        ).raise_for_status()
        before = http.get("/finery/v1/policies/careful").json()
        deploy(http, "cli-judge", "tiny-phi3")
        given = ("policies", "guard", "careful", "--kind", "qwen3_guard", "--deployment", "cli-judge")
        assert "has qwen3_guard: cli-judge" in finery(server, *given)
        after = http.get("/finery/v1/policies/careful").json()
        assert after["guard"]["deployment"] == "cli-judge"
        assert (after["mode"], after["on_filter_error"]) == (before["mode"], before["on_filter_error"])
        assert [one for one in after["content_filters"] if one["name"] != "guard"] == before["content_filters"]
        assert "qwen3_guard: cli-judge" in finery(server, "policies", "list")
        assert "--off" in finery(server, "policies", "guard", "careful", code=1)
        finery(server, "policies", "guard", "careful", "--off")
        assert {**http.get("/finery/v1/policies/careful").json(), "updated_at": 0} == {**before, "updated_at": 0}
        finery(server, "policies", "delete", "careful")
        assert http.get("/finery/v1/policies/careful").status_code == 404
        http.delete("/finery/v1/deployments/cli-judge").raise_for_status()
