"""What of a stranger's model folder is taken in, and how it is cleaned: weights, tokenizer, template, licence; no code.

Taken: config.json and generation_config.json with known keys only, safetensors, tokenizer.json, the settings of the
tokenizer, the chat template (from tokenizer_config.json where it has no file of its own), licence texts. Real folders
of Phi-3 carry `auto_map` and Python files: those are left behind, since transformers has the architecture itself.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from finery.core.errors import CorruptArtifact, InvalidRequest
from finery.modeling.architectures import clean_config, read_config, read_json, tensors
from finery.modeling.tensors import TensorFolder, weight_files

WEIGHTS_INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
_TOKENIZER_KEYS = frozenset(
    """
    add_bos_token add_eos_token add_prefix_space bos_token eos_token unk_token pad_token clean_up_tokenization_spaces
    legacy model_max_length padding_side additional_special_tokens added_tokens_decoder
    """.split()  # noqa: SIM905
)
_GENERATION_KEYS = frozenset(
    "bos_token_id eos_token_id pad_token_id do_sample temperature top_k top_p repetition_penalty".split()  # noqa: SIM905
)
_TEMPLATE_FILE = "chat_template.jinja"


def take(source: Path, target: Path, *, move: bool) -> None:
    """Fill `target` from the Hugging Face folder `source`; `move` takes the weights themselves instead of a copy.

    InvalidRequest names what is missing or can't be taken.
    """
    _refuse_pickles(source)
    _write_json(target / "config.json", clean_config(_need(source, "config.json"), str(source / "config.json")))
    if (source / "generation_config.json").is_file():
        generation = read_json(source / "generation_config.json")
        _write_json(target / "generation_config.json", _kept(generation, _GENERATION_KEYS))
    _take_tokenizer(source, target)
    for pattern in _LICENCES:
        for path in source.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, target / path.name)
    names = weight_files(source)
    if (source / WEIGHTS_INDEX).is_file():
        _write_json(target / WEIGHTS_INDEX, _index(source, names))
    for name in names:
        if move:
            (source / name).rename(target / name)
        else:
            shutil.copyfile(source / name, target / name)


def check(folder: Path) -> dict[str, Any]:
    """The config of a filled folder, once its weights are seen to be all there in the shapes that the config asks for.

    A tensor that is missing would be filled with random numbers by the loader; CorruptArtifact names it instead.
    """
    config = read_config(folder)
    weights = TensorFolder(folder)
    for name, shape in tensors(config).items():
        if name not in weights.files:
            raise CorruptArtifact(f"The weights lack the tensor {name}, which {config['architectures'][0]} needs.")
        if weights.info(name).shape != shape:
            found = weights.info(name).shape
            raise CorruptArtifact(f"The tensor {name} has the shape {found}, the config asks for {shape}.")
    return config


def count_parameters(config: dict[str, Any]) -> int:
    """Weights in total of a model with this config."""
    return sum(math.prod(shape) for shape in tensors(config).values())


def _refuse_pickles(source: Path) -> None:
    if list(source.glob("*.safetensors")):
        return
    pickled = next((path for pattern in _PICKLED for path in sorted(source.glob(pattern))), None)
    if pickled is None:
        raise InvalidRequest(f"{source} holds no *.safetensors file; a Hugging Face folder with its weights is needed.")
    raise InvalidRequest(
        f"{pickled} is not taken: such files can run code when they are read. Convert the model to safetensors where "
        "you trust it (save_pretrained of transformers writes them), then import that folder."
    )


def _take_tokenizer(source: Path, target: Path) -> None:
    if not (source / "tokenizer.json").is_file():
        raise InvalidRequest(
            f"{source} has no tokenizer.json. Save it anew with transformers' save_pretrained, which writes one."
        )
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    settings = read_json(source / "tokenizer_config.json") if (source / "tokenizer_config.json").is_file() else {}
    if (source / "special_tokens_map.json").is_file():
        settings = {**read_json(source / "special_tokens_map.json"), **settings}
    kept = _kept(settings, _TOKENIZER_KEYS)
    _write_json(target / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **kept})
    if (source / _TEMPLATE_FILE).is_file():
        shutil.copyfile(source / _TEMPLATE_FILE, target / _TEMPLATE_FILE)
        return
    template = _default_template(settings.get("chat_template"))
    if template is None:
        raise InvalidRequest(
            f"{source} has no chat template. Take the model's instruct variant, or put a chat_template.jinja beside it."
        )
    (target / _TEMPLATE_FILE).write_text(template, encoding="utf-8")


def _index(source: Path, names: list[str]) -> dict[str, Any]:
    total = sum((source / name).stat().st_size for name in names)
    weight_map = json.loads((source / WEIGHTS_INDEX).read_bytes())["weight_map"]
    return {"metadata": {"total_size": total}, "weight_map": weight_map}


def _default_template(value: Any) -> str | None:
    """The template of a tokenizer_config.json: a text, or the one named `default` of a list."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _need(source: Path, name: str) -> dict[str, Any]:
    if not (source / name).is_file():
        raise InvalidRequest(f"{source} has no {name}; a Hugging Face model folder is needed.")
    return read_json(source / name)


def _kept(data: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key in keys}


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
