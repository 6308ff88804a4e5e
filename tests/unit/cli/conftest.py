"""Gives the tests here the server of `wire_server.py`, which can't be imported by name (tests are no package)."""

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).with_name("wire_server.py")

if "wire_server" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("wire_server", _PATH)
    sys.modules["wire_server"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["wire_server"])

_running = sys.modules["wire_server"]._running
server = sys.modules["wire_server"].server


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where base models lie on the machine that tests is no test's business."""
    monkeypatch.delenv("FINERY_MODELS", raising=False)
