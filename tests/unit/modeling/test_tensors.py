"""safetensors in numpy against the library itself, and files that lie about themselves."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from finery.core.errors import CorruptArtifact
from finery.modeling import tensors


def test_files_of_the_library_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    wanted = {str(kind): torch.randn(3, 5).to(kind) for kind in kinds} | {
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 4),
    }
    save_file(wanted, tmp_path / "a.safetensors", metadata={"format": "pt"})
    file = tensors.TensorFile(tmp_path / "a.safetensors")
    assert file.metadata == {"format": "pt"}
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(file.float32(name), tensor.float().numpy())


def test_written_files_are_read_by_the_library(tmp_path: Path) -> None:
    values = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.ones(4, np.float16),
        "s": np.array(3, np.int64),
    }
    tensors.write_tensors(tmp_path / "a.safetensors", values)
    for name, tensor in load_file(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(tensor.numpy(), values[name])


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_bfloat16_is_rounded_as_torch_rounds(values: list[float]) -> None:
    array = np.array(values, np.float32)
    rounded = tensors.float32_to_bf16(array)
    wanted = torch.from_numpy(array.copy()).bfloat16()
    np.testing.assert_array_equal(tensors.bf16_to_float32(rounded), wanted.float().numpy())


def test_shards_are_read_as_one_folder(tmp_path: Path) -> None:
    for i in (1, 2):
        tensors.write_tensors(tmp_path / f"model-0000{i}-of-00002.safetensors", {f"t{i}": np.full(3, i, np.float32)})
    index = {"weight_map": {f"t{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    folder = tensors.TensorFolder(tmp_path)
    assert folder.names() == ["t1", "t2"]
    assert folder.float32("t2").tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "pytorch_model.bin", 3, "missing.safetensors"])
def test_an_index_names_files_of_its_folder_only(tmp_path: Path, name: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CorruptArtifact):
        tensors.TensorFolder(tmp_path)


def entry(start: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape or [(end - start) // 4], "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12),
        ({"a": entry(0, 8), "b": entry(12, 16)}, 16),
        ({"a": entry(4, 8)}, 8),
        ({"a": entry(0, 8)}, 12),
        ({"a": entry(0, 8)}, 4),
        ({"a": entry(0, 8, [3])}, 8),
        ({"a": entry(0, 8, [-1, -2])}, 8),
        ({"a": entry(0, 8, [2.0])}, 8),
        ({"a": entry(0, 8, [True, 2])}, 8),
        ({"a": entry(8, 0, [2])}, 8),
        ({"a": entry(0, 8, dtype="F8")}, 8),
        ({"a": {"dtype": "F32"}}, 8),
        ({"a": 3}, 8),
        ({"__metadata__": {"a": 3}}, 0),
        ({"__metadata__": "x"}, 0),
        ([], 0),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, header: Any, size: int) -> None:
    _refused(tmp_path, json.dumps(header).encode(), size)


def test_headers_that_are_none_are_refused(tmp_path: Path) -> None:
    _refused(tmp_path, b"[" * 60_000, 0)
    _refused(tmp_path, b"\xff\xfe", 0)
    _refused(tmp_path, b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": 1}', 4)
    for content in (b"", b"1234567", struct.pack("<Q", 1 << 62) + b"{}", struct.pack("<Q", 0)):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(CorruptArtifact):
            tensors.TensorFile(tmp_path / "x.safetensors")


@settings(max_examples=150)
@given(at=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_header_is_an_error_or_read(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    tensors.write_tensors(path, {"one": np.ones((2, 3), np.float32), "two": np.zeros(5, np.float16)})
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content)
    try:
        file = tensors.TensorFile(path)
        for name in file.infos:
            file.float32(name)
    except CorruptArtifact:
        pass


def _refused(folder: Path, header: bytes, size: int) -> None:
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * size)
    with pytest.raises(CorruptArtifact):
        tensors.TensorFile(folder / "x.safetensors")
