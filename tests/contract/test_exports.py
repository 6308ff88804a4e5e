"""A tuned model leaves the server as files that other programs open, by the command people use."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from finery.cli.app import app
from finery.modeling import manifests
from servers import Server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as made:
        yield made


def run(server: Server, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "--base-url", server.url, "--api-key", server.key])


def test_a_tuned_model_as_gguf_and_as_adapter(server: Server, http: httpx.Client, tuned: str, tmp_path: Path) -> None:
    for form, options in (("gguf", ["--quantization", "Q8_0", "--override"]), ("adapter", [])):
        out = tmp_path / form
        done = run(server, "export", tuned, "--format", form, *options, "--output", str(out))
        assert done.exit_code == 0, done.output
        manifests.verify(out)
        certificate = json.loads((out / "parity.json").read_text())
        assert certificate["conversations"] == 16
        assert certificate["prompts_equal"] == 1
        assert f"base model: {tuned.split(':')[1]}" in (out / "README.md").read_text()
    found = gguf.GGUFReader(tmp_path / "gguf" / "model.q8_0.gguf")
    assert "<|im_start|>" in found.fields["tokenizer.chat_template"].contents()
    assert (tmp_path / "gguf" / "Modelfile").read_text().startswith("FROM ./model.q8_0.gguf\nTEMPLATE")
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "np") as tensors:
        assert any("lora_A" in name for name in tensors.keys())  # noqa: SIM118 - it is no dict
    # What was fetched is forgotten on the server.
    assert http.get("/finery/v1/exports").json()["data"] == []


def test_an_export_is_listed_fetched_and_forgotten(http: httpx.Client) -> None:
    made = http.post("/finery/v1/exports", json={"model": "tiny-phi3", "format": "merged"}).raise_for_status().json()
    path = f"/finery/v1/exports/{made['id']}"
    assert made["status"] == "queued"
    early = http.get(f"{path}/files/config.json")
    assert early.status_code == 409 or http.get(path).json()["status"] == "succeeded"
    end = time.monotonic() + 250
    while (found := http.get(path).json())["status"] not in ("succeeded", "failed"):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert found["status"] == "succeeded", found
    assert found["certificate"]["passed"] is True
    sizes = {file["path"]: file["bytes"] for file in found["files"]}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "parity.json"} <= set(sizes)
    fetched = http.get(f"{path}/files/config.json")
    assert len(fetched.content) == sizes["config.json"]
    for outside in ("../order.json", "..%2Forder.json", "none.json", "%2Fetc%2Fpasswd"):
        assert http.get(f"{path}/files/{outside}").status_code == 404
    assert http.delete(path).json()["deleted"] is True
    assert http.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "tiny-phi3", "format": "onnx"}, 400, "adapter, merged, gguf"),
        ({"model": "tiny-phi3", "format": "gguf", "quantization": "q3"}, 400, "q4_k_m"),
        ({"model": "tiny-phi3", "format": "merged", "quantization": "q8_0"}, 400, "Only gguf"),
        ({"model": "tiny-phi3", "format": "adapter"}, 400, "has no adapter"),
        ({"model": "nobody", "format": "gguf"}, 404, "does not exist"),
        ({"model": "tiny-phi3"}, 400, "format"),
        ({"model": "tiny-phi3", "format": "gguf", "folder": "/"}, 400, "folder"),
    ],
)
def test_what_cannot_be_exported_is_refused(http: httpx.Client, body: Any, status: int, words: str) -> None:
    answer = http.post("/finery/v1/exports", json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_a_folder_with_something_in_it_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run(server, "export", "tiny-phi3", "--format", "gguf", "--output", str(tmp_path))
    assert done.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
