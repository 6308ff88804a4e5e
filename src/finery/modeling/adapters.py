"""LoRA adapters on disk, in PEFT's format: read with suspicion, written, and laid over their base model in numpy.

A folder holds `adapter_config.json` and `adapter_model.safetensors` with tensors such as
`base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` (rank, inputs), `...lora_B.weight` (outputs, rank),
with DoRA also `...lora_magnitude_vector` (outputs), and for a classification head `base_model.model.score.weight`.
Adapters come from strangers: what isn't plain LoRA on the linear layers of its base is refused by name. It does not
know optimizers or torch.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finery.core.errors import InvalidRequest
from finery.modeling.architectures import linear_layers, read_json
from finery.modeling.tensors import Array, TensorFile, write_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
ALL_LINEAR = "all-linear"
MAX_RANK = 512
MAX_HEADER_BYTES = 1 << 20
MAX_LABELS = 10_000
PREFIX = "base_model.model."
HEAD = f"{PREFIX}score.weight"
"""The classification head beside an adapter: (labels, hidden)."""

Float32 = NDArray[np.float32]
Task = Literal["CAUSAL_LM", "SEQ_CLS"]

_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector)")
_TARGET = re.compile(r"[A-Za-z0-9_.]{1,128}")
# Without effect on what an adapter computes, whatever they say.
_IDLE_KEYS = frozenset(
    """
    base_model_name_or_path eva_config exclude_modules inference_mode init_lora_weights megatron_core peft_version
    qalora_group_size revision
    """.split()  # noqa: SIM905
)
_READ_KEYS = frozenset(
    "lora_alpha lora_dropout modules_to_save peft_type r target_modules task_type use_dora use_rslora".split()  # noqa: SIM905
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """What an adapter is, in PEFT's words."""

    base_model: str
    """Name of the base model; a label, never followed to a file or a hub."""
    rank: int
    alpha: float
    targets: tuple[str, ...]
    """Names of the adapted layers, or their last parts, or the one word all-linear."""
    dropout: float = 0.0
    """Of training; without effect afterwards."""
    rank_stabilised: bool = False
    """rsLoRA: scaled by alpha / sqrt(rank)."""
    dora: bool = False
    task: Task = "CAUSAL_LM"

    @property
    def scale(self) -> float:
        """What B A x is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    def to_json(self) -> dict[str, Any]:
        """The content of adapter_config.json, complete enough for PEFT and vLLM."""
        return {
            "peft_type": "LORA",
            "task_type": self.task,
            "base_model_name_or_path": self.base_model,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": sorted(self.targets) if self.targets != (ALL_LINEAR,) else ALL_LINEAR,
            "use_rslora": self.rank_stabilised,
            "use_dora": self.dora,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "modules_to_save": ["score"] if self.task == "SEQ_CLS" else None,
        }

    @staticmethod
    def parse(data: Mapping[str, Any], origin: str) -> "AdapterConfig":
        """From adapter_config.json; InvalidRequest names the key that asks for more than plain LoRA, or is wrong."""
        if data.get("peft_type") != "LORA":
            raise InvalidRequest(f"{origin}: peft_type is {data.get('peft_type')!r}; only LORA adapters are taken.")
        for key, value in data.items():
            plain = value in (None, False, "none", {}, [])
            if not plain and key not in _IDLE_KEYS and key not in _READ_KEYS:
                raise InvalidRequest(
                    f"{origin}: {key} = {_shortened(value)} is more than plain LoRA, and is not taken."
                )
        base = data.get("base_model_name_or_path") or ""
        if not isinstance(base, str) or "://" in base or len(base) > 512:
            raise InvalidRequest(
                f"{origin}: base_model_name_or_path is {_shortened(base)}; a name is wanted, not a URL."
            )
        if data.get("init_lora_weights", True) not in (True, False, "gaussian", "eva", "orthogonal"):
            start = _shortened(data["init_lora_weights"])
            raise InvalidRequest(f"{origin}: init_lora_weights {start} changes the base model too, and is not taken.")
        task: Task = data.get("task_type") or "CAUSAL_LM"
        saved = set(data.get("modules_to_save") or ())
        if task not in ("CAUSAL_LM", "SEQ_CLS") or not saved <= (
            {"score", "classifier"} if task == "SEQ_CLS" else set()
        ):
            raise InvalidRequest(f"{origin}: task_type {task!r} with modules_to_save {sorted(saved)} is not taken.")
        return AdapterConfig(
            base_model=base,
            rank=_number(data, "r", origin, low=1, high=MAX_RANK, whole=True),
            alpha=float(_number(data, "lora_alpha", origin, low=1e-6, high=1e6)),
            dropout=float(_number({"lora_dropout": 0, **data}, "lora_dropout", origin, low=0, high=1)),
            targets=_targets(data.get("target_modules"), origin),
            rank_stabilised=bool(data.get("use_rslora")),
            dora=bool(data.get("use_dora")),
            task=task,
        )


def read_adapter(folder: Path, base: Mapping[str, Any] | None = None) -> tuple[AdapterConfig, dict[str, Float32]]:
    """An adapter's config and its tensors by PEFT's names, as float32; checked against a base model's config if given.

    InvalidRequest or CorruptArtifact name what is wrong: a key, a tensor, its shape, a value that isn't finite.
    """
    config = read_adapter_config(folder)
    file = TensorFile(folder / WEIGHTS_FILE, max_header_bytes=MAX_HEADER_BYTES)
    shapes = {name: info.shape for name, info in file.infos.items()}
    origin = str(folder / WEIGHTS_FILE)
    for name, info in file.infos.items():
        if info.dtype not in {"F32", "F16", "BF16"}:
            raise InvalidRequest(f"{origin}: {name} has the dtype {info.dtype}; F32, F16 and BF16 are taken.")
    _check_names(config, shapes, origin)
    if base is not None:
        _check_against(config, shapes, base, origin)
    tensors = {name: file.float32(name) for name in shapes}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise InvalidRequest(f"{origin}: {name} holds values that are not finite.")
    return config, tensors


def read_adapter_config(folder: Path) -> AdapterConfig:
    """An adapter's config alone."""
    return AdapterConfig.parse(read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE))


