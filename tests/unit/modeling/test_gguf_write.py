"""What llama.cpp computes from our GGUF files is what transformers and PEFT compute from the folders they came from."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import pytest
import torch
import xllamacpp
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from finery.core.errors import InvalidRequest
from finery.modeling import gguf_write, merging
from finery.modeling.gguf_packing import QUANTIZATIONS, pack, type_of

torch.set_num_threads(1)

SHAPE = {
    "vocab_size": 544,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    # Large enough that attention matters: at the usual 0.02 a tiny model hardly looks back.
    "initializer_range": 0.25,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.05 * i for i in range(16)],
    "long_factor": [1.0 + 0.5 * i for i in range(16)],
    "original_max_position_embeddings": 256,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied-biased": {
        "model_type": "llama",
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "attention_bias": True,
        "mlp_bias": True,
        "rope_parameters": STRETCHED,
    },
    "mistral": {"head_dim": 64, "sliding_window": None},
    "phi3": {},
    "phi3-long": {
        "model_type": "phi3",
        "max_position_embeddings": 1024,
        "original_max_position_embeddings": 256,
        "rope_parameters": LONG,
        "tie_word_embeddings": True,
    },
    "qwen2": {"tie_word_embeddings": True, "num_key_value_heads": 2},
    "qwen3": {"head_dim": 64},
}
PROMPTS = [[5, 9, 300, 41, 17, 99, 200, 63], list(range(20, 68, 3)), [7] * 5 + [300, 8, 310, 12, 44, 45, 46]]
TOLERANCE = 0.06
"""In log-probabilities near 1: llama.cpp has weights and cache in f16, transformers here is float32."""


@pytest.fixture(params=MODELS)
def base(request: pytest.FixtureRequest, tmp_path: Path, tokenizer_folders: dict[str, Path]) -> Path:
    return make_model(request.param, tmp_path / "base", tokenizer_folders)


def test_llama_cpp_computes_base_and_adapter_as_transformers_and_peft_do(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    gguf_write.write_model(base, tmp_path / "model.gguf")
    gguf_write.write_adapter(base, adapter, tmp_path / "adapter.gguf")
    plain = load(base)
    wanted_base = [logprobs(plain, prompt) for prompt in PROMPTS]
    tuned = PeftModel.from_pretrained(plain, adapter)
    wanted_tuned = [logprobs(tuned, prompt) for prompt in PROMPTS]
    with Llama(tmp_path / "model.gguf", tmp_path / "adapter.gguf") as llama:
        for prompt, of_base, of_tuned in zip(PROMPTS, wanted_base, wanted_tuned, strict=True):
            assert np.abs(of_base - of_tuned).max() > 0.5, "the random adapter must change something"
            llama.agrees(prompt, of_base, scale=0.0)
            llama.agrees(prompt, of_tuned, scale=1.0)


def test_unordered_rows_are_what_the_comparison_finds(
    tmp_path: Path, tokenizer_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: an adapter written without llama's row order fails the very comparison above."""
    base = make_model("llama", tmp_path / "base", tokenizer_folders)
    adapter = make_adapter(base, tmp_path / "adapter")
    gguf_write.write_model(base, tmp_path / "model.gguf")
    monkeypatch.setattr(gguf_write, "permute", lambda rows, num_heads: rows)
    gguf_write.write_adapter(base, adapter, tmp_path / "adapter.gguf")
    wanted = logprobs(PeftModel.from_pretrained(load(base), adapter), PROMPTS[0])
    with Llama(tmp_path / "model.gguf", tmp_path / "adapter.gguf") as llama, pytest.raises(AssertionError):
        llama.agrees(PROMPTS[0], wanted, scale=1.0)


@pytest.mark.parametrize("options", [{"use_rslora": True}, {"target_modules": ["q_proj", "down_proj"]}])
def test_other_adapters_agree(tmp_path: Path, tokenizer_folders: dict[str, Path], options: dict[str, Any]) -> None:
    base = make_model("llama", tmp_path / "base", tokenizer_folders)
    adapter = make_adapter(base, tmp_path / "adapter", **options)
    gguf_write.write_model(base, tmp_path / "model.gguf")
    gguf_write.write_adapter(base, adapter, tmp_path / "adapter.gguf")
    tuned = PeftModel.from_pretrained(load(base), adapter)
    with Llama(tmp_path / "model.gguf", tmp_path / "adapter.gguf") as llama:
        for prompt in PROMPTS:
            llama.agrees(prompt, logprobs(tuned, prompt), scale=1.0)


