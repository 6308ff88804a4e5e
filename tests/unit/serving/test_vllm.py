"""What is vLLM's own: numbers of adapters, what it is told before it starts, a core that dies. More: test_engines."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidRequest, Unavailable, UnknownModel
from finery.serving.config import ServerConfig
from finery.serving.engines import make_engine, vllm_setup
from finery.serving.engines.base import Engine, Sampling, Token
from finery.serving.engines.vllm_adapters import AdapterBook, LoadedAdapter


def test_a_removed_adapter_is_forgotten_after_its_last_request() -> None:
    forgotten: list[LoadedAdapter] = []
    book = AdapterBook(forget=forgotten.append)
    first = book.new(Path("a"))
    book.put("name", first)
    with book.use("name") as used:
        book.remove("name")
        assert (used, forgotten) == (first, [])
        with pytest.raises(UnknownModel, match="'name'"), book.use("name"):
            pass
    assert forgotten == [first]


def test_an_adapter_loaded_again_has_another_number_and_name() -> None:
    forgotten: list[LoadedAdapter] = []
    book = AdapterBook(forget=forgotten.append)
    first, second = book.new(Path("a")), book.new(Path("a"))
    book.put("name", first)
    book.put("name", second)
    assert forgotten == [first]
    assert first.number != second.number
    assert first.label != second.label
    assert book.folders() == {"name": Path("a")}


def test_the_base_is_no_adapter() -> None:
    with AdapterBook(forget=list).use(None) as used:
        assert used is None


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.usefixtures("environment")
def test_where_vllm_is_missing_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm_setup, "find_spec", lambda _name: None)
    with pytest.raises(InvalidRequest, match=r"pip install 'finery\[vllm\]'") as refused:
        make_engine(ServerConfig(model_folder="there", engine="vllm"), tmp_path)
    assert refused.value.param == "engine"


@pytest.mark.usefixtures("environment")
def test_nothing_goes_to_the_network_and_the_sockets_are_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm_setup, "find_spec", lambda _name: object())
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "0")
    vllm_setup.prepare(ServerConfig(model_folder="there", engine="vllm", threads=3), tmp_path)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DO_NOT_TRACK", "VLLM_NO_USAGE_STATS"):
        assert os.environ[name] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert Path(os.environ["VLLM_RPC_BASE_PATH"]).stat().st_mode & 0o077 == 0


class Loaded:
    """An engine on an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, engine: Engine) -> None:
        self.engine = engine
        self._runner = runner
        self.run(engine.load())

    def run(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(awaited)

    def tokens(self, **fields: Any) -> list[Token]:
        return list(self.run(_collect(self.engine.generate(_sampling(**fields)))))


async def _collect(items: AsyncIterator[Token]) -> list[Token]:
    return [item async for item in items]


def _sampling(**fields: Any) -> Sampling:
    return Sampling(**({"prompt": list(range(60, 90)), "temperature": 0.0, "max_tokens": 12} | fields))


@pytest.fixture(scope="module")
def config(tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]) -> ServerConfig:
    return ServerConfig(
        model_folder=str(tiny_models["llama"]),
        engine="vllm",
        precision="fp32",
        adapters={"first": str(tiny_adapters["llama"][0])},
        slots=2,
        threads=1,
        context_tokens=480,
    )


@pytest.fixture(scope="module")
def loaded(real_vllm: None, config: ServerConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    with asyncio.Runner() as runner:
        loaded = Loaded(runner, make_engine(config, tmp_path_factory.mktemp("vllm")))
        yield loaded
        runner.run(loaded.engine.close())


def test_a_scope_and_an_adapter_find_no_prefix_of_another(loaded: Loaded) -> None:
    prompt = [60 + place % 200 for place in range(400)]

    def cached(**fields: Any) -> int:
        return loaded.tokens(prompt=prompt, max_tokens=1, **fields)[0].cached_tokens

    assert cached(cache_scope="one") == 0
    assert cached(cache_scope="one") > 0
    assert cached(cache_scope="two") == 0
    assert cached(cache_scope="one", adapter="first") == 0
    assert cached() == 0


def test_penalties_count_prompt_and_answer_as_torch_does(loaded: Loaded, config: ServerConfig, tmp_path: Path) -> None:
    from dataclasses import replace

    with asyncio.Runner() as runner:
        torch = Loaded(runner, make_engine(replace(config, engine="torch"), tmp_path))
        penalties = {"presence_penalty": 0.7, "frequency_penalty": 0.2, "max_tokens": 60, "prompt": [90, 90, 91, 95]}
        expected = [token.id for token in torch.tokens(**penalties)]
        runner.run(torch.engine.close())
    assert [token.id for token in loaded.tokens(**penalties)] == expected
    assert [token.id for token in loaded.tokens(**(penalties | {"presence_penalty": 0.0}))] != expected


def test_an_adapter_of_a_larger_rank_is_refused_with_the_way_out(
    loaded: Loaded, tiny_models: dict[str, Path], make_adapter: Any, tmp_path: Path
) -> None:
    large = make_adapter(tiny_models["llama"], tmp_path / "large", 5, rank=65)
    with pytest.raises(InvalidRequest, match="FINERY_INFERENCE_ADAPTER_RANK to 65"):
        loaded.run(loaded.engine.add_adapter("large", large))


def test_a_request_that_is_closed_frees_its_place(loaded: Loaded) -> None:
    async def close_early() -> None:
        for _ in range(5):
            tokens = loaded.engine.generate(_sampling(max_tokens=400, logit_bias={2: -100.0}))
            await anext(tokens)
            await tokens.aclose()

    loaded.run(close_early())
    assert loaded.run(loaded.engine.metrics())["requests_running"] == 0
    assert len(loaded.tokens(max_tokens=3, logit_bias={2: -100.0})) == 3


def test_a_core_that_dies_is_started_again_with_its_adapters(loaded: Loaded) -> None:
    before = [token.id for token in loaded.tokens(adapter="first")]

    async def kill() -> None:
        tokens = loaded.engine.generate(_sampling(max_tokens=400, logit_bias={2: -100.0}))
        await anext(tokens)
        [core] = _children("EngineCore")
        os.kill(core, signal.SIGKILL)
        with pytest.raises(Unavailable):
            async for _ in tokens:
                pass

    loaded.run(kill())
    assert [token.id for token in loaded.tokens(adapter="first")] == before
    assert loaded.run(loaded.engine.metrics())["engine_changes_total"] == 1


def test_requests_in_flight_end_when_it_is_closed(real_vllm: None, config: ServerConfig, tmp_path: Path) -> None:
    async def close_under_load() -> None:
        engine = make_engine(config, tmp_path)
        await engine.load()
        tokens = engine.generate(_sampling(max_tokens=400, logit_bias={2: -100.0}))
        await anext(tokens)
        rest = asyncio.create_task(_collect(tokens))
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(Unavailable):
            await rest
        with pytest.raises(Unavailable):
            await anext(engine.generate(_sampling()))

    asyncio.run(close_under_load())
    assert not Path(os.environ["VLLM_RPC_BASE_PATH"]).exists()


def _children(title: str) -> list[int]:
    """Processes of ours whose title says so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and title in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return found
