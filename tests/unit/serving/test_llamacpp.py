"""What only the llama.cpp engine does: turns between adapters, adapters in and out of memory, prefixes kept apart."""

import asyncio
import dataclasses
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finery.serving.config import ServerConfig
from finery.serving.engines import llamacpp
from finery.serving.engines.base import Sampling, Token
from finery.serving.engines.llamacpp import LlamaCppEngine
from finery.serving.engines.llamacpp_runner import LOG_FILE

PROMPT = [40, 41, 42, 43, 44, 45, 46, 47]
ENDLESS = {0: -100.0, 2: -100.0}


@pytest.fixture
def config(tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]) -> ServerConfig:
    return ServerConfig(
        model_folder=str(tiny_models["llama"]),
        adapters={str(i): str(folder) for i, folder in enumerate(tiny_adapters["llama"])},
        slots=3,
        threads=1,
        context_tokens=512,
    )


def run(config: ServerConfig, folder: Path, scenario: Callable[[LlamaCppEngine], Awaitable[Any]]) -> Any:
    async def play() -> Any:
        async with loaded(config, folder) as engine:
            return await scenario(engine)

    return asyncio.run(play())


@asynccontextmanager
async def loaded(config: ServerConfig, folder: Path) -> AsyncIterator[LlamaCppEngine]:
    engine = LlamaCppEngine(config, folder)
    await engine.load()
    try:
        yield engine
    finally:
        await engine.close()


async def ask(engine: LlamaCppEngine, adapter: str | None = None, **fields: Any) -> list[Token]:
    defaults = {"prompt": PROMPT, "max_tokens": 40, "temperature": 0.0, "logit_bias": ENDLESS}
    return [token async for token in engine.generate(Sampling(adapter=adapter, **(defaults | fields)))]


def ids(tokens: list[Token]) -> list[int]:
    return [token.id for token in tokens]


def test_a_long_answer_holds_up_no_other_adapters_short_one(config: ServerConfig, tmp_path: Path) -> None:
    async def scenario(engine: LlamaCppEngine) -> None:
        said = 0

        async def long() -> None:
            nonlocal said
            sampling = Sampling(adapter="0", prompt=PROMPT, max_tokens=480, temperature=0.0, logit_bias=ENDLESS)
            async for _ in engine.generate(sampling):
                said += 1

        task = asyncio.create_task(long())
        while said == 0:
            await asyncio.sleep(0.001)
        assert len(await ask(engine, "1", max_tokens=5)) == 5
        assert said < 300
        await task
        assert said == 480

    run(config, tmp_path, scenario)


def test_taking_turns_changes_no_answer(config: ServerConfig, tmp_path: Path) -> None:
    async def scenario(engine: LlamaCppEngine) -> None:
        kinds: list[dict[str, Any]] = [
            {"adapter": "0"},
            {"adapter": "1", "seed": 5, "temperature": 1.0},
            {"adapter": "2", "logprobs": 2},
            {"adapter": None, "seed": 9, "temperature": 0.7},
        ]
        alone = [ids(await ask(engine, **kind)) for kind in kinds]
        assert len({tuple(answer) for answer in alone}) == 4
        together = await asyncio.gather(*(ask(engine, **kind) for kind in kinds))
        assert [ids(answer) for answer in together] == alone

    run(config, tmp_path, scenario)


def test_adapters_beyond_the_room_come_and_go(config: ServerConfig, tmp_path: Path) -> None:
    async def scenario(engine: LlamaCppEngine) -> list[list[int]]:
        return [ids(answer) for answer in await asyncio.gather(*(ask(engine, str(i % 3)) for i in range(6)))]

    async def cramped(engine: LlamaCppEngine) -> list[list[int]]:
        assert (await engine.metrics())["adapters_in_memory"] == 0
        one_by_one = [ids(await ask(engine, str(i % 3))) for i in range(6)]
        assert (await engine.metrics())["adapters_in_memory"] == 1
        assert await scenario(engine) == one_by_one
        return one_by_one

    expected = run(config, tmp_path, scenario)
    small = ServerConfig(
        model_folder=config.model_folder, adapters=config.adapters, adapter_bytes=1, slots=3, threads=1
    )
    assert run(small, tmp_path, cramped) == expected


