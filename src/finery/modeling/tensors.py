"""safetensors files, read and written tensor by tensor with numpy; bfloat16, which numpy lacks, is uint16 here.

Format: https://github.com/huggingface/safetensors#format (8 bytes header length, little-endian; JSON header; tensor
bytes without gaps). The reader checks all of it, so that a hostile header costs a typed error and no memory.
It does not know names: what a tensor means is for `adapters`, `gguf_read` and `gguf_write`.
"""

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from finery.core.errors import CorruptArtifact

Array = NDArray[Any]

MAX_HEADER_BYTES = 100 << 20
"""The format's own bound; adapters get a tighter one."""

_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32}
_BYTES = {name: np.dtype(dtype).itemsize for name, dtype in _DTYPES.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """Where a tensor lies in its file."""

    dtype: str
    """The format's word: F32, F16, BF16, ..."""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the file's beginning."""
    end: int


class TensorFile:
    """One safetensors file, its tensors read on demand through a memory map."""

    def __init__(self, path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        """Read and check the header; CorruptArtifact names the file and what is wrong with it."""
        self.path = path
        self.infos, self.metadata = _read_header(path, max_header_bytes)
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else None

    def raw(self, name: str) -> Array:
        """The tensor as stored (BF16 as uint16): a read-only view into the map, of the tensor's shape."""
        info = self.infos[name]
        if info.start == info.end or self._bytes is None:
            return np.zeros(info.shape, _DTYPES[info.dtype])
        return np.frombuffer(self._bytes[info.start : info.end], _DTYPES[info.dtype]).reshape(info.shape)

    def float32(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32, of its shape; a copy unless it is stored so."""
        raw = self.raw(name)
        return bf16_to_float32(raw) if self.infos[name].dtype == "BF16" else raw.astype(np.float32, copy=False)


class TensorFolder:
    """All tensors of a model folder: `model.safetensors`, or the shards of `model.safetensors.index.json`."""

    def __init__(self, folder: Path) -> None:
        """Open every file once; CorruptArtifact if the weights are missing or a shard lacks what the index promises."""
        self.files: dict[str, TensorFile] = {}
        for name in weight_files(folder):
            file = TensorFile(folder / name)
            self.files.update(dict.fromkeys(file.infos, file))

    def names(self) -> list[str]:
        """The names of all tensors, in the files' order."""
        return list(self.files)

    def info(self, name: str) -> TensorInfo:
        """Dtype and shape of one tensor."""
        return self.files[name].infos[name]

    def raw(self, name: str) -> Array:
        """As `TensorFile.raw`."""
        return self.files[name].raw(name)

    def float32(self, name: str) -> NDArray[np.float32]:
        """As `TensorFile.float32`."""
        return self.files[name].float32(name)


class TensorWriter:
    """Writes one safetensors file: a header of names, dtypes and shapes known beforehand, then each tensor."""

    def __init__(
        self, path: Path, specs: Mapping[str, tuple[str, tuple[int, ...]]], *, metadata: Mapping[str, str] | None = None
    ) -> None:
        """`specs` gives (dtype word, shape) by name, in the order in which the tensors will be written."""
        header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
        at = 0
        for name, (dtype, shape) in specs.items():
            size = math.prod(shape) * _BYTES[dtype]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        self._expected = iter(list(specs.items()))
        self._out: BinaryIO = path.open("wb")
        self._out.write(struct.pack("<Q", len(encoded)) + encoded)

    def write(self, name: str, values: Array) -> None:
        """Write the next tensor, converted from float32 to its dtype where they differ (to nearest, ties to even)."""
        expected, (dtype, shape) = next(self._expected)
        assert (name, values.shape) == (expected, shape), f"{name} {values.shape} written for {expected} {shape}"
        if dtype == "BF16" and values.dtype != np.uint16:
            values = float32_to_bf16(values)
        self._out.write(np.ascontiguousarray(values, dtype=_DTYPES[dtype]).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            assert next(self._expected, None) is None, "not every tensor was written"
            self._out.flush()
            os.fsync(self._out.fileno())
        self._out.close()


def write_tensors(path: Path, tensors: Mapping[str, Array], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays held in memory as they are (float32, float16, uint16 for bfloat16, int64, ...), ordered by name."""
    words = {np.dtype(dtype): word for word, dtype in _DTYPES.items()}
    order = sorted(tensors)
    with TensorWriter(path, {n: (words[tensors[n].dtype], tensors[n].shape) for n in order}, metadata=metadata) as out:
        for name in order:
            out.write(name, tensors[name])


def weight_files(folder: Path) -> list[str]:
    """Names of a model folder's safetensors files, each once; CorruptArtifact if there are none or the index is bad."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        if not (folder / "model.safetensors").is_file():
            raise CorruptArtifact(f"{folder} has neither model.safetensors nor model.safetensors.index.json.")
        return ["model.safetensors"]
    try:
        names = list(dict.fromkeys(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CorruptArtifact(f"{index} is not an index of safetensors files.") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CorruptArtifact(f"{index} names {name!r}, which is no safetensors file of this folder.")
        if not (folder / name).is_file():
            raise CorruptArtifact(f"{folder / name} is missing, though the index lists it.")
    return names


def float32_to_bf16(values: Array) -> NDArray[np.uint16]:
    """Round float32 to bfloat16 (to nearest, ties to even; NaN stays NaN), as uint16 of the same shape."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)
    nan = np.isnan(values)
    if nan.any():
        rounded[nan] = 0x7FC0
    return rounded


def bf16_to_float32(values: Array) -> NDArray[np.float32]:
    """Widen bfloat16 (uint16) to float32, exactly, of the same shape."""
    return np.left_shift(values, 16, dtype=np.uint32).view(np.float32)


def all_finite(tensors: Iterable[Array]) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(np.isfinite(t).all()) for t in tensors)


def _read_header(path: Path, max_header_bytes: int) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if not 2 <= length <= min(max_header_bytes, size - 8):
                raise CorruptArtifact(
                    f"{path} has a header of {length} bytes; between 2 and {max_header_bytes} can be."
                )
            header = json.loads(source.read(length), object_pairs_hook=_without_duplicates)
        metadata = header.pop("__metadata__", {}) or {}
        infos = {name: _tensor_info(entry, 8 + length) for name, entry in header.items()}
        if not all(isinstance(v, str) for v in metadata.values()):
            raise ValueError("metadata is not text")
    except CorruptArtifact:
        raise
    except FileNotFoundError:
        raise CorruptArtifact(f"{path} is missing.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise CorruptArtifact(f"{path} is not a safetensors file ({error}).") from error
    at = 8 + length
    for name, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != at:
            raise CorruptArtifact(
                f"{path}: tensor {name} begins at byte {info.start}, not at {at}: a gap or an overlap."
            )
        at = info.end
    if at != size:
        raise CorruptArtifact(f"{path} has {size} bytes, its header describes {at}.")
    return infos, dict(metadata)


def _tensor_info(entry: dict[str, Any], base: int) -> TensorInfo:
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _BYTES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(_BYTES)}")
    whole = [*shape, start, end]
    if not all(type(n) is int and n >= 0 for n in whole) or len(shape) > 8:
        raise ValueError("shapes and offsets are whole numbers from 0 up")
    if end - start != math.prod(shape) * _BYTES[dtype]:
        raise ValueError(f"a tensor of shape {shape} and dtype {dtype} does not have {end - start} bytes")
    return TensorInfo(dtype=dtype, shape=tuple(shape), start=base + start, end=base + end)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result
