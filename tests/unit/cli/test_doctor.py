"""`finery doctor` against a home with and without a server."""

import json
import os

import pytest
from typer.testing import CliRunner

from finery.cli import doctor
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


def test_memory_is_the_containers_where_that_is_less(monkeypatch):
    files = {"/proc/meminfo": "MemTotal:       16000000 kB\n", "/sys/fs/cgroup/memory.max": "1073741824\n"}
    monkeypatch.setattr(doctor, "_read", lambda path: files.get(path, ""))
    assert not doctor._memory().ok
    assert doctor._memory().found == "1.1 GB"
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert doctor._memory().ok


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16\n", "yes (amx_bf16, avx512_bf16)"),
        ("flags : fpu avx2\n", "fp32"),
        ("", "unknown"),
    ],
)
def test_bf16_is_read_from_the_processors_flags(monkeypatch, flags, words):
    monkeypatch.setattr(doctor, "_read", lambda _path: flags)
    assert words in doctor._bf16().found


def test_a_missing_part_names_the_extra_to_install(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "torch" else "1.0")
    parts = {check.name: check for check in doctor._parts()}
    assert parts["finery[server]"].ok
    assert not parts["finery[training]"].ok
    assert parts["finery[training]"].found == "missing: torch"
    assert parts["finery[training]"].way_out == "pip install 'finery[training]'"
