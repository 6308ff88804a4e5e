"""Manifests: what a published folder holds, by size and SHA-256, and how such a folder comes to be, all or nothing.

A folder is filled under a temporary name beside its final one, gets its manifest last, and is then published: every
file and folder is fsynced, the folder renamed, its parent fsynced. Whoever finds the final name finds it complete.
It does not know what the files mean: base models, checkpoints, results and adapters all use it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from finery.core.errors import CorruptArtifact, StorageFull

MANIFEST_FILE = "manifest.json"
_MAX_MANIFEST_BYTES = 16 << 20
_PART = ".part"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFact:
    """One file of a manifest."""

    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a folder's manifest says."""

    files: dict[str, FileFact]
    """By path relative to the folder, with forward slashes."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the writer added: step, loss, source, ... as plain JSON."""


def write_manifest(folder: Path, *, name: str = MANIFEST_FILE, **facts: Any) -> Manifest:
    """Write, atomically, the manifest of all other files now in `folder`; `facts` are plain JSON.

    The manifest is sealed with a SHA-256 of its own content, so that a flipped bit in a fact is found as well.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise CorruptArtifact(
                f"{path} is a link; a published folder holds plain files only. Copy the file instead."
            )
        if path.is_file() and relative != name:
            files[relative] = FileFact(size=path.stat().st_size, sha256=sha256_of(path))
    body = {"files": {k: {"size": f.size, "sha256": f.sha256} for k, f in files.items()}, "facts": facts}
    text = json.dumps({**body, "seal": _seal(body)}, indent=1, ensure_ascii=False)
    write_file(folder / name, text.encode())
    return Manifest(files=files, facts=json.loads(json.dumps(facts)))


def read_manifest(folder: Path, *, name: str = MANIFEST_FILE) -> Manifest:
    """Read a manifest, checking its seal and nothing else; CorruptArtifact when it is missing or damaged."""
    path = folder / name
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise CorruptArtifact(f"{path} is larger than any manifest; the folder was not written by Finery.")
        data = json.loads(path.read_bytes())
        files = {k: FileFact(size=int(f["size"]), sha256=str(f["sha256"])) for k, f in data["files"].items()}
        facts = dict(data["facts"])
        intact = data["seal"] == _seal({"files": data["files"], "facts": data["facts"]})
    except FileNotFoundError:
        raise CorruptArtifact(f"{folder} has no {name}: it was never completed, or is not one of Finery's.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptArtifact(f"{path} can't be read as a manifest ({type(error).__name__}).") from error
    if not intact:
        raise CorruptArtifact(f"{path} was changed after it was written: its seal does not fit its content.")
    for relative in files:
        _check_relative(folder, relative)
    return Manifest(files=files, facts=facts)


def check_sizes(folder: Path, *, name: str = MANIFEST_FILE) -> Manifest:
    """Read a manifest and see that every file is there at its size: cheap, and finds what was cut or lost."""
    manifest = read_manifest(folder, name=name)
    for relative, fact in manifest.files.items():
        path = folder / relative
        if path.is_symlink() or not path.is_file():
            raise CorruptArtifact(f"{path} is missing, though {name} lists it.")
        if path.stat().st_size != fact.size:
            raise CorruptArtifact(f"{path} has {path.stat().st_size} bytes, {name} says {fact.size}.")
    return manifest


def verify(folder: Path, *, name: str = MANIFEST_FILE) -> Manifest:
    """Read a manifest and every byte it lists; CorruptArtifact names the first file that isn't as written.

    Files which the manifest does not list are not looked at: some, such as a GGUF made on demand, come later.
    """
    manifest = check_sizes(folder, name=name)
    for relative, fact in manifest.files.items():
        if sha256_of(folder / relative) != fact.sha256:
            raise CorruptArtifact(f"{folder / relative} has other content than {name} says (SHA-256 differs).")
    return manifest


@contextmanager
def fill(final: Path) -> Iterator[Path]:
    """Give a temporary folder beside `final`; publish it when the block ends well, remove it when it doesn't.

    StorageFull if the disk has no room. A killed process leaves a `.NAME.*.part` behind, which `sweep` removes.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=_PART, dir=final.parent))
    try:
        yield temp
        publish(temp, final)
    except BaseException as error:
        shutil.rmtree(temp, ignore_errors=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageFull(f"No space left to write {final}; free some, or move FINERY_HOME.") from error
        raise


def sweep(parent: Path) -> None:
    """Remove what processes that were killed long ago left half-filled in `parent`."""
    for path in parent.glob(f".*{_PART}"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def publish(temp: Path, final: Path) -> None:
    """Make `temp` (same file system) appear as `final`, durably and at once; an older `final` is replaced.

    A crash leaves the old folder, the new one, or, for the moment between two renames, none: never a mixture.
    """
    temp.chmod(0o755)
    sync_tree(temp)
    old = None
    if final.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".old", dir=final.parent))
        final.rename(old)
    temp.rename(final)
    _sync(final.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Fsync every file and folder below `folder`, and itself."""
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def write_file(path: Path, content: bytes) -> None:
    """Write one file atomically and durably: temporary name, fsync, rename, fsync of the folder."""
    handle, temp = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        Path(temp).chmod(0o644)
        Path(temp).replace(path)
    except BaseException:
        Path(temp).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as lower-case hexadecimal."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _seal(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check_relative(folder: Path, relative: str) -> None:
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or re.search(r"[\\\x00]", relative):
        raise CorruptArtifact(f"{folder} has a manifest that names a file outside of it: {relative!r}.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
