"""Requests of different adapters in one batch: the same answers as alone, prompts in pieces, leavers and failures."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finery.core.errors import InvalidRequest
from finery.modeling.architectures import read_config
from finery.serving.config import ServerConfig
from finery.serving.engines import torch as engine_module
from finery.serving.engines.base import Sampling, Token
from finery.serving.engines.torch import TorchEngine
from finery.serving.engines.torch_pasts import Past
from finery.serving.engines.torch_rows import Part, RowModel

ENDLESS = {0: -100.0, 2: -100.0}


@pytest.fixture(params=["llama", "phi3"])
def config(request: Any, tiny_models: dict[str, Path], tiny_adapters: dict[str, list[Path]]) -> ServerConfig:
    adapters = {str(i): str(folder) for i, folder in enumerate(tiny_adapters[request.param])}
    folder = str(tiny_models[request.param])
    return ServerConfig(model_folder=folder, engine="torch", adapters=adapters, slots=6, threads=1, context_tokens=256)


def run(config: ServerConfig, scenario: Callable[[TorchEngine], Awaitable[Any]]) -> Any:
    async def play() -> Any:
        engine = TorchEngine(config)
        await engine.load()
        try:
            return await scenario(engine)
        finally:
            await engine.close()

    return asyncio.run(play())


async def ask(engine: TorchEngine, adapter: str | None, **fields: Any) -> list[Token]:
    defaults = {"prompt": [40, 41, 42, 43], "max_tokens": 20, "temperature": 0.0, "logit_bias": ENDLESS}
    return [token async for token in engine.generate(Sampling(adapter=adapter, **(defaults | fields)))]


def test_a_batch_of_many_adapters_answers_as_each_alone(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_PASS_TOKENS", 7)  # prompts come in pieces
    kinds: list[dict[str, Any]] = [
        {"adapter": name, "prompt": list(range(40, 44 + 3 * i)), "max_tokens": 12 + i}
        for i, name in enumerate(["0", None, "1", "2", "0", None])
    ]
    kinds[2] |= {"temperature": 1.0, "seed": 4}

    async def scenario(engine: TorchEngine) -> None:
        alone = [[token.id for token in await ask(engine, **kind)] for kind in kinds]
        together = await asyncio.gather(*(ask(engine, **kind) for kind in kinds))
        assert [[token.id for token in answer] for answer in together] == alone
        assert len({tuple(answer[:12]) for answer in alone}) >= 4

    run(config, scenario)


def test_adapters_side_by_side_compute_what_each_does_alone(config: ServerConfig) -> None:
    """Whole prompts alone, then in two passes beside each other; the logits must not tell."""
    folder = Path(config.model_folder)
    model = RowModel(folder, read_config(folder))
    adapters = [{}, *(model.load_adapter(Path(place)) for place in config.adapters.values())]
    pasts = [Past(8) for _ in adapters]
    whole = [model.read([Part([50, 51, 52], Past(8), adapter, keep=3)])[0] for adapter in adapters]
    parts = [Part([50, 51], past, adapter, keep=2) for past, adapter in zip(pasts, adapters, strict=True)]
    firsts = model.read(parts)
    lasts = model.read([Part([52], past, adapter) for past, adapter in zip(pasts, adapters, strict=True)])
    for alone, first, last in zip(whole, firsts, lasts, strict=True):
        torch.testing.assert_close(torch.cat([first, last]), alone, rtol=1e-4, atol=1e-4)


def test_adapters_of_many_ranks_come_and_go(
    tiny_models: dict[str, Path], tmp_path: Path, make_adapter: Callable[..., Path]
) -> None:
    folder = tiny_models["llama"]
    ranks = [4, 2, 4, 8, 2, 16, 4]
    paths = [make_adapter(folder, tmp_path / str(i), seed=i, rank=rank) for i, rank in enumerate(ranks)]

    def logits(model: RowModel, adapters: list[Any]) -> list[torch.Tensor]:
        return model.read([Part([50, 51, 52], Past(8), adapter) for adapter in adapters])

    crowded = RowModel(folder, read_config(folder))
    adapters = [crowded.load_adapter(path) for path in paths]
    for chosen in ([0, 1], [2, 3, 4], [5], [0, 6, 1], [6, 5, 3], [2]):
        found = logits(crowded, [adapters[i] for i in chosen])
        fresh = RowModel(folder, read_config(folder))
        for i, one in zip(chosen, found, strict=True):
            torch.testing.assert_close(one, logits(fresh, [fresh.load_adapter(paths[i])])[0], rtol=1e-4, atol=1e-4)


def test_a_request_that_leaves_disturbs_no_other(config: ServerConfig) -> None:
    async def scenario(engine: TorchEngine) -> None:
        expected = [token.id for token in await ask(engine, "0", max_tokens=40)]
        leaver = engine.generate(Sampling(prompt=[40, 41], max_tokens=200, adapter="1", logit_bias=ENDLESS))
        staying = asyncio.create_task(ask(engine, "0", max_tokens=40))
        for _ in range(3):
            await anext(leaver)
        await leaver.aclose()
        assert [token.id for token in await staying] == expected
        assert (await engine.metrics())["requests_running"] == 0

    run(config, scenario)


def test_a_pass_that_fails_ends_the_requests_in_it_and_no_later_one(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(engine: TorchEngine) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(engine_module, "_choose", lambda *_: 1 / 0)
            results = await asyncio.gather(ask(engine, "0"), ask(engine, None), return_exceptions=True)
            assert [type(result) for result in results] == [ZeroDivisionError, ZeroDivisionError]
        assert len(await ask(engine, "0")) == 20

    run(config, scenario)


def test_embeddings_have_length_one_and_follow_the_adapter(config: ServerConfig) -> None:
    async def scenario(engine: TorchEngine) -> None:
        base, adapted = [await engine.embed([40, 41, 42], adapter=name) for name in (None, "0")]
        assert sum(value * value for value in base) == pytest.approx(1.0, abs=1e-5)
        assert base != pytest.approx(adapted, abs=1e-3)

    run(config, scenario)


@pytest.mark.parametrize(("precision", "kl"), [("bf16", 0.02), ("fp16", 1e-5)])
def test_sixteen_bits_are_near_fp32(config: ServerConfig, precision: str, kl: float) -> None:
    folder = Path(config.model_folder)
    exact, fast = (RowModel(folder, read_config(folder), one) for one in ("fp32", precision))
    paths = [Path(place) for place in config.adapters.values()]
    for chosen in ([None], [paths[0]], [paths[0], None, *paths[1:], paths[0]]):
        found = []
        for model in (exact, fast):
            loaded = {path: model.load_adapter(path) for path in paths}
            parts = [Part([50, 51, 52, 53], Past(8), loaded[path] if path else {}, keep=4) for path in chosen]
            parts += [Part([60], Past(8), loaded[path] if path else {}) for path in chosen]
            found.append(torch.cat(model.read(parts)).log_softmax(-1))
        assert float((found[0].exp() * (found[0] - found[1])).sum(-1).mean()) < kl  # in nats
        assert found[1].dtype == torch.float32


def test_a_precision_that_is_none_is_refused(config: ServerConfig) -> None:
    with pytest.raises(InvalidRequest, match="'int4' is no precision; there are fp32, bf16, fp16"):
        RowModel(Path(config.model_folder), read_config(Path(config.model_folder)), "int4")


def test_a_sliding_window_is_kept() -> None:
    from finery.serving.engines.torch_pasts import mask

    assert mask(1, 5, None) is None
    assert mask(2, 4, None).tolist() == [[True, True, True, False], [True, True, True, True]]  # type: ignore[union-attr]
    assert mask(1, 5, 2).tolist() == [[False, False, False, True, True]]  # type: ignore[union-attr]
