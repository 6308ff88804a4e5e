"""Which of GGUF's types each tensor of a model gets, and its bytes: f16 as it comes, or a quantisation by the name
that llama.cpp's own tool knows it by. It writes no files.

The mixes follow llama.cpp: more bits for the embedding that is also the output, and in every third layer for what
suffers most (attention's values, the feed-forward's way down); where a row can't be cut into a type's blocks, the next
larger type. The packing itself is ggml's, called in the library of `xllamacpp`.

Types and blocks: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, names as in the `gguf` package.
"""

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

from finery.core.errors import InvalidRequest, Unavailable

_Type = GGMLQuantizationType

_F16_END = 65520.0
"""From here on float16 rounds to infinity."""

_LARGER = {_Type.Q4_K: _Type.Q5_0, _Type.Q5_K: _Type.Q5_1, _Type.Q6_K: _Type.Q8_0}
"""For rows that are no multiple of 256: the type with blocks of 32 that has more bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantization:
    """One way to store a model, by its name in llama.cpp."""

    name: str
    file_type: LlamaFileType
    most: GGMLQuantizationType
    """What most matrices get."""
    careful: GGMLQuantizationType
    """What the output, and in some layers the most sensitive matrices get."""


QUANTIZATIONS = {
    one.name: one
    for one in (
        Quantization(name="f16", file_type=LlamaFileType.MOSTLY_F16, most=_Type.F16, careful=_Type.F16),
        Quantization(name="q8_0", file_type=LlamaFileType.MOSTLY_Q8_0, most=_Type.Q8_0, careful=_Type.Q8_0),
        Quantization(name="q6_k", file_type=LlamaFileType.MOSTLY_Q6_K, most=_Type.Q6_K, careful=_Type.Q6_K),
        Quantization(name="q5_k_m", file_type=LlamaFileType.MOSTLY_Q5_K_M, most=_Type.Q5_K, careful=_Type.Q6_K),
        Quantization(name="q4_k_m", file_type=LlamaFileType.MOSTLY_Q4_K_M, most=_Type.Q4_K, careful=_Type.Q6_K),
    )
}


def type_of(quantization: Quantization, name: str, shape: tuple[int, ...], *, layers: int, tied: bool) -> _Type:
    """The type of one tensor by its GGUF name, such as `blk.3.attn_v.weight`, and its shape (rows, columns).

    `tied`: the embedding is the output as well.
    """
    if len(shape) < 2:
        return _Type.F32
    chosen = quantization.careful if _needs_care(name, layers, tied) else quantization.most
    if shape[-1] % GGML_QUANT_SIZES[chosen][0]:
        chosen = _LARGER.get(chosen, _Type.F16)
    return _Type.F16 if shape[-1] % GGML_QUANT_SIZES[chosen][0] else chosen


def packed_bytes(kind: GGMLQuantizationType, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in bytes of a tensor's rows once they are packed."""
    block, size = GGML_QUANT_SIZES[kind]
    return (*shape[:-1], shape[-1] // block * size)


def pack(name: str, values: NDArray[np.float32], kind: GGMLQuantizationType) -> NDArray[Any]:
    """The tensor's values as they are written: float32, float16, or blocks of bytes.

    Raises:
        InvalidRequest: a value that float16 can't hold.
    """
    if kind == _Type.F32:
        return values
    # NaN compares as false, so that it is refused too.
    if not (values.max(initial=0) < _F16_END and values.min(initial=0) > -_F16_END):
        raise InvalidRequest(
            f"{name} holds values beyond ±65504, which GGUF's f16 can't; the model can't be served by llama.cpp."
        )
    if kind == _Type.F16:
        return values.astype(np.float16)
    source = np.ascontiguousarray(values)
    packed = np.empty(packed_bytes(kind, values.shape), dtype=np.uint8)
    columns = values.shape[-1]
    rows = values.size // columns
    written = _quantize_chunk()(kind, source.ctypes.data, packed.ctypes.data, 0, rows, columns, None)
    assert written == packed.nbytes, (name, written, packed.nbytes)
    return packed


def _needs_care(name: str, layers: int, tied: bool) -> bool:
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return True
    parts = name.split(".")
    if parts[0] != "blk" or parts[2] not in ("attn_v", "attn_qkv", "ffn_down"):
        return False
    layer, eighth = int(parts[1]), layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


@functools.cache
def _quantize_chunk() -> Callable[..., int]:
    try:
        from xllamacpp import xllamacpp
    except ImportError as error:
        raise Unavailable(
            "Quantizing needs llama.cpp's library, which isn't installed: pip install 'finery[serving]'."
        ) from error
    function = ctypes.CDLL(xllamacpp.__file__).ggml_quantize_chunk
    numbers = [ctypes.c_int64] * 3
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *numbers, ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    return function
