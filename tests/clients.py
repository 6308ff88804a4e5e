"""Other people's programs, which tests drive against a server: each in a Python of its own, made by `make clients`."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN_SECONDS = 1800


def python_with(package: str) -> str:
    """The interpreter that has a package; skips where there is none."""
    python = ROOT / ".cache" / "clients" / package / "bin" / "python"
    if not (python.parents[1] / "ready").exists():
        pytest.skip(f"{package} isn't installed: make clients")
    return str(python)


def run(python: str, program: str, *arguments: str, home: Path, **variables: str) -> str:
    """What a program in another Python prints; its home is empty, so that nobody's settings help it."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **variables}
    done = subprocess.run(
        [python, *(["-c", program] if program else []), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
