"""The model in training against transformers and PEFT: same logits, same gradients, same files, whatever is packed."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from finery.core.errors import InvalidRequest
from finery.training.kernels.layers import FeedForward, SelfAttention
from finery.training.model import TrainableModel
from finery.training.packing import pack
from finery.training.spec import LoraSpec, RunSpec

SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "phi3": Phi3Config(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "mistral": MistralConfig(**SIZES, sliding_window=6),
    "smollm3": SmolLM3Config(**SIZES, no_rope_layers=[1, 0]),
}
VARIANTS = {
    "lora": LoraSpec(rank=4, alpha=8),
    "rslora": LoraSpec(rank=4, alpha=8, rank_stabilised=True),
    "dora": LoraSpec(rank=4, alpha=8, dora=True),
    "two targets": LoraSpec(rank=4, alpha=8, targets=("o_proj", "down_proj")),
}
DOCUMENTS = [[5, 9, 2, 77, 31, 8, 100, 4, 4, 9, 12], [3], [7, 8, 9, 10], [60, 61, 62, 63, 64, 65, 66, 67, 68, 69]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random model of each architecture on disk; biases and norms are random too."""
    found = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
    return found


def spec_of(folder: Path, lora: LoraSpec = VARIANTS["lora"], **others: Any) -> RunSpec:
    return (
        RunSpec(job_id="j", base_model="tiny", model_folder=str(folder), training_file="", precision="fp32", lora=lora)
        if not others
        else replace(spec_of(folder, lora), **others)
    )


def examples() -> list[SimpleNamespace]:
    return [SimpleNamespace(tokens=d, weights=[float(i > 1) for i in range(len(d))]) for d in DOCUMENTS]


def shaken(model: TrainableModel, seed: int = 5) -> TrainableModel:
    """With every trained tensor moved, so that an adapter matters."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in model.state().items()
    }
    model.load_state(state)
    return model


def saved(model: TrainableModel, folder: Path) -> Path:
    save_file(model.state(), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(model.adapter_config()))
    return folder


def reference_hidden(model: Any) -> torch.Tensor:
    """Last hidden states of the documents one by one, in transformers' eager code."""
    return torch.cat([model(input_ids=torch.tensor([document])).last_hidden_state[0] for document in DOCUMENTS])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_adapter_gives_the_same_logits_and_gradients_in_peft(
    folders: dict[str, Path], tmp_path: Path, name: str, variant: str
) -> None:
    lora = VARIANTS[variant]
    model = shaken(TrainableModel.load(spec_of(folders[name], lora), "cpu"))
    base = AutoModelForCausalLM.from_pretrained(folders[name], attn_implementation="eager")
    peft = PeftModel.from_pretrained(base, saved(model, tmp_path), is_trainable=True)

    packed = pack(examples(), "cpu")
    hidden = model.hidden(packed)
    theirs = reference_hidden(peft.base_model.model.model)
    head = peft.base_model.model.get_output_embeddings()
    torch.testing.assert_close(head(hidden), head(theirs), rtol=1e-5, atol=1e-5)

    sums = model.cross_entropy(hidden, packed.targets_T, packed.weights_T)
    sums.loss_sum.backward()
    losses = F.cross_entropy(head(theirs), packed.targets_T, reduction="none")
    (losses * packed.weights_T).sum().backward()
    ours = {name: parameter.grad for name, parameter in model.trainable.items()}
    for name, parameter in peft.named_parameters():
        if parameter.requires_grad:
            key = name.replace(".default.weight", "" if "magnitude" in name else ".weight").replace(".default", "")
            torch.testing.assert_close(ours.pop(key), parameter.grad, rtol=1e-3, atol=1e-4)
    assert not ours


SYSTEM, QUESTION = list(range(3, 90)), [50, 3] * 45
ALIKE = [[*SYSTEM, 5, 6], [*SYSTEM, *QUESTION, 7, 8, 9], [60, 61, 62], [*SYSTEM, *QUESTION, 9, 9], [*SYSTEM, 5, 7, 8]]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_shared_beginning_changes_neither_losses_nor_gradients_nor_last_states(
    folders: dict[str, Path], name: str, method: str
) -> None:
    alike = [SimpleNamespace(tokens=d, weights=[0.0] * (len(d) - 2) + [0.5, 1.0]) for d in ALIKE]
    found = []
    for share in (False, True):
        model = shaken(TrainableModel.load(spec_of(folders[name], method=method), "cpu"))
        packed = pack(alike, "cpu", share=share)
        hidden = model.hidden(packed)
        trained = packed.trained_N
        sums = model.cross_entropy(hidden[trained], packed.targets_T[trained], packed.weights_T[trained])
        (sums.loss_sum + hidden[packed.last_D].sum()).backward()
        grads = {key: parameter.grad for key, parameter in model.trainable.items() if parameter.grad is not None}
        found.append((len(packed.tokens_T), sums.loss_sum.detach(), hidden[packed.last_D].detach(), grads))
    (whole, *expected), (shared, *ours) = found
    # The last token of each beginning predicts a trained one somewhere, so it is not shared.
    assert shared == whole - 3 * (len(SYSTEM) - 1) - len(QUESTION)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen2", "qwen3", "mistral"])