def test_a_prefix_is_computed_once_but_not_for_others(config: ServerConfig, tmp_path: Path) -> None:
    async def scenario(engine: LlamaCppEngine) -> None:
        long = list(range(40, 140))
        assert (await ask(engine, prompt=long, cache_scope="a"))[0].cached_tokens == 0
        assert (await ask(engine, prompt=[*long, 7], cache_scope="a"))[0].cached_tokens >= 99
        assert (await ask(engine, prompt=long, cache_scope="b"))[0].cached_tokens == 0
        assert (await ask(engine, "0", prompt=long, cache_scope="a"))[0].cached_tokens == 0
        # All three slots hold this prompt for someone else now.
        assert (await ask(engine, "1", prompt=long, cache_scope="a"))[0].cached_tokens == 0

    run(config, tmp_path, scenario)


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4])
def test_the_limit_may_fall_in_the_middle_of_a_character(config: ServerConfig, tmp_path: Path, max_tokens: int) -> None:
    """The tokens of a llama, forced one after another: llama.cpp sends nothing until the fourth."""

    async def scenario(engine: LlamaCppEngine) -> None:
        grammar = 'root ::= "🦙🦙"'
        answer = await ask(engine, max_tokens=max_tokens, grammar=grammar)
        spelled = b"".join(engine._pieces.bytes_of(token.id) for token in answer)
        assert len(answer) == max_tokens
        assert "🦙🦙".encode().startswith(spelled)

    run(config, tmp_path, scenario)


def test_sockets_of_a_killed_server_are_cleared_away(config: ServerConfig) -> None:
    # A short path: under a long one the kernel takes no socket, and the server looks for another place.
    with tempfile.TemporaryDirectory(prefix="fin-") as name:
        folder = Path(name)
        (folder / "llamacpp-left").mkdir()

        async def scenario(engine: LlamaCppEngine) -> None:
            assert not (folder / "llamacpp-left").exists()
            assert len(list(folder.glob("llamacpp-*"))) == 1

        run(config, folder, scenario)
        assert list(folder.glob("llamacpp-*")) == []


def test_it_adapts_to_its_neighbours_without_a_failed_request(
    config: ServerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowds = [
        False,
        True,
        True,
        True,
        False,
        True,
    ]  # at the start, then whenever it looks; the last ones change nothing

    async def crowded(own: object, seconds: float, *, before: bool = False) -> bool:
        return crowds.pop(0) if crowds else before

    async def scenario(engine: LlamaCppEngine) -> None:
        expected = ids(await ask(engine))
        while crowds:
            assert ids(await ask(engine)) == expected
        assert ids(await ask(engine, "0")) != expected
        assert (await engine.metrics())["engine_changes_total"] == 1

    monkeypatch.setattr(llamacpp, "is_crowded", crowded)
    monkeypatch.setattr(llamacpp, "_WATCH_SECONDS", 0.05)
    run(config, tmp_path, scenario)


def test_a_model_without_numbers_is_asked_for_them_once_an_answer(
    config: ServerConfig, tiny_adapters: dict[str, list[Path]], tmp_path: Path
) -> None:
    """As after a training that went astray; a look-up for each of its tokens took minutes an evaluation."""
    astray = tmp_path / "astray"
    astray.mkdir()
    # Without what an engine may have made of it in its folder.
    shutil.copy(tiny_adapters["llama"][0] / "adapter_config.json", astray)
    weights = load_file(tiny_adapters["llama"][0] / "adapter_model.safetensors")
    save_file(
        {name: np.full_like(tensor, 6e4) for name, tensor in weights.items()}, astray / "adapter_model.safetensors"
    )
    config = dataclasses.replace(config, adapters={"astray": str(astray)})
    (tmp_path / "inference").mkdir()

    async def scenario(engine: LlamaCppEngine) -> list[Token]:
        return await ask(engine, "astray", max_tokens=12, logprobs=1)

    tokens = run(config, tmp_path / "inference", scenario)
    assert len(tokens) == 12
    assert {token.logprob for token in tokens} == {None}
    log = (tmp_path / "inference" / LOG_FILE).read_text(errors="replace")
    assert log.count("send_error") == 1
