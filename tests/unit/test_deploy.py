"""`deploy/`: what can be told of it without running it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from finery.cli.app import app
from finery.settings import VARIABLES

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
CLIENTS = ROOT / ".cache" / "clients"
CHECKER = CLIENTS / "check-jsonschema" / "bin" / "check-jsonschema"
KUBERNETES = CLIENTS / "kubernetes-validate" / "bin" / "kubernetes-validate"


def test_the_compose_file_is_one() -> None:
    if not CHECKER.exists():
        pytest.skip("check-jsonschema isn't installed: make clients")
    done = subprocess.run(
        [str(CHECKER), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_sets_what_there_is_to_set_and_holds_no_secret() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    known = {variable for _, variable, _ in VARIABLES}
    assert {name for name in services["finery"]["environment"] if name.startswith("FINERY_")} <= known
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET", "WORKER_KEY")):
                assert value.startswith("${"), name
                assert ":?" in value, name
    assert all(port.startswith("127.0.0.1:") for port in services["finery"]["ports"])


def containers() -> Iterator[dict[str, Any]]:
    """All containers of the manifests."""
    for manifest in MANIFESTS:
        for thing in yaml.safe_load_all(manifest.read_text()):
            template = thing["spec"].get("template")
            if template is not None and thing["kind"] in ("StatefulSet", "Deployment"):
                yield from template["spec"]["containers"]


def test_the_manifests_are_kubernetes_own() -> None:
    if not KUBERNETES.exists():
        pytest.skip("kubernetes-validate isn't installed: make clients")
    done = subprocess.run(
        [str(KUBERNETES), "--strict", *map(str, MANIFESTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifests_start_what_there_is_and_hold_no_secret() -> None:
    known = {variable for _, variable, _ in VARIABLES}
    command: Any = typer.main.get_command(app)
    started = []
    for container in containers():
        name, *arguments = container["args"]
        with command.commands[name].make_context(name, arguments):
            started.append(name)
        for variable in container["env"]:
            assert variable["name"] in known
            assert "KEY" not in variable["name"] or "secretKeyRef" in variable["valueFrom"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert sorted(started) == ["serve", "worker"]