def test_well_known_architectures_run_on_our_layers(folders: dict[str, Path], name: str) -> None:
    model = TrainableModel.load(spec_of(folders[name]), "cpu")
    kinds = [type(module) for module in model._model.modules()]
    assert kinds.count(FeedForward) == kinds.count(SelfAttention) == 2


def test_a_layer_that_computes_something_else_keeps_its_code(folders: dict[str, Path]) -> None:
    model = TrainableModel.load(spec_of(folders["smollm3"]), "cpu")
    kinds = [type(module) for module in model._model.modules()]
    assert (kinds.count(FeedForward), kinds.count(SelfAttention)) == (2, 1)


def test_fresh_adapters_are_drawn_as_peft_draws_them_and_depend_on_the_seed_alone(folders: dict[str, Path]) -> None:
    def fresh(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(seed + 1)
        return TrainableModel.load(spec_of(folders["llama"], seed=seed), "cpu").state()

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    a = [name for name in first if "lora_A" in name]
    assert not any(torch.equal(first[name], other[name]) for name in a)
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folders["llama"]),
        LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, target_modules="all-linear"),
    )
    shapes = {n.replace(".default", ""): p for n, p in peft.named_parameters() if p.requires_grad}
    assert {n: p.shape for n, p in shapes.items()} == {n: p.shape for n, p in first.items()}
    for name in a:
        bound = first[name].shape[1] ** -0.5
        assert first[name].abs().max() <= bound
        assert shapes[name].abs().max() <= bound
        assert first[name].std().item() == pytest.approx(bound / 3**0.5, rel=0.25)
    assert not any(first[name].any() for name in first if "lora_B" in name)


def test_without_adapter_the_model_is_its_base(folders: dict[str, Path]) -> None:
    model = shaken(TrainableModel.load(spec_of(folders["phi3"]), "cpu"))
    packed = pack(examples(), "cpu")
    base = AutoModelForCausalLM.from_pretrained(folders["phi3"], attn_implementation="eager")
    with_adapter = model.hidden(packed)
    with model.without_adapter(), torch.no_grad():
        torch.testing.assert_close(model.hidden(packed), reference_hidden(base.model), rtol=1e-5, atol=1e-5)
    assert torch.equal(model.hidden(packed), with_adapter)


