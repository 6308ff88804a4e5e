"""The framework's own files, from its installed package: compressed once and kept, for they are the same for everybody
until another version is installed, and their addresses name the version. The framework itself need not be loaded for
them. It knows no pages and lets every other request pass.
"""

import asyncio
import gzip
import mimetypes
import re
from functools import cache
from importlib import metadata, util
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_PACKAGE = "nicegui"
_FILE = re.compile(r"/_nicegui/(\d[\d.]*)/static/(\w[\w./-]*)\Z")
_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".woff2": "font/woff2"}
_PACKED = {".woff2", ".png"}
"""Compressed already."""

_NEEDED = (
    ("quasar.umd.prod.js", "script"),
    ("vue.esm-browser.prod.js", "script"),
    ("quasar.unimportant.prod.css", "style"),
    ("quasar.important.prod.css", "style"),
    ("socket.io.min.js", "script"),
    ("dompurify.mjs", "script"),
    ("nicegui.js", "script"),
    ("nicegui.css", "style"),
    ("fonts.css", "style"),
)
"""What every page begins with, the largest first, and as what."""


def needed(prefix: str) -> list[tuple[str, str]]:
    """Addresses of what every page begins with, and as what: a browser may fetch them before there is a page."""
    found = _installed()
    return [(f"{prefix}/_nicegui/{found[0]}/static/{name}", kind) for name, kind in _NEEDED] if found else []


class Assets:
    """Answers for the framework's files; asks `app` for everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept: dict[Path, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        file = _file_of(scope)
        if file is None:
            await self.app(scope, receive, send)
            return
        # Two that ask for the first time at once both compress it; neither waits for the other.
        if file not in self._kept:
            self._kept[file] = await asyncio.to_thread(_content_of, file)
        headers = {"cache-control": _FOREVER, "vary": "accept-encoding"}
        if file.suffix not in _PACKED:
            headers["content-encoding"] = "gzip"
        media_type = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
        await Response(self._kept[file], headers=headers, media_type=media_type)(scope, receive, send)


@cache
def _installed() -> tuple[str, Path] | None:
    """The framework's version and the folder of its files, without loading it; None where it isn't installed."""
    spec = util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return metadata.version(_PACKAGE), (Path(spec.origin).parent / "static").resolve()


def _content_of(file: Path) -> bytes:
    content = file.read_bytes()
    return content if file.suffix in _PACKED else gzip.compress(content)


def _file_of(scope: Scope) -> Path | None:
    """The file that is asked for as a whole; None where this is no such request, or there is no such file."""
    asked = _FILE.search(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
    found = _installed() if asked else None
    if asked is None or found is None or asked[1] != found[0]:
        return None
    headers = Headers(scope=scope)
    if "range" in headers or "gzip" not in headers.get("accept-encoding", ""):
        return None
    file = (found[1] / asked[2]).resolve()
    return file if file.is_relative_to(found[1]) and file.is_file() else None