@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_dora_is_refused_as_an_adapter_and_agrees_when_merged(
    name: str, tmp_path: Path, tokenizer_folders: dict[str, Path]
) -> None:
    base = make_model(name, tmp_path / "base", tokenizer_folders)
    adapter = make_adapter(base, tmp_path / "adapter", use_dora=True)
    with pytest.raises(InvalidRequest, match="DoRA"):
        gguf_write.write_adapter(base, adapter, tmp_path / "adapter.gguf")
    gguf_write.write_model(base, tmp_path / "merged.gguf", adapter_folder=adapter)
    tuned = PeftModel.from_pretrained(load(base), adapter)
    with Llama(tmp_path / "merged.gguf") as llama:
        for prompt in PROMPTS:
            llama.agrees(prompt, logprobs(tuned, prompt))


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_merged_folder_computes_what_peft_does(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", **options)
    merged = tmp_path / "merged"
    merged.mkdir()
    merging.merge(base, adapter, merged)
    with_adapter = PeftModel.from_pretrained(load(base), adapter)
    wanted = [logprobs(with_adapter, prompt) for prompt in PROMPTS]
    alone = load(merged)
    for prompt, row in zip(PROMPTS, wanted, strict=True):
        np.testing.assert_allclose(logprobs(alone, prompt), row, atol=2e-3)


def test_llama_cpp_cuts_text_as_the_tokenizer_does(tmp_path: Path, tokenizer_folders: dict[str, Path]) -> None:
    """For those who run an exported file elsewhere: its vocabulary gives the ids the model was tuned with."""
    texts = [
        "The quick brown fox",
        " isn't  it? 1234",
        "def add(a, b):\n    return a",
        "Grüße, 東京 🙂!",
        "a\n\n\nb",
        "x",
    ]
    for name, manner in (("llama", "chatml"), ("phi3", "phi3"), ("qwen2", "llama3")):
        base = make_model(name, tmp_path / manner, tokenizer_folders, manner=manner)
        tokenizer = gguf_write_tokenizer(base)
        gguf_write.write_model(base, tmp_path / f"{manner}.gguf")
        with Llama(tmp_path / f"{manner}.gguf") as llama:
            for text in [*texts, "<|user|>\nHello<|end|>\n<|assistant|>\n", "<|im_start|>user\nHello<|im_end|>\n"]:
                assert llama.tokenize(text) == tokenizer(text), (manner, text)


@pytest.mark.parametrize("name", ["llama", "phi3"])
@pytest.mark.parametrize("word", ["q8_0", "q6_k", "q5_k_m", "q4_k_m"])
def test_llama_cpp_opens_quantised_files_and_computes_nearly_the_same(
    name: str, word: str, tmp_path: Path, tokenizer_folders: dict[str, Path]
) -> None:
    base = make_model(name, tmp_path / "base", tokenizer_folders)
    gguf_write.write_model(base, tmp_path / "model.gguf", quantization=QUANTIZATIONS[word])
    f16, kinds = load(base), Counter(t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors)
    assert "F16" not in kinds
    assert len(kinds) > 1
    with Llama(tmp_path / "model.gguf") as llama:
        for prompt in PROMPTS:
            llama.agrees(prompt, logprobs(f16, prompt), tolerance={"q8_0": 0.5, "q6_k": 0.5}.get(word, 1.5))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"])
def test_packed_values_are_what_the_gguf_package_reads_back(kind: str) -> None:
    values = np.random.default_rng(5).normal(size=(6, 512)).astype(np.float32)
    type_ = gguf.GGMLQuantizationType[kind]
    packed = pack("x", values, type_)
    assert packed.shape == gguf.quant_shape_to_byte_shape(values.shape, type_)
    back = gguf.dequantize(packed, type_)
    bits = int(kind[1])
    assert np.abs(back - values).max() < np.abs(values).max() * 2.0 ** (1 - bits)
    assert np.corrcoef(back.ravel(), values.ravel())[0, 1] > 0.99


def test_more_bits_where_they_matter_and_a_larger_type_where_rows_do_not_fit() -> None:
    def of(name: str, columns: int = 512, tied: bool = True) -> str:
        return type_of(QUANTIZATIONS["q4_k_m"], name, (64, columns), layers=32, tied=tied).name

    assert of("blk.9.attn_q.weight") == "Q4_K"
    assert [of(f"blk.{layer}.attn_v.weight") for layer in (0, 3, 4, 5, 6, 28, 31)] == [
        "Q6_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K", "Q6_K",
    ]  # fmt: skip
    assert (of("token_embd.weight"), of("token_embd.weight", tied=False), of("output.weight")) == (
        "Q6_K", "Q4_K", "Q6_K",
    )  # fmt: skip
    assert (of("blk.9.attn_q.weight", 576), of("blk.0.ffn_down.weight", 576), of("output.weight", 100)) == (
        "Q5_0", "Q8_0", "F16",
    )  # fmt: skip
    assert type_of(QUANTIZATIONS["q8_0"], "output_norm.weight", (64,), layers=32, tied=True).name == "F32"


@pytest.mark.parametrize("value", [1e5, -65520.0, float("nan")])
def test_weights_beyond_f16_are_refused(value: float, tmp_path: Path, tokenizer_folders: dict[str, Path]) -> None:
    base = make_model(
        "llama", tmp_path / "base", tokenizer_folders, change=lambda m: m.lm_head.weight.data.fill_(value)
    )
    with pytest.raises(InvalidRequest, match=r"lm_head\.weight"):
        gguf_write.write_model(base, tmp_path / "model.gguf")


def make_model(
    name: str,
    folder: Path,
    tokenizers: dict[str, Path],
    *,
    manner: str | None = None,
    change: Callable[[PreTrainedModel], object] | None = None,
) -> Path:
    """A random model of MODELS with a tokenizer, saved as a Hugging Face folder."""
    torch.manual_seed(7)
    settings = {"model_type": name, **MODELS[name]}
    config = AutoConfig.for_model(**{**SHAPE, **settings})
    model = AutoModelForCausalLM.from_config(config)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias") or "norm" in parameter_name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    if change is not None:
        change(model)
    model.save_pretrained(folder)
    manner = manner or ("phi3" if settings["model_type"] in {"phi3", "mistral"} else "chatml")
    for path in tokenizers[manner].iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def make_adapter(base: Path, folder: Path, **options: Any) -> Path:
    """A random adapter, made and saved by PEFT: neither of its factors is zero."""
    torch.manual_seed(11)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    model = get_peft_model(load(base), LoraConfig(**settings))
    for name, parameter in model.named_parameters():
        if "lora_magnitude" in name:
            parameter.data *= 1 + 0.3 * torch.rand_like(parameter)
        elif "lora_" in name:
            parameter.data = 0.15 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logprobs(model: PreTrainedModel, prompt: list[int]) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1).numpy()


