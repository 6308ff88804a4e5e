"""`finery doctor` against a home with and without a server."""

import json
import os

from typer.testing import CliRunner

from finery.cli.app import app


def checks(*arguments: str, **options):
    result = CliRunner().invoke(app, ["doctor", "--json", *map(str, arguments)], **options)
    return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)}


def test_a_fresh_home_lacks_a_model_and_a_server_and_each_has_its_way_out(tmp_path, monkeypatch):
    monkeypatch.delenv("FINERY_BASE_URL", raising=False)
    code, found = checks("--home", tmp_path)
    assert code == 1
    assert not found["Models"]["ok"]
    assert found["Models"]["way_out"].startswith("finery models pull ")
    assert not found["Server"]["ok"]
    assert "finery serve" in found["Server"]["way_out"]
    for name, check in found.items():
        assert check["ok"] is not False or check["way_out"], name


def test_a_running_server_and_its_key_are_found_from_the_home_alone(server, tmp_path, monkeypatch):
    monkeypatch.delenv("FINERY_BASE_URL")
    monkeypatch.delenv("FINERY_API_KEY")
    (tmp_path / "server.json").write_text(json.dumps({"url": server.url, "pid": os.getpid()}))
    (tmp_path / "admin.key").write_text("sk-finery-test")
    _, found = checks("--home", tmp_path)
    assert found["Server"]["ok"]
    assert found["API key"]["ok"]


def test_a_wrong_key_is_told_from_no_server(server, tmp_path):
    code, found = checks("--home", tmp_path, "--api-key", "sk-wrong")
    assert code == 1
    assert not found["API key"]["ok"]
    assert "admin.key" in found["API key"]["way_out"]


def test_people_get_marks_and_ways_out(server, tmp_path):
    result = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path)])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("✓ Python") for line in lines)
    assert (
        lines[next(n for n, line in enumerate(lines) if line.startswith("✗ Models")) + 1].strip().startswith("finery")
    )