def test_the_passes_of_a_batch_add_up_to_it(folders: dict[str, Path]) -> None:
    """However a batch is cut into passes, its gradient is the same."""
    model = shaken(TrainableModel.load(spec_of(folders["qwen2"]), "cpu"))

    def gradients(cuts: list[list[SimpleNamespace]]) -> dict[str, torch.Tensor]:
        for parameter in model.trainable.values():
            parameter.grad = None
        for cut in cuts:
            packed = pack(cut, "cpu")
            model.cross_entropy(model.hidden(packed), packed.targets_T, packed.weights_T).loss_sum.backward()
        return {name: p.grad for name, p in model.trainable.items() if p.grad is not None}

    whole, cut = gradients([examples()]), gradients([examples()[:1], examples()[1:]])
    assert whole.keys() == cut.keys() == model.trainable.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_give_the_same_bits(folders: dict[str, Path], precision: Any) -> None:
    def run() -> list[torch.Tensor]:
        torch.manual_seed(7)
        lora = replace(VARIANTS["lora"], dropout=0.3)
        model = shaken(TrainableModel.load(spec_of(folders["llama"], lora, precision=precision), "cpu"))
        packed = pack(examples(), "cpu")
        model.cross_entropy(model.hidden(packed), packed.targets_T, packed.weights_T).loss_sum.backward()
        return [parameter.grad for parameter in model.trainable.values() if parameter.grad is not None]

    first, second = run(), run()
    assert len(first) == 28
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_dropout_is_off_outside_training(folders: dict[str, Path]) -> None:
    plain = shaken(TrainableModel.load(spec_of(folders["llama"]), "cpu"))
    lora = replace(VARIANTS["lora"], dropout=0.5)
    model = shaken(TrainableModel.load(spec_of(folders["llama"], lora), "cpu"))
    packed = pack(examples(), "cpu")
    assert not torch.allclose(model.hidden(packed), plain.hidden(packed))
    model.train(False)
    assert torch.equal(model.hidden(packed), plain.hidden(packed))


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen2"])
def test_bf16_follows_fp32(folders: dict[str, Path], name: str) -> None:
    packed = pack(examples(), "cpu")
    losses = {}
    for precision in ("fp32", "bf16"):
        model = shaken(TrainableModel.load(spec_of(folders[name], precision=precision), "cpu"))
        assert {p.dtype for p in model.trainable.values()} == {torch.float32}
        losses[precision] = float(
            model.cross_entropy(model.hidden(packed), packed.targets_T, packed.weights_T).loss_sum
        )
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen2"])
def test_four_bits_stay_near_the_base_and_train(folders: dict[str, Path], name: str) -> None:
    packed = pack(examples(), "cpu")
    full = shaken(TrainableModel.load(spec_of(folders[name]), "cpu"))
    quantised = shaken(TrainableModel.load(spec_of(folders[name], method="qlora"), "cpu"))
    near = F.cosine_similarity(full.hidden(packed), quantised.hidden(packed), dim=1)
    assert near.mean() > 0.93
    quantised.cross_entropy(quantised.hidden(packed), packed.targets_T, packed.weights_T).loss_sum.backward()
    assert all(p.grad is not None and p.grad.any() for p in quantised.trainable.values())


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen2", "qwen3"])
def test_full_weights_have_transformers_gradients_and_names(folders: dict[str, Path], name: str) -> None:
    model = TrainableModel.load(spec_of(folders[name], method="full"), "cpu")
    theirs = AutoModelForCausalLM.from_pretrained(folders[name], attn_implementation="eager")
    packed = pack(examples(), "cpu")
    model.cross_entropy(model.hidden(packed), packed.targets_T, packed.weights_T).loss_sum.backward()
    logits = theirs.get_output_embeddings()(reference_hidden(theirs.model))
    (F.cross_entropy(logits, packed.targets_T, reduction="none") * packed.weights_T).sum().backward()
    named = dict(theirs.named_parameters())
    assert named.keys() == model.trainable.keys()
    for key, parameter in model.trainable.items():
        torch.testing.assert_close(parameter.grad, named[key].grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen2"])
def test_a_head_is_saved_as_transformers_classifiers_have_it(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    model = TrainableModel.load(spec_of(folders[name], task="classification"), "cpu")
    model.add_head(3, seed=4)
    shaken(model)
    base = AutoModelForSequenceClassification.from_pretrained(
        folders[name], num_labels=3, pad_token_id=0, attn_implementation="eager"
    )
    peft = PeftModel.from_pretrained(base, saved(model, tmp_path))
    packed = pack(examples(), "cpu")
    ours = model.head_outputs(model.hidden(packed), packed)
    theirs = torch.cat([peft(input_ids=torch.tensor([document])).logits for document in DOCUMENTS])
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)
    ours.sum().backward()
    assert all(p.grad is not None for p in model.trainable.values())


def test_log_probabilities_are_those_of_a_full_softmax(folders: dict[str, Path]) -> None:
    model = shaken(TrainableModel.load(spec_of(folders["llama"]), "cpu"))
    packed = pack(examples(), "cpu")
    hidden = model.hidden(packed).detach().requires_grad_()
    upstream = torch.randn(len(hidden), generator=torch.Generator().manual_seed(0))
    ours = model.token_logprobs(hidden, packed.targets_T)
    logits = hidden @ AutoModelForCausalLM.from_pretrained(folders["llama"]).get_output_embeddings().weight.t()
    theirs = torch.log_softmax(logits, -1).gather(1, packed.targets_T[:, None])[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    ours_gradient = torch.autograd.grad((ours * upstream).sum(), hidden)[0]
    torch.testing.assert_close(ours_gradient, torch.autograd.grad((theirs * upstream).sum(), hidden)[0])


def test_weights_of_another_shape_are_refused_by_name(folders: dict[str, Path]) -> None:
    model = TrainableModel.load(spec_of(folders["llama"]), "cpu")
    state = model.state()
    name = next(iter(state))
    with pytest.raises(InvalidRequest, match=name):
        model.load_state({**state, name: state[name][:1]})
    with pytest.raises(InvalidRequest, match="another"):
        model.load_state({**state, "another": state[name]})


def test_targets_that_match_nothing_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(InvalidRequest, match="q_proj"):
        TrainableModel.load(spec_of(folders["phi3"], LoraSpec(targets=("q_proj",))), "cpu")


def test_capped_logits_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    config = LlamaConfig(**SIZES)
    config.final_logit_softcapping = 30.0
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(InvalidRequest, match="cap their logits"):
        TrainableModel.load(spec_of(tmp_path), "cpu")
