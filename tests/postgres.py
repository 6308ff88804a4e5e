"""A PostgreSQL cluster of a test's own, made with Debian's initdb in a temporary folder; nothing listens on a port."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

USERS = ("postgres", "nobody")
"""Whom the cluster runs as where we are root: initdb refuses root."""

START_SECONDS = 60


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    if not _binaries():
        return "PostgreSQL's initdb isn't installed (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg isn't installed: pip install 'finery[postgres]'"
    return ""


class Cluster:
    """One cluster; `durable=False` makes it quick, and useless for tests that kill it."""

    def __init__(self, *, durable: bool = False) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="finery-pg-"))
        self._user = _user()
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "-D", str(self._data), "-U", "finery", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"
        )
        self._count = 0

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> "Cluster":
        """Start it and wait until it answers."""
        options = [] if self._durable else ["-F"]
        command = ["postgres", "-D", str(self._data), "-k", str(self._folder), "-h", "", *options]
        command[0] = str(_binaries() / command[0])  # type: ignore[operator]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._as_user())
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                with self._connect():
                    return self
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"no PostgreSQL: {(self._folder / 'log').read_text()[-2000:]}")

    def url(self, name: str = "", *, template: str = "") -> str:
        """The URL of a new database, empty or a copy of another one, or of the one of that name."""
        if not name:
            self._count += 1
            name = f"test_{self._count}"
            with self._connect() as connection:
                connection.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return f"postgresql://finery@/{name}?host={quote(str(self._folder))}"

    def kill(self) -> None:
        """As a power cut for it: SIGQUIT is its immediate shutdown, without a checkpoint."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def remove(self) -> None:
        """Stop it and forget all it held."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self) -> Any:
        import psycopg

        try:
            return psycopg.connect(host=str(self._folder), user="finery", dbname="postgres", autocommit=True)
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from error

    def _run(self, *command: str) -> None:
        binary = str(_binaries() / command[0])  # type: ignore[operator]
        done = subprocess.run(
            [binary, *command[1:]], capture_output=True, text=True, cwd="/", check=False, **self._as_user()
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr[-2000:]}")

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _user() -> pwd.struct_passwd | None:
    if os.geteuid():
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in USERS if name in known)


def _binaries() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
