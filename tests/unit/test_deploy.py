"""`deploy/`: what can be told of it without running it."""

import subprocess
from pathlib import Path

import pytest
import yaml

from finery.settings import VARIABLES

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
CHECKER = ROOT / ".cache" / "clients" / "check-jsonschema" / "bin" / "check-jsonschema"


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
