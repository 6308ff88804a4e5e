"""An adapter merged into its base model's weights, tensor by tensor in float32, for export and engines without LoRA.

W' = W + scale B A; with DoRA, W' = m (W + scale B A) / ||W + scale B A|| with the norm of each row (Liu et al. 2024,
arXiv 2402.09353). Sums are taken in float32 whatever the base is stored in; only the result is rounded, once.
"""

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np

from finery.core.errors import InvalidRequest
from finery.modeling.adapters import PREFIX, AdapterConfig, Float32, read_adapter
from finery.modeling.architectures import read_config
from finery.modeling.tensors import Array, TensorFile, TensorFolder, TensorInfo, TensorWriter, weight_files

_COPIED = ("*.json", "*.jinja", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
_NOT_COPIED = frozenset({"finery.json", "manifest.json"})


class MergedFolder:
    """A model folder's tensors with an adapter laid over them; the same methods as `TensorFolder`."""

    def __init__(self, model_folder: Path, adapter_folder: Path) -> None:
        """InvalidRequest if the adapter is not one of this base, or holds a head that no language model has."""
        self._base = TensorFolder(model_folder)
        self._config, self._adapter = read_adapter(adapter_folder, read_config(model_folder))
        if self._config.task != "CAUSAL_LM":
            raise InvalidRequest(
                f"{adapter_folder} has a classification head; only the adapter itself can be exported."
            )

    def names(self) -> list[str]:
        """The names of all tensors, in the files' order."""
        return self._base.names()

    def info(self, name: str) -> TensorInfo:
        """Dtype and shape of one tensor of the base."""
        return self._base.info(name)

    def raw(self, name: str) -> Array:
        """The tensor as stored if no adapter touches it, else its merged values in float32."""
        return self.float32(name) if self._touched(name) else self._base.raw(name)

    def float32(self, name: str) -> Float32:
        """The merged tensor, as float32."""
        weight = self._base.float32(name)
        return (
            merged(weight, name.removesuffix(".weight"), self._config, self._adapter) if self._touched(name) else weight
        )

    def _touched(self, name: str) -> bool:
        return name.endswith(".weight") and f"{PREFIX}{name.removesuffix('.weight')}.lora_A.weight" in self._adapter


def merged(weight: Float32, module: str, config: AdapterConfig, adapter: dict[str, Float32]) -> Float32:
    """The weight (outputs, inputs) of one module with its adapter merged in, float32."""
    prefix = f"{PREFIX}{module}"
    delta = adapter[f"{prefix}.lora_B.weight"] @ adapter[f"{prefix}.lora_A.weight"]
    result: Float32 = weight + np.float32(config.scale) * delta
    if config.dora:
        magnitude = adapter[f"{prefix}.lora_magnitude_vector"]
        result *= (magnitude / np.linalg.norm(result, axis=1))[:, None]
    return result


def merge(
    model_folder: Path, adapter_folder: Path, out_folder: Path, *, dtype: Literal["base", "F32", "F16", "BF16"] = "base"
) -> None:
    """Write the merged model as a Hugging Face folder into the existing `out_folder`, stored as `dtype`.

    The tokenizer, template and licence come along. InvalidRequest if the adapter is not one of this base.
    """
    tensors = MergedFolder(model_folder, adapter_folder)
    copy_companions(model_folder, out_folder)
    if dtype != "base":
        words = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
        config = {k: v for k, v in read_config(model_folder).items() if k != "dtype"} | {"torch_dtype": words[dtype]}
        (out_folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in weight_files(model_folder):
        infos = TensorFile(model_folder / name).infos
        specs = {n: (info.dtype if dtype == "base" else dtype, info.shape) for n, info in infos.items()}
        with TensorWriter(out_folder / name, specs) as out:
            for tensor, (word, _) in specs.items():
                same = word == infos[tensor].dtype
                out.write(tensor, tensors.raw(tensor) if same else tensors.float32(tensor))


def copy_model(model_folder: Path, out_folder: Path) -> None:
    """Copy a model as it is into the existing `out_folder`: weights, tokenizer, template and licence."""
    copy_companions(model_folder, out_folder)
    for name in weight_files(model_folder):
        shutil.copyfile(model_folder / name, out_folder / name)


def copy_companions(model_folder: Path, out_folder: Path) -> None:
    """Copy all that belongs to a model but its weights, and what Finery itself wrote."""
    for pattern in _COPIED:
        for path in model_folder.glob(pattern):
            if path.name not in _NOT_COPIED:
                shutil.copyfile(path, out_folder / path.name)
