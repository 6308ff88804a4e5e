"""A model's files from a Hugging Face hub (or a mirror of one) over plain HTTPS, resumable and checked.

Read: `GET /api/models/REPO/revision/REV?blobs=true` for the commit and the files, `GET /REPO/resolve/COMMIT/FILE` for
each. Environment: HF_ENDPOINT (default https://huggingface.co), HF_TOKEN, and the usual proxy variables. Only weights
in safetensors, JSON, templates and licence texts are fetched: no code, no pickles. It does not know where models live.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from finery.core.errors import CorruptArtifact, InvalidRequest, Unavailable
from finery.modeling.manifests import sha256_of

Progress = Callable[[str, float], None]

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_WANTED = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|model\.safetensors\.index)\.json"
    r"|model(-\d{5}-of-\d{5})?\.safetensors|chat_template\.jinja|(LICEN[SC]E|NOTICE|USE_POLICY)[A-Za-z.]*"
)
_COMMIT_FILE = ".commit"
_TIMEOUT = httpx.Timeout(connect=10, read=60, write=60, pool=10)
_TRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    name: str
    size: int | None
    """Bytes, where the hub says."""
    sha256: str | None
    """Of large files only; the hub knows no SHA-256 of small ones."""


def fetch(repository: str, revision: str | None, folder: Path, *, progress: Progress) -> str:
    """Download `repository` at `revision` (None: main) into `folder`, going on with what is there; the commit's id.

    Unavailable if the hub can't be reached or refuses, with what to do; CorruptArtifact if a file came out wrong.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidRequest(f"{repository!r} is no repository of a hub; OWNER/NAME is.")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=endpoint, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as client:
        progress(f"asking {endpoint} for {repository}", 0.0)
        commit, files = _list(client, repository, revision)
        _prepare(folder, commit)
        total = sum(file.size or 0 for file in files) or 1
        done = 0
        for file in files:
            share = _Share(progress, file.name, done, total)
            _download(client, repository, commit, file, folder=folder, share=share)
            done += file.size or 0
    return commit


@dataclass(frozen=True, slots=True)
class _Share:
    """Progress of one file as a share of all."""

    progress: Progress
    name: str
    before: int
    total: int

    def __call__(self, done: int) -> None:
        self.progress(f"downloading {self.name}", min(0.95, 0.95 * (self.before + done) / self.total))


def _list(client: httpx.Client, repository: str, revision: str | None) -> tuple[str, list[_File]]:
    with _reaching(client, repository):
        response = client.get(f"/api/models/{repository}/revision/{revision or 'main'}", params={"blobs": "true"})
        _refuse(response, client, repository)
    try:
        body = response.json()
        commit, entries = body["sha"], body["siblings"]
        files = [_file(entry) for entry in entries if _WANTED.fullmatch(entry["rfilename"])]
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError("no commit id")
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{client.base_url} does not answer like a Hugging Face hub ({error}).") from error
    if not any(file.name.endswith(".safetensors") for file in files):
        raise InvalidRequest(f"{repository} has no safetensors weights at {commit}; pickled weights are never read.")
    return commit, files


def _file(entry: dict[str, Any]) -> _File:
    large = entry.get("lfs") or {}
    return _File(name=entry["rfilename"], size=large.get("size", entry.get("size")), sha256=large.get("sha256"))


def _prepare(folder: Path, commit: str) -> None:
    """What lies there of another commit is thrown away."""
    marker = folder / _COMMIT_FILE
    if folder.is_dir() and (not marker.is_file() or marker.read_text(encoding="ascii") != commit):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(commit, encoding="ascii")


def _download(
    client: httpx.Client, repository: str, commit: str, file: _File, *, folder: Path, share: Callable[[int], None]
) -> None:
    final, part = folder / file.name, folder / f"{file.name}.part"
    if final.is_file():
        return
    for attempt in range(1, _TRIES + 1):
        try:
            with _reaching(client, repository):
                _append(client, f"/{repository}/resolve/{commit}/{file.name}", part, share, repository)
            break
        except Unavailable:
            # A connection that breaks in the middle of gigabytes is common: go on from the last byte.
            if attempt == _TRIES or not part.is_file():
                raise
    if file.size is not None and part.stat().st_size != file.size:
        found = part.stat().st_size
        part.unlink()
        raise CorruptArtifact(
            f"{file.name} of {repository} came with {found} bytes instead of {file.size}. Pull again."
        )
    if file.sha256 is not None and sha256_of(part) != file.sha256:
        part.unlink()
        raise CorruptArtifact(f"{file.name} of {repository} came with another SHA-256 than the hub says. Pull again.")
    part.rename(final)


def _append(client: httpx.Client, url: str, part: Path, share: Callable[[int], None], repository: str) -> None:
    have = part.stat().st_size if part.is_file() else 0
    # As they are, or a range of bytes would be one of their compressed form.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is there; the size check decides
        _refuse(response, client, repository)
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as out:
            done = have if resumed else 0
            for chunk in response.iter_raw():
                out.write(chunk)
                done += len(chunk)
                share(done)


@contextmanager
def _reaching(client: httpx.Client, repository: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"The hub {client.base_url} can't be reached ({type(error).__name__}). Set HF_ENDPOINT to a mirror or "
            f"HTTPS_PROXY to a proxy; or download {repository} elsewhere, bring the folder here, and run "
            "`finery models import FOLDER --name ID`."
        ) from error


def _refuse(response: httpx.Response, client: httpx.Client, repository: str) -> None:
    if response.status_code in {401, 403}:
        raise Unavailable(
            f"{client.base_url} refuses {repository} ({response.status_code}). Accept the model's licence on its page, "
            "then set HF_TOKEN to a token that may read it."
        )
    if response.status_code == httpx.codes.NOT_FOUND:
        raise Unavailable(f"{client.base_url} has no {repository} at this revision; a mirror may not carry it.")
    if response.status_code >= 400:
        raise Unavailable(f"{client.base_url} answers {response.status_code} for {repository}; try again later.")
