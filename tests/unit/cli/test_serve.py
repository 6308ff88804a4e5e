"""`finery serve` and `finery worker` hand over what they were told; the processes themselves are tested elsewhere."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from finery.cli import serve
from finery.cli.app import app
from finery.core.errors import Conflict


@pytest.fixture
def told(monkeypatch):
    """What bootstrap is called with."""
    calls = []
    bootstrap = SimpleNamespace(serve=calls.append, work=lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(serve, "_bootstrap", lambda: bootstrap)
    for variable in ("FINERY_HOME", "FINERY_HOST", "FINERY_PORT", "FINERY_BASE_URL", "FINERY_WORKER_KEY"):
        monkeypatch.delenv(variable, raising=False)
    return calls


def run(*arguments, **environment):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


def test_the_defaults_are_those_of_the_settings(told):
    assert run("serve").exit_code == 0
    settings = told[0]
    assert (settings.host, settings.port, settings.worker, settings.insecure) == ("127.0.0.1", 8000, True, False)
    assert settings.home == Path.home() / ".finery"


def test_options_count_before_the_environment(told, tmp_path):
    run("serve", "--port", "0", "--no-worker", "--insecure", FINERY_PORT="9999", FINERY_HOME=str(tmp_path))
    settings = told[0]
    assert (settings.port, settings.worker, settings.insecure, settings.home) == (0, False, True, tmp_path)


def test_a_bad_variable_is_named(told):
    result = run("serve", FINERY_LEASE_SECONDS="soon")
    assert (result.exit_code, told) == (1, [])
    assert "FINERY_LEASE_SECONDS is 'soon'" in result.stderr


def test_why_it_could_not_start_is_one_line(monkeypatch):
    def taken(_settings):
        raise Conflict("Can't listen on 127.0.0.1:8000. Choose another --port.")

    monkeypatch.setattr(serve, "_bootstrap", lambda: SimpleNamespace(serve=taken))
    result = run("serve")
    assert (result.exit_code, result.stderr) == (1, "Can't listen on 127.0.0.1:8000. Choose another --port.\n")


def test_a_worker_needs_an_address_and_takes_its_key_from_the_environment(told, tmp_path):
    assert run("worker").exit_code == 2
    run("worker", "--base-url", "http://a:1", "--home", tmp_path, FINERY_WORKER_KEY="secret")
    assert told == [{"base_url": "http://a:1", "home": tmp_path, "secret": "secret"}]
    run("worker", "--base-url", "http://a:1", "--ray", "auto", "--rank-gpus", "1")
    assert told[1]["ray"] == "auto"
    assert told[1]["needs"] == {"cpus": 1.0, "gpus": 1.0, "memory_gb": 0.0}


@pytest.mark.parametrize("command", [["serve"], ["worker", "--base-url", "http://a:1"]])
def test_ctrl_c_is_how_they_end(monkeypatch, command):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "_bootstrap", lambda: SimpleNamespace(serve=interrupted, work=interrupted))
    result = run(*command)
    assert (result.exit_code, result.stderr) == (0, "")
