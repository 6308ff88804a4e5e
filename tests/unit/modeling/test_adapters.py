"""Adapters: what PEFT writes is read, what is written PEFT reads, and what is no plain LoRA of its base is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, Phi3Config, Phi3ForCausalLM

from finery.core.errors import CorruptArtifact, FineryError, InvalidRequest
from finery.modeling import adapters
from finery.modeling.adapters import AdapterConfig, read_adapter, target_layers, write_adapter

torch.set_num_threads(1)
SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
}
BASE = LlamaConfig(**SHAPE).to_dict()
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of PEFT's on q_proj and down_proj."""
    folder = tmp_path_factory.mktemp("made")
    _peft(LlamaForCausalLM(LlamaConfig(**SHAPE)), target_modules=["q_proj", "down_proj"]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}, {"lora_dropout": 0.1}])
@pytest.mark.parametrize("family", [LlamaForCausalLM, Phi3ForCausalLM])
def test_what_peft_writes_is_read(tmp_path: Path, options: dict[str, Any], family: Callable[..., Any]) -> None:
    config = (LlamaConfig if family is LlamaForCausalLM else Phi3Config)(**SHAPE)
    _peft(family(config), target_modules="all-linear", **options).save_pretrained(tmp_path)
    read, tensors = read_adapter(tmp_path, config.to_dict())
    wanted = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(tensors[name], values.numpy())
    assert (read.rank, read.alpha, read.rank_stabilised, read.dora) == (
        4, 16.0, "use_rslora" in options, "use_dora" in options
    )  # fmt: skip
    assert read.scale == (8.0 if read.rank_stabilised else 4.0)


def test_what_is_written_peft_reads(tmp_path: Path) -> None:
    layers = target_layers(BASE, ["q_proj", "gate_proj"])
    chance = np.random.default_rng(0)
    tensors = {}
    for layer in layers:
        outputs = 64 if layer.endswith("q_proj") else 96
        tensors[f"base_model.model.{layer}.lora_A.weight"] = chance.normal(size=(2, 64)).astype(np.float32)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = chance.normal(size=(outputs, 2)).astype(np.float32)
    config = AdapterConfig(base_model="tiny", rank=2, alpha=3.0, targets=("q_proj", "gate_proj"), rank_stabilised=True)
    write_adapter(tmp_path, config, tensors)
    assert read_adapter(tmp_path, BASE)[0] == AdapterConfig(**{**_fields(config), "targets": ("gate_proj", "q_proj")})
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    layer = model.model.layers[1].self_attn.q_proj
    plain = layer.weight.detach().clone()
    PeftModel.from_pretrained(model, tmp_path).merge_and_unload()
    prefix = "base_model.model.model.layers.1.self_attn.q_proj"
    delta = config.scale * tensors[f"{prefix}.lora_B.weight"] @ tensors[f"{prefix}.lora_A.weight"]
    np.testing.assert_allclose(
        model.model.layers[1].self_attn.q_proj.weight.detach().numpy(), plain.numpy() + delta, atol=1e-5
    )


def test_classification_heads_are_read(tmp_path: Path) -> None:
    model = LlamaForSequenceClassification(LlamaConfig(**SHAPE, num_labels=3))
    _peft(model, target_modules=["q_proj"], task_type="SEQ_CLS").save_pretrained(tmp_path)
    config, tensors = read_adapter(tmp_path, BASE)
    assert config.task == "SEQ_CLS"
    assert tensors[adapters.HEAD].shape == (3, 64)


