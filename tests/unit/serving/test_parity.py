"""A certificate passes what is the same and names what isn't: templates, adapters, weights, planted one by one."""

import asyncio
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finery.core.errors import InvalidRequest, Unavailable, UnknownModel
from finery.modeling import sources
from finery.modeling.merging import merge
from finery.serving import artifacts, parity, parity_reference
from finery.serving.config import ServerConfig
from finery.serving.parity import Certificate, certify
from finery.serving.process import InferenceProcess
from finery.serving.protocol import AnswerToken, TopLogprob

QUESTIONS = [
    {"messages": [{"role": "user", "content": f"What does the smith do with iron number {i}?"}]} for i in range(6)
]
ASK_IN_A_PROCESS = parity.ask_reference


@pytest.fixture(autouse=True)
def reference_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference without its process, whose imports take seconds; the command's test has the process."""
    monkeypatch.setattr(parity, "ask_reference", parity_reference.answer)


@pytest.fixture(scope="module")
def served(
    tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InferenceProcess]:
    adapters = {"first": str(tiny_adapters["llama"][0]), "second": str(tiny_adapters["llama"][1])}
    config = ServerConfig(model_folder=str(tiny_models["llama"]), adapters=adapters, threads=1, slots=2)
    process = InferenceProcess.start(tmp_path_factory.mktemp("server"), config)
    yield process
    process.kill()


def compare(
    process: InferenceProcess, model: Path, *, served_as: str | None, adapter: Path | None, max_tokens: int = 12
) -> Certificate:
    async def ask() -> Certificate:
        async with await process.wait_ready(60) as client:
            return await certify(
                client,
                adapter=served_as,
                model_folder=model,
                adapter_folder=adapter,
                questions=QUESTIONS,
                max_tokens=max_tokens,
            )

    return asyncio.run(ask())


def test_what_is_the_same_passes(
    served: InferenceProcess, tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]
) -> None:
    for name, adapter in ((None, None), ("first", tiny_adapters["llama"][0])):
        certificate = compare(served, tiny_models["llama"], served_as=name, adapter=adapter)
        assert certificate.passed, certificate
        assert certificate.prompts_equal == 1.0
        assert certificate.agreement_but_ties == 1.0
        assert certificate.mean_kl < 0.005
        assert certificate.places >= 40
        assert certificate.first_divergence is None
        assert json.loads(json.dumps(certificate.to_json()))["passed"] is True


def test_a_missing_adapter_is_caught(
    served: InferenceProcess, tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]
) -> None:
    certificate = compare(served, tiny_models["llama"], served_as=None, adapter=tiny_adapters["llama"][0])
    assert not certificate.passed
    assert certificate.mean_kl > 0.1
    assert certificate.first_divergence is not None
    assert certificate.first_divergence.place >= 0


def test_a_swapped_adapter_is_caught(
    served: InferenceProcess, tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]
) -> None:
    certificate = compare(served, tiny_models["llama"], served_as="second", adapter=tiny_adapters["llama"][0])
    assert not certificate.passed
    assert certificate.answers_equal < 1.0


def test_a_wrong_template_is_caught(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "made"
    shutil.copytree(tiny_models["llama"], folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("<|im_end|>\n{% endfor %}", "<|im_end|>{% endfor %}"))
    sources.import_folder(tmp_path / "models", folder, "wrong")
    config = ServerConfig(model_folder=str(tmp_path / "models" / "wrong"), threads=1, slots=1)
    process = InferenceProcess.start(tmp_path / "server", config)
    try:
        certificate = compare(process, tiny_models["llama"], served_as=None, adapter=None)
    finally:
        process.kill()
    assert not certificate.passed
    assert certificate.prompts_equal == 0.0
    assert certificate.first_divergence is not None
    assert (certificate.first_divergence.conversation, certificate.first_divergence.place) == (0, -1)


def test_a_merged_export_served_by_itself_passes(
    tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]], tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    merged.mkdir()
    merge(tiny_models["llama"], tiny_adapters["llama"][0], merged, dtype="F32")
    sources.import_folder(tmp_path / "models", merged, "merged")
    config = ServerConfig(model_folder=str(tmp_path / "models" / "merged"), threads=1, slots=1)
    process = InferenceProcess.start(tmp_path / "server", config)
    try:
        certificate = compare(process, tiny_models["llama"], served_as=None, adapter=tiny_adapters["llama"][0])
    finally:
        process.kill()
    assert certificate.passed, certificate


def test_a_gguf_export_is_served_in_place_of_the_folders_own(
    tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]], tmp_path: Path
) -> None:
    export = tmp_path / "export.gguf"
    artifacts.gguf_write.write_model(tiny_models["llama"], export, adapter_folder=tiny_adapters["llama"][0])
    config = ServerConfig(model_folder=str(tiny_models["llama"]), weights_file=str(export), threads=1, slots=1)
    process = InferenceProcess.start(tmp_path / "server", config)
    try:
        right = compare(process, tiny_models["llama"], served_as=None, adapter=tiny_adapters["llama"][0])
        wrong = compare(process, tiny_models["llama"], served_as=None, adapter=None)
    finally:
        process.kill()
    assert right.passed, right
    assert not wrong.passed


def test_failures_are_errors_not_certificates(
    served: InferenceProcess, tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]], tmp_path: Path
) -> None:
    with pytest.raises(UnknownModel):
        compare(served, tiny_models["llama"], served_as="nobody", adapter=None)
    with pytest.raises(InvalidRequest):
        compare(served, tiny_models["llama"], served_as=None, adapter=tiny_adapters["phi3"][0], max_tokens=1)


def test_a_reference_that_crashes_is_unavailable(
    served: InferenceProcess, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "ask_reference", ASK_IN_A_PROCESS)
    monkeypatch.setattr(parity, "REFERENCE_MODULE", "finery.serving.no_such_module")
    with pytest.raises(Unavailable, match="no_such_module"):
        compare(served, tiny_models["llama"], served_as=None, adapter=None, max_tokens=1)


def test_the_command_gives_a_certificate_and_a_status(
    tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]], tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    answer = {"role": "assistant", "content": "It grows hot."}
    prompts.write_text("\n".join(json.dumps({"messages": [*one["messages"], answer]}) for one in QUESTIONS[:2]))
    command = [sys.executable, "-m", "finery.serving.parity", str(tiny_models["llama"]), str(prompts)]
    options = ["--adapter", str(tiny_adapters["llama"][0]), "--max-tokens", "4", "--out", str(tmp_path / "out.json")]
    assert subprocess.run([*command, *options], check=False).returncode == 0
    assert json.loads((tmp_path / "out.json").read_text())["conversations"] == 2


def test_kl_of_equal_distributions_is_zero_and_else_what_the_formula_says() -> None:
    def served(*probabilities: float) -> AnswerToken:
        tops = tuple(TopLogprob(id=i, text="", logprob=math.log(p)) for i, p in enumerate(probabilities))
        return AnswerToken(id=0, text="", top_logprobs=tops)

    reference = [{"id": i, "text": "", "logprob": math.log(p)} for i, p in enumerate((0.5, 0.3))]
    assert parity._kl(reference, served(0.5, 0.3)) == pytest.approx(0.0, abs=1e-9)
    expected = 0.5 * math.log(0.5 / 0.4) + 0.3 * math.log(0.3 / 0.4) + 0.2 * math.log(0.2 / 0.2)
    assert parity._kl(reference, served(0.4, 0.4)) == pytest.approx(expected, abs=1e-9)
