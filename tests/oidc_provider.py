"""A real identity provider, npm's certified `oidc-provider`, in a process of its own. `make oidc` brings it."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / ".cache" / "clients" / "oidc-provider" / "node_modules" / "oidc-provider"
AUDIENCE = "https://finery.example/api"
SECRET = "not a secret"

HERE = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not here; it runs npm's oidc-provider"),
    pytest.mark.skipif(not PACKAGE.exists(), reason="oidc-provider is not here; `make oidc` brings it"),
]


class Provider:
    """The provider in a process of its own, always at one address; every start makes new keys.

    With `back`, people can sign in there for a program that is called back at that address.
    """

    def __init__(self, log: Path, *, back: str = "") -> None:
        self._port = free_port()
        self._back = back
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Provider":
        program = str(ROOT / "tests" / "oidc_provider.mjs")
        with self._log.open("ab") as log:
            command = ["node", program, str(PACKAGE), str(self._port), self._back]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            try:
                httpx.get(f"{self.url}/jwks").raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return self
        raise RuntimeError(f"no provider: {self._log.read_text()}")

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def granted(self, grant_type: str) -> int:
        """How many grants of that type it gave."""
        return self._log.read_text().splitlines().count(f"granted {grant_type}")

    def token(self, client: str, algorithm: str = "RS256", audience: str = AUDIENCE) -> str:
        """An access token by client_credentials."""
        asked = {"grant_type": "client_credentials", "scope": "api", "resource": f"{audience}/{algorithm}"}
        answer = httpx.post(f"{self.url}/token", data=asked, auth=(client, "not%20a%20secret"))
        assert answer.is_success, answer.text
        return str(answer.json()["access_token"])


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