def test_half_precision_adapters_are_widened(made: Path, tmp_path: Path) -> None:
    tensors = {name: values.bfloat16() for name, values in load_file(made / "adapter_model.safetensors").items()}
    _write(tmp_path, json.loads((made / "adapter_config.json").read_text()), tensors)
    for name, values in read_adapter(tmp_path, BASE)[1].items():
        np.testing.assert_array_equal(values, tensors[name].float().numpy())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("base_model_name_or_path", "https://example.org/x"),
        ("base_model_name_or_path", 3),
        ("auto_mapping", {"parent_library": "os"}),
        ("modules_to_save", ["embed_tokens"]),
        ("layer_replication", [[0, 2]]),
        ("rank_pattern", {"q_proj": 8}),
        ("alpha_pattern", {"q_proj": 8}),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["x"]),
        ("bias", "all"),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("init_lora_weights", "pissa"),
        ("layers_to_transform", [0]),
        ("something_new", True),
        ("r", 100_000),
        ("r", 0),
        ("r", "4"),
        ("r", True),
        ("lora_alpha", float("nan")),
        ("lora_alpha", 0),
        ("lora_dropout", 2),
        ("target_modules", ".*"),
        ("target_modules", []),
        ("target_modules", ["../x"]),
        ("target_modules", ["q_proj", "down_proj", "v_proj"]),
        ("target_modules", ["no_such"]),
        ("task_type", "SEQ_CLS"),
        ("use_dora", True),
    ],
)
def test_configs_beyond_plain_lora_are_refused(made: Path, tmp_path: Path, key: str, value: Any) -> None:
    config = json.loads((made / "adapter_config.json").read_text())
    _write(tmp_path, {**config, key: value}, load_file(made / "adapter_model.safetensors"))
    with pytest.raises(FineryError) as caught:
        read_adapter(tmp_path, BASE)
    assert str(tmp_path) in caught.value.message or "linear layer" in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop(f"{Q0}.lora_A.weight"),
        lambda t: t.clear(),
        lambda t: t.update({f"{Q0}.lora_A.weight": torch.zeros(5, 64)}),
        lambda t: t.update({f"{Q0}.lora_A.weight": torch.zeros(4, 63)}),
        lambda t: t.update({f"{Q0}.lora_A.weight": torch.zeros(4, 64, 1)}),
        lambda t: t.update({f"{Q0}.lora_B.weight": torch.zeros(65, 4)}),
        lambda t: t.update({f"{Q0}.lora_B.weight": torch.full((64, 4), torch.inf)}),
        lambda t: t.update({f"{Q0}.lora_B.weight": torch.full((64, 4), torch.nan)}),
        lambda t: t.update({f"{Q0}.lora_B.weight": torch.zeros(64, 4, dtype=torch.int64)}),
        lambda t: t.update({f"{Q0}.lora_magnitude_vector": torch.zeros(64)}),
        lambda t: t.update({f"{Q0}.weight": torch.zeros(64, 64)}),
        lambda t: t.update({adapters.HEAD: torch.zeros(2, 64)}),
        lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 64)}),
        lambda t: t.update({n.replace("layers.0", "layers.7"): v.clone() for n, v in list(t.items())}),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    made: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    tensors = load_file(made / "adapter_model.safetensors")
    change(tensors)
    _write(tmp_path, json.loads((made / "adapter_config.json").read_text()), tensors)
    with pytest.raises(InvalidRequest):
        read_adapter(tmp_path, BASE)


def test_another_bases_adapter_is_said_to_be_so(made: Path) -> None:
    other = LlamaConfig(**{**SHAPE, "hidden_size": 128}).to_dict()
    with pytest.raises(InvalidRequest, match="another base model"):
        read_adapter(made, other)


def test_huge_headers_and_missing_files_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match=r"adapter_config\.json is missing"):
        read_adapter(tmp_path)
    config = json.loads((made / "adapter_config.json").read_text())
    names = {f"base_model.model.model.layers.{i}.self_attn.q_proj.lora_A.weight": torch.zeros(1) for i in range(20_000)}
    _write(tmp_path, config, names)
    with pytest.raises(CorruptArtifact, match="header"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(CorruptArtifact, match="not JSON"):
        read_adapter(tmp_path)


def test_targets_are_the_layers_peft_takes() -> None:
    for targets in (["q_proj"], ["self_attn.v_proj", "down_proj"], "all-linear"):
        model = _peft(LlamaForCausalLM(LlamaConfig(**SHAPE)), target_modules=targets)
        wanted = {n.removeprefix("base_model.model.") for n, m in model.named_modules() if hasattr(m, "lora_A")}
        assert set(target_layers(BASE, [targets] if isinstance(targets, str) else targets)) == wanted


def _peft(model: Any, **options: Any) -> PeftModel:
    torch.manual_seed(3)
    config = LoraConfig(**{"r": 4, "lora_alpha": 16, "task_type": "CAUSAL_LM", "init_lora_weights": False, **options})
    return get_peft_model(model, config)


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")


def _fields(config: AdapterConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in AdapterConfig.__slots__}