def write_adapter(folder: Path, config: AdapterConfig, tensors: Mapping[str, Array]) -> None:
    """Write the two files of an adapter into an existing folder; publishing it is `manifests`' business."""
    _check_names(config, {name: values.shape for name, values in tensors.items()}, str(folder))
    write_tensors(folder / WEIGHTS_FILE, tensors)
    (folder / CONFIG_FILE).write_text(json.dumps(config.to_json(), indent=2) + "\n", encoding="utf-8")


def target_layers(base: Mapping[str, Any], targets: Iterable[str]) -> list[str]:
    """The base's linear layers that `targets` name, by whole name or last parts; `all-linear` names all of them.

    InvalidRequest if a target names no layer.
    """
    layers, wanted = list(linear_layers(dict(base))), list(targets)
    if wanted == [ALL_LINEAR]:
        return layers
    for target in wanted:
        if not any(_names(target, layer) for layer in layers):
            known = ", ".join(sorted({layer.rpartition(".")[2] for layer in layers}))
            raise InvalidRequest(
                f"The base model has no linear layer {target!r}; it has {known}.", param="target_modules"
            )
    return [layer for layer in layers if any(_names(target, layer) for target in wanted)]


def module_name(tensor: str) -> str:
    """The module of an adapter's tensor: `model.layers.0.self_attn.q_proj`."""
    match = _NAME.fullmatch(tensor)
    if match is None:
        raise InvalidRequest(f"{tensor} is no tensor of a LoRA adapter.")
    return match["module"]


def _check_names(config: AdapterConfig, shapes: Mapping[str, tuple[int, ...]], origin: str) -> None:
    """Each adapted module has its A and B of one rank, and its magnitude exactly when the adapter is DoRA's."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if name != HEAD:
            match = _NAME.fullmatch(name)
            if match is None:
                raise InvalidRequest(f"{origin}: {name} is no tensor of a LoRA adapter.")
            modules.setdefault(match["module"], {})[match["part"]] = shape
    if not modules:
        raise InvalidRequest(f"{origin} adapts no layer.")
    wanted = {"lora_A.weight", "lora_B.weight"} | ({"lora_magnitude_vector"} if config.dora else set())
    for module, parts in modules.items():
        if set(parts) != wanted:
            raise InvalidRequest(
                f"{origin}: {module} has {', '.join(sorted(parts))}; {', '.join(sorted(wanted))} is needed."
            )
        a, b = parts["lora_A.weight"], parts["lora_B.weight"]
        if len(a) != 2 or len(b) != 2 or a[0] != config.rank or b[1] != config.rank:
            raise InvalidRequest(f"{origin}: {module} has A {a} and B {b}, which are not of rank {config.rank}.")
        if config.dora and parts["lora_magnitude_vector"] != (b[0],):
            raise InvalidRequest(f"{origin}: the magnitude of {module} is not of shape ({b[0]},).")
    if (HEAD in shapes) != (config.task == "SEQ_CLS"):
        raise InvalidRequest(f"{origin}: {HEAD} belongs to task_type SEQ_CLS, and to it only.")


def _check_against(
    config: AdapterConfig, shapes: Mapping[str, tuple[int, ...]], base: Mapping[str, Any], origin: str
) -> None:
    """The adapted modules are those that the targets name, all of them, in the base's shapes."""
    layers = linear_layers(dict(base))
    found = {module_name(name) for name in shapes if name != HEAD}
    for module in sorted(found - set(layers)):
        raise InvalidRequest(f"{origin}: {module} is no linear layer of the base model.")
    missing = set(target_layers(base, config.targets)) - found
    if missing:
        raise InvalidRequest(f"{origin}: {sorted(missing)[0]} is named by target_modules but has no tensors.")
    for module in found:
        outputs, inputs = layers[module]
        a, b = shapes[f"{PREFIX}{module}.lora_A.weight"], shapes[f"{PREFIX}{module}.lora_B.weight"]
        if a[1] != inputs or b[0] != outputs:
            raise InvalidRequest(
                f"{origin}: {module} maps {a[1]} to {b[0]} values, the base model's maps {inputs} to {outputs}. "
                "The adapter belongs to another base model."
            )
    if HEAD in shapes:
        head = shapes[HEAD]
        if len(head) != 2 or head[1] != base["hidden_size"] or not 1 <= head[0] <= MAX_LABELS:
            raise InvalidRequest(f"{origin}: {HEAD} has the shape {head}; (labels, {base['hidden_size']}) is needed.")


def _targets(value: Any, origin: str) -> tuple[str, ...]:
    names = [value] if value == ALL_LINEAR else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and _TARGET.fullmatch(n) for n in names):
        raise InvalidRequest(f"{origin}: target_modules is {_shortened(value)}; a list of layer names is wanted.")
    return tuple(names) if value == ALL_LINEAR else tuple(sorted(set(names)))


def _names(target: str, layer: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _number(data: Mapping[str, Any], key: str, origin: str, *, low: float, high: float, whole: bool = False) -> Any:
    value = data.get(key)
    kind = type(value) is int or (type(value) is float and not whole)
    if not kind or not low <= value <= high:  # type: ignore[operator]
        raise InvalidRequest(f"{origin}: {key} is {_shortened(value)}; {low} to {high} can be.")
    return value


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
