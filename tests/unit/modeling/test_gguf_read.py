"""GGUF files turned back into Hugging Face folders: transformers' own reader finds the same weights in the file."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from finery.core.errors import InvalidRequest
from finery.modeling import gguf_read, gguf_write, sources

Q4_1, Q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tokenizer_folders: dict[str, Path]) -> Path:
    """A random Llama as a Hugging Face folder, its width a multiple of a quantised block."""
    folder = tmp_path_factory.mktemp("original")
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_theta=50_000.0,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for path in tokenizer_folders["chatml"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("kind", [None, Q8_0, Q4_1])
def test_weights_are_those_that_transformers_finds(original: Path, tmp_path: Path, kind: Any) -> None:
    gguf_write.write_model(original, tmp_path / "f16.gguf")
    _requantised(tmp_path / "f16.gguf", tmp_path / "model.gguf", kind)
    gguf_read.convert(tmp_path / "model.gguf", tmp_path / "back")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32).state_dict()
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).state_dict()
    assert back.keys() == reference.keys()
    for name, values in reference.items():
        assert torch.equal(back[name], values.bfloat16().float()), name


def test_config_and_tokenizer_come_back(original: Path, tmp_path: Path) -> None:
    gguf_write.write_model(original, tmp_path / "model.gguf")
    gguf_read.convert(tmp_path / "model.gguf", tmp_path / "back")
    wanted = json.loads((original / "config.json").read_text())
    found = json.loads((tmp_path / "back" / "config.json").read_text())
    same = ("vocab_size", "hidden_size", "num_key_value_heads", "head_dim", "rms_norm_eps", "tie_word_embeddings")
    assert {key: found[key] for key in same} == {key: wanted[key] for key in same}
    assert found["rope_theta"] == wanted["rope_parameters"]["rope_theta"]
    before, after = AutoTokenizer.from_pretrained(original), AutoTokenizer.from_pretrained(tmp_path / "back")
    texts = [
        "Hello, 2026!",
        "def f(x):\n    return x\n",
        "Grüße 東京 🙂",
        "<|im_start|>user\nHi<|im_end|>\n",
        "1234 56",
        " \t\n",
    ]
    for text in texts:
        assert before(text).input_ids == after(text).input_ids
        assert after.decode(after(text).input_ids) == text
    messages = [{"role": "user", "content": "Hi"}]
    assert before.apply_chat_template(messages, tokenize=False) == after.apply_chat_template(messages, tokenize=False)
    assert (after.eos_token, after.bos_token) == ("<|im_end|>", "<|im_start|>")


def test_what_comes_back_is_a_model_to_import(original: Path, tmp_path: Path) -> None:
    gguf_write.write_model(original, tmp_path / "model.gguf")
    assert gguf_read.main([str(tmp_path / "model.gguf"), str(tmp_path / "back")]) == 0
    model = sources.import_folder(tmp_path / "models", tmp_path / "back", "back")
    assert (model.architecture, model.context_tokens, model.eos_token_ids) == ("LlamaForCausalLM", 128, (2,))


@pytest.mark.parametrize("rows", [64, 96])
def test_row_orders_are_each_others_inverse(rows: int) -> None:
    values = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    there = gguf_write.permute(values, 4)
    assert not np.array_equal(there, values)
    np.testing.assert_array_equal(gguf_read.unpermute(there, 4), values)


def test_other_files_are_refused_with_a_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.gguf").write_text("not a model at all, though long enough to have a header")
    with pytest.raises(InvalidRequest, match="not a readable GGUF"):
        gguf_read.convert(tmp_path / "text.gguf", tmp_path / "out")
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert gguf_read.main([str(tmp_path / "other.gguf"), str(tmp_path / "out")]) == 2
    assert "'mamba'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _requantised(source: Path, target: Path, kind: Any) -> None:
    """A copy of a GGUF file with its matrices in another kind."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kinds = field.types
            writer.add_key_value(name, field.contents(), kinds[0], sub_type=kinds[-1] if len(kinds) > 1 else None)
    for tensor in reader.tensors:
        if kind is None or len(tensor.shape) == 1:
            writer.add_tensor(tensor.name, tensor.data)
        else:
            writer.add_tensor(tensor.name, gguf.quants.quantize(tensor.data.astype(np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
