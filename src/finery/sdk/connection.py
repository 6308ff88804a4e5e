"""Which server to speak to, and with which key. Sends nothing itself."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from finery.core.errors import InvalidRequest, Unauthenticated, Unavailable

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """Where a server is, and the key for it."""

    base_url: str
    """Without a closing slash and without `/v1`."""
    api_key: str
    project: str = ""
    """Which project its requests are about: `FINERY_PROJECT`; empty: the key's own."""
    ca: Path | None = None
    """The authority to trust, where the server signed its own certificate."""

    @property
    def loopback(self) -> bool:
        """The server is on this machine."""
        return urlsplit(self.base_url).hostname in _LOOPBACK


def default_home() -> Path:
    """The folder of this machine's Finery: `FINERY_HOME`, else `~/.finery`."""
    return Path(os.environ.get("FINERY_HOME") or "~/.finery").expanduser()


def locate(base_url: str | None = None, api_key: str | None = None, home: Path | None = None) -> Connection:
    """Complete what the caller left open: from the environment, then from the home of this machine's server.

    The key in the home is used only for the very server that the home names, never for another address.

    Raises:
        InvalidRequest: the address isn't one.
        Unavailable: no address was given and no server runs from the home.
        Unauthenticated: there is an address, but no key for it.
    """
    home = home or default_home()
    given = base_url or os.environ.get("FINERY_BASE_URL")
    local = _local_server(home)
    url = _clean(given) if given else local
    if url is None:
        raise Unavailable(
            f"No Finery server is running from {home}: start it with `finery serve`, or name another with --base-url.",
            code="unreachable",
        )
    key = (api_key or os.environ.get("FINERY_API_KEY") or "").strip()
    ours = local is not None and _address(url) == _address(local)
    if not key and ours:
        key = _local_key(home)
    if not key:
        raise Unauthenticated(f"No API key for {url}: pass --api-key or set FINERY_API_KEY.")
    if not (key.isascii() and key.isprintable()):
        raise Unauthenticated("The API key holds characters that no key has; was something else pasted?")
    ca = home / "tls" / "ca.pem"
    return Connection(
        base_url=url,
        api_key=key,
        project=os.environ.get("FINERY_PROJECT", "").strip(),
        ca=ca if ours and url.startswith("https") and ca.exists() else None,
    )


def _clean(url: str) -> str:
    url = url.strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequest(f"{url!r} is not the address of a server; it must look like http://127.0.0.1:8000.")
    return url


def _address(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname in _LOOPBACK else parts.hostname
    return host, parts.port


def _local_server(home: Path) -> str | None:
    """The address that `finery serve` left in the home, while its process lives."""
    try:
        server = json.loads((home / "server.json").read_text(encoding="utf-8"))
        os.kill(int(server["pid"]), 0)
    except PermissionError:
        pass  # Somebody else's process: it lives.
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _clean(server["url"])


def _local_key(home: Path) -> str:
    try:
        return (home / "admin.key").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
