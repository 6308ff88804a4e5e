"""An export is opened again by its own runtime, says the same as the trained model, or is refused with the numbers."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import gguf
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from finery.core.errors import Conflict, InvalidRequest
from finery.modeling import manifests
from finery.modeling.gguf_packing import QUANTIZATIONS
from finery.modeling.template import ChatTemplate
from finery.serving import export as exporting
from finery.serving import parity, parity_reference
from finery.serving.export_order import FILES, ExportOrder, Quantization

QUESTIONS = [[{"role": "user", "content": f"What does the smith do with iron number {i}?"}] for i in range(4)]


@pytest.fixture(autouse=True)
def reference_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference without its process, whose imports take seconds."""
    monkeypatch.setattr(parity, "ask_reference", parity_reference.answer)


@pytest.fixture
def make_order(tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]) -> Callable[..., ExportOrder]:
    def make(**values: Any) -> ExportOrder:
        usual: dict[str, Any] = {
            "model": "ft:llama:default:smith:1",
            "format": "adapter",
            "quantization": "f16",
            "base_folder": str(tiny_models["llama"]),
            "tuned_folder": str(tiny_adapters["llama"][0]),
            "whole": False,
            "questions": [{"messages": question} for question in QUESTIONS],
            "override": False,
            "facts": {"base model": "llama", "revision": None},
        }
        return ExportOrder(**{**usual, **values})

    return make


def tuned(base: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()


def logits(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0]


def test_quantizations_have_one_list() -> None:
    assert set(QUANTIZATIONS) == set(get_args(Quantization))
    assert set(exporting.LIMITS) == set(QUANTIZATIONS) - {"f16"}


def test_an_adapter_opens_in_peft(
    make_order: Callable[..., ExportOrder],
    tiny_models: dict[str, Path],
    tiny_adapters: dict[str, list[Path]],
    tmp_path: Path,
) -> None:
    certificate = asyncio.run(exporting.export(make_order(), tmp_path))
    out = tmp_path / FILES
    assert certificate is not None
    assert certificate.passed
    tokens = [5, 9, 30, 41, 17]
    expected = logits(tuned(tiny_models["llama"], tiny_adapters["llama"][0]), tokens)
    torch.testing.assert_close(logits(tuned(tiny_models["llama"], out), tokens), expected)
    assert set(manifests.verify(out).files) == {
        "adapter_config.json", "adapter_model.safetensors", "parity.json", "README.md",
    }  # fmt: skip
    assert "passed" in (out / "README.md").read_text()


def test_merged_weights_open_in_transformers_without_peft(
    make_order: Callable[..., ExportOrder],
    tiny_models: dict[str, Path],
    tiny_adapters: dict[str, list[Path]],
    tmp_path: Path,
) -> None:
    certificate = asyncio.run(exporting.export(make_order(format="merged"), tmp_path))
    out = tmp_path / FILES
    assert certificate is not None
    assert certificate.passed
    template = ChatTemplate.load(tiny_models["llama"])
    tokens = template.encode_prompt(QUESTIONS[0])
    expected = logits(tuned(tiny_models["llama"], tiny_adapters["llama"][0]), tokens)
    merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    torch.testing.assert_close(logits(merged, tokens), expected, atol=2e-3, rtol=1e-3)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    encoded = tokenizer.apply_chat_template(QUESTIONS[0], add_generation_prompt=True)
    assert list(encoded["input_ids"]) == tokens


@pytest.mark.parametrize("word", ["f16", "q8_0"])
def test_a_gguf_file_has_its_template_inside_and_a_modelfile_beside_it(
    make_order: Callable[..., ExportOrder], tiny_models: dict[str, Path], tmp_path: Path, word: str
) -> None:
    # A model of random weights has no clear favourites: rounding costs it more than any real one.
    order = make_order(format="gguf", quantization=word, override=word != "f16")
    certificate = asyncio.run(exporting.export(order, tmp_path))
    out = tmp_path / FILES
    # llama.cpp has opened it: it is its answers that the certificate is about.
    assert certificate is not None
    assert certificate.passed or word != "f16"
    assert certificate.agreement_but_ties > 0.9
    assert json.loads((out / "parity.json").read_text())["places"] == certificate.places > 20
    found = gguf.GGUFReader(out / f"model.{word}.gguf")
    inside = found.fields["tokenizer.chat_template"].contents()
    assert inside == (tiny_models["llama"] / "chat_template.jinja").read_text()
    text = (out / "Modelfile").read_text()
    assert f"FROM ./model.{word}.gguf" in text
    assert '{{ if eq .Role "system" }}<|im_start|>system' in text


def test_a_whole_model_and_a_base_can_be_exported(
    make_order: Callable[..., ExportOrder], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    whole = make_order(format="gguf", tuned_folder=str(tiny_models["phi3"]), whole=True)
    base = make_order(format="merged", tuned_folder=None)
    for number, order in enumerate((whole, base)):
        certificate = asyncio.run(exporting.export(order, tmp_path / str(number)))
        assert certificate is not None
        assert certificate.passed


def test_what_answers_differently_is_refused_with_the_numbers_unless_overridden(
    make_order: Callable[..., ExportOrder],
    tiny_adapters: dict[str, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = exporting.gguf_write.write_model
    monkeypatch.setattr(
        exporting.gguf_write,
        "write_model",
        lambda *given, **named: wrong(*given, **{**named, "adapter_folder": tiny_adapters["llama"][1]}),
    )
    with pytest.raises(Conflict, match=r"same token in \d+\.\d% of \d+ places .* override it"):
        asyncio.run(exporting.export(make_order(format="gguf"), tmp_path))
    certificate = asyncio.run(exporting.export(make_order(format="gguf", override=True), tmp_path))
    assert certificate is not None
    assert not certificate.passed
    assert "NOT passed" in (tmp_path / FILES / "README.md").read_text()


def test_a_base_has_no_adapter(make_order: Callable[..., ExportOrder], tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no adapter"):
        asyncio.run(exporting.export(make_order(tuned_folder=None), tmp_path))
