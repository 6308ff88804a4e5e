"""From its first word on a server can be called, and stopped."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


@pytest.fixture
def announced(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server that wrote down its address a moment ago."""
    home = tmp_path / "home"
    command = [sys.executable, "-m", "finery.cli", "serve", "--home", str(home), "--port", "0", "--no-worker"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (home / "server.json").exists():
        assert process.poll() is None
        time.sleep(0.001)
    yield process, home
    process.kill()
    process.wait()


def test_whoever_reads_the_address_is_answered(announced: tuple[subprocess.Popen[bytes], Path]) -> None:
    _, home = announced
    url = json.loads((home / "server.json").read_text())["url"]
    assert httpx.get(f"{url}/healthz", timeout=60).json() == {"status": "ok"}


def test_a_stop_that_comes_at_once_is_not_lost(announced: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, home = announced
    process.terminate()
    assert process.wait(60) == 0
    assert not (home / "server.json").exists()