def gguf_write_tokenizer(base: Path) -> Callable[[str], list[int]]:
    from finery.modeling.template import ChatTemplate

    template = ChatTemplate.load(base)
    return lambda text: template.tokenizer.encode(text, add_special_tokens=False).ids


class Llama:
    """llama.cpp's own server on one file, in this process."""

    def __init__(self, model: Path, adapter: Path | None = None) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 128, 1, 1
        params.warmup, params.verbosity = False, -1
        if adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 0.0)]
        self._server = xllamacpp.Server(params)
        self._client = httpx.Client(base_url=self._server.listening_address, timeout=60)

    def __enter__(self) -> "Llama":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        del self._server

    def agrees(
        self, prompt: list[int], wanted: np.ndarray, *, scale: float | None = None, tolerance: float = TOLERANCE
    ) -> None:
        body = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": 40, "cache_prompt": False}
        # What is said is a plain letter: the server reports no probabilities for half a character. They are the model's
        # own, before this bias.
        body |= {"logit_bias": [[self.tokenize("a")[-1], 100]]}
        body |= {} if scale is None else {"lora": [{"id": 0, "scale": scale}]}
        answer = self._client.post("/completion", json=body).raise_for_status().json()
        assert "completion_probabilities" in answer, answer
        top = answer["completion_probabilities"][0]["top_logprobs"]
        best = [int(i) for i in np.argsort(-wanted)[:2]]
        clear = wanted[best[0]] - wanted[best[1]] > 2 * tolerance
        assert not clear or top[0]["id"] == best[0]
        worst = max(abs(entry["logprob"] - wanted[entry["id"]]) for entry in top)
        assert worst < tolerance * max(1.0, -top[-1]["logprob"] / 4), worst

    def tokenize(self, text: str) -> list[int]:
        body = {"content": text, "add_special": False, "parse_special": True}
        ids: list[int] = self._client.post("/tokenize", json=body).raise_for_status().json()["tokens"]
        return ids
