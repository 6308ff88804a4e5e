"""GGUF files of models and adapters, made where they are missing, once, however many processes ask.

`model.f16.gguf` lies in the base model's folder, `adapter.gguf` in the adapter's. A file is written under another name
and renamed when it is whole; a lock file keeps two writers apart. How GGUF is written, `modeling.gguf_write` knows.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finery.core.errors import StorageFull
from finery.modeling import gguf_write
from finery.modeling.adapters import read_adapter
from finery.modeling.architectures import read_config

MODEL_FILE = "model.f16.gguf"
ADAPTER_FILE = "adapter.gguf"
_ENOSPC = 28


def model_gguf(model_folder: Path) -> Path:
    """The base model as GGUF, f16. Raises CorruptArtifact for a damaged model, StorageFull when there is no room."""
    return _make(model_folder / MODEL_FILE, lambda out: gguf_write.write_model(model_folder, out))


def adapter_gguf(model_folder: Path, adapter_folder: Path) -> Path:
    """An adapter as GGUF. Raises InvalidRequest for another base's adapter, CorruptArtifact for a damaged one."""
    # Read also where the file is there already: it may have been made for another base.
    read_adapter(adapter_folder, read_config(model_folder))
    path = adapter_folder / ADAPTER_FILE
    return _make(path, lambda out: gguf_write.write_adapter(model_folder, adapter_folder, out))


def _make(path: Path, write: Callable[[Path], None]) -> Path:
    if path.exists():
        return path
    with _locked(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return path
        temporary = path.with_name(f".{path.name}.part")
        try:
            write(temporary)
            _flush(temporary)
            temporary.replace(path)
        except OSError as error:
            if error.errno == _ENOSPC:
                raise StorageFull(f"No space left to write {path}; free some, or move FINERY_HOME.") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed by the kernel, also when the holder is killed
        yield


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
