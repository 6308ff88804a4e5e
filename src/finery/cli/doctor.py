"""`finery doctor`: is this machine fit, and what is missing. Imports nothing heavy: versions are read, not loaded.

A check is a sentence with ✓ or ✗; ✗ comes with the way out. What is good to know but stops nothing has a –.
"""

import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from finery.cli.console import out, plain, say_json
from finery.cli.figures import size
from finery.cli.options import ApiKey, AsJson, BaseUrl, Home, connect, home_folder
from finery.core.errors import FineryError, Unauthenticated, Unavailable

_PARTS = {
    "server": ("fastapi", "uvicorn", "sqlalchemy", "alembic", "obstore", "tokenizers"),
    "serving": ("xllamacpp", "gguf"),
    "training": ("torch", "transformers"),
}
"""Extras of the package, and what tells that they are installed."""

_MIN_PYTHON = (3, 11)
_MIN_SQLITE = (3, 35, 0)
"""RETURNING."""
_MIN_FREE_BYTES = 2 * 10**9
_MIN_MEMORY_BYTES = 3 * 10**9
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_HUB_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """None: good to know, stops nothing."""
    found: str
    way_out: str = ""


def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the model hub can be reached.")] = False,
    home: Home = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Look what this machine lacks.

    Each line is ✓, ✗ with the way out, or – for what is good to know. Ends with 1 if there is a ✗.
    """
    folder = home_folder(home)
    checks = [*_machine(folder), *_parts(), _models(folder), *_server(base_url, api_key, home)]
    if hub:
        checks.append(_hub())
    if as_json:
        say_json([asdict(check) for check in checks])
    else:
        _print(checks)
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _print(checks: list[Check]) -> None:
    from rich.text import Text

    console = out()
    marks = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}
    width = max(len(check.name) for check in checks)
    for check in checks:
        console.print(Text.assemble(marks[check.ok], f" {check.name:<{width}}  ", plain(check.found)), soft_wrap=True)
        if check.way_out:
            console.print(Text(f"  {'':<{width}}  {plain(check.way_out)}", style="yellow"), soft_wrap=True)


def _machine(home: Path) -> Iterator[Check]:
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


def _disk(home: Path) -> Check:
    folder = next(parent for parent in (home, *home.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    low = free < _MIN_FREE_BYTES
    writable = os.access(folder, os.W_OK)
    way_out = f"Free some space, or move the home with FINERY_HOME (at least {size(_MIN_FREE_BYTES)})." if low else ""
    if not writable:
        way_out = f"Make {folder} writable for you, or choose another folder with FINERY_HOME."
    return Check(name="Disk", ok=writable and not low, found=f"{size(free)} free for {home}", way_out=way_out)


def _memory() -> Check:
    total = _memory_bytes()
    if total is None:
        return Check(name="Memory", ok=None, found="unknown on this system")
    low = total < _MIN_MEMORY_BYTES
    way_out = "The smallest model trains in 3 GB; close other programs or use a larger machine." if low else ""
    return Check(name="Memory", ok=not low, found=size(total), way_out=way_out)


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


def _models(home: Path) -> Check:
    from finery.cli.models import local_models
    from finery.modeling.catalog import STARTER_MODEL

    names = [model.id for model in local_models(home)]
    if names:
        return Check(name="Models", ok=True, found=", ".join(names))
    way_out = f"finery models pull {STARTER_MODEL}"
    return Check(name="Models", ok=False, found=f"no base model in {home / 'models'}", way_out=way_out)


def _server(base_url: str | None, api_key: str | None, home: Path | None) -> Iterator[Check]:
    try:
        with connect(base_url, api_key, home) as finery:
            where = finery.connection.base_url
            models = len(list(finery.models.list()))
            providers = list(finery.providers.list())
    except Unauthenticated as error:
        yield Check(name="API key", ok=False, found="no valid key", way_out=error.message)
    except Unavailable as error:
        yield Check(name="Server", ok=False, found="none answers", way_out=error.message)
    except FineryError as error:
        refused_key = error.code == "invalid_api_key"
        yield Check(
            name="API key" if refused_key else "Server",
            ok=False,
            found=error.message,
            way_out=_KEY_WAY_OUT if refused_key else "",
        )
    else:
        yield Check(name="Server", ok=True, found=f"{where}, {models} {'model' if models == 1 else 'models'}")
        yield Check(name="API key", ok=True, found="valid")
        yield from map(_provider, providers)


def _provider(found: dict[str, Any]) -> Check:
    registered = found["registration_state"] == "Registered"
    missing = ", ".join(found["missing"])
    return Check(
        name=found["namespace"],
        ok=registered,
        found=found["registration_state"] + (f", missing on the server: {missing}" if missing else ""),
        way_out="" if registered else f"finery providers register {found['namespace']}",
    )


_KEY_WAY_OUT = "Pass the right one with --api-key or FINERY_API_KEY; this machine's server keeps its own in admin.key."


def _hub() -> Check:
    import httpx

    url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        httpx.head(url, timeout=_HUB_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        found = (
            f"{url} can't be reached ({type(error).__name__}): only the starter model and imported folders are at hand"
        )
        return Check(name="Hub", ok=None, found=found)
    return Check(name="Hub", ok=True, found=f"{url} answers")


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
