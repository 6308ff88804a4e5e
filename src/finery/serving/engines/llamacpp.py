"""llama.cpp as an engine: GGUF weights, one child process for each set of adapters, continuous batching.

A new set of adapters is a new child beside the old one (the weights' pages are shared by mmap); requests in flight
finish on the old one, which then ends. It knows tokens only: text, templates and stop strings are `serving.answers`.
"""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from finery.core.errors import FineryError, InvalidRequest, Unavailable, UnknownModel
from finery.modeling import sources
from finery.serving import artifacts
from finery.serving.adapter_shelf import AdapterShelf
from finery.serving.config import ServerConfig
from finery.serving.engines.base import Capabilities, Engine, Sampling, Token
from finery.serving.engines.llamacpp_generate import Answer
from finery.serving.engines.llamacpp_runner import PREFIX, Runner
from finery.serving.engines.llamacpp_score import score
from finery.serving.neighbours import is_crowded, waiting_environment
from finery.serving.pieces import TokenPieces
from finery.serving.schedule import Schedule

_WATCH_SECONDS = 10.0
_LOOK_SECONDS = 0.3
_CACHE_BYTES = 1 << 30
"""Memory that keys and values of all slots may take in any case; a quarter of what is free, where that is more."""


class LlamaCppEngine(Engine):
    """One base model on llama.cpp."""

    def __init__(self, config: ServerConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._model = sources.load(Path(config.model_folder))
        self._pieces = TokenPieces.load(self._model.folder)
        self._eos = frozenset(self._model.eos_token_ids)
        self._capabilities = _capabilities(config, self._model.config, self._model.context_tokens)
        self._folders = {name: Path(path) for name, path in config.adapters.items()}
        self._shelf = AdapterShelf(config.adapter_bytes)
        self._runner: Runner | None = None
        self._changing = asyncio.Lock()
        self._schedule = Schedule(slots=self._capabilities.slots)
        self._draining: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._crowded = False
        self._generated = 0
        self._changes = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def load(self) -> None:
        for left in self._folder.glob(f"{PREFIX}*"):  # of a server that was killed
            shutil.rmtree(left, ignore_errors=True)
        for name, folder in self._folders.items():
            self._shelf.put(name, await asyncio.to_thread(artifacts.adapter_gguf, self._model.folder, folder))
        self._crowded = await is_crowded([], _LOOK_SECONDS)
        self._runner = await self._start()
        self._watching = asyncio.create_task(self._watch_neighbours())

    def adapters(self) -> dict[str, Path]:
        return dict(self._folders)

    async def add_adapter(self, name: str, folder: Path) -> None:
        path = await asyncio.to_thread(artifacts.adapter_gguf, self._model.folder, folder)
        previous = self._shelf.put(name, path)
        try:
            with self._shelf.need(name):
                await self._current(path)
        except FineryError:
            self._shelf.restore(name, previous)
            raise
        self._folders[name] = folder

    async def remove_adapter(self, name: str) -> None:
        if name not in self._folders:
            raise UnknownModel(f"No adapter {name!r} is loaded.", param="adapter")
        del self._folders[name]
        self._shelf.drop(name)

    async def generate(self, sampling: Sampling) -> AsyncGenerator[Token, None]:
        asked = time.monotonic()
        async with self._place(sampling.adapter, sampling.cache_scope) as (runner, path):
            placed = time.monotonic()
            slot = runner.take_slot(sampling.adapter, sampling.cache_scope, sampling.prompt)
            seen = list(sampling.prompt)
            try:
                fields = {"id_slot": slot.number, "lora": runner.lora(path), "cache_prompt": bool(slot.tokens)}
                answer = Answer(
                    runner.completions, sampling, fields, self._schedule, pieces=self._pieces, eos=self._eos
                )
                async with aclosing(answer.tokens()) as tokens:
                    async for token in tokens:
                        seen.append(token.id)
                        self._generated += 1
                        if len(seen) > len(sampling.prompt) + 1:
                            yield token
                            continue
                        yield replace(
                            token,
                            cached_tokens=answer.cached_tokens,
                            queue_seconds=placed - asked,
                            engine_seconds=time.monotonic() - placed,
                        )
            finally:
                runner.give_slot(slot, seen)

    async def score(self, tokens: Sequence[int], *, adapter: str | None, top: int, start: int) -> list[Token]:
        async with self._place(adapter, "") as (runner, path):
            slot = runner.take_slot(adapter, "", tokens)
            try:
                fields = {"id_slot": slot.number, "lora": runner.lora(path)}
                async with self._schedule.turn(adapter):
                    return await score(
                        runner.completions, tokens, start=start, top=top, pieces=self._pieces, fields=fields
                    )
            finally:
                runner.give_slot(slot, [])

    async def embed(self, tokens: Sequence[int], *, adapter: str | None) -> list[float]:
        raise InvalidRequest("The engine llamacpp serves no embeddings; use the engine torch.")

    async def metrics(self) -> dict[str, float]:
        return {
            "requests_running": self._schedule.running,
            "requests_waiting": self._schedule.waiting,
            "tokens_generated_total": self._generated,
            "adapters": len(self._folders),
            "adapters_in_memory": 0 if self._runner is None else len(self._runner.adapters),
            "engine_changes_total": self._changes,
        }

    async def close(self) -> None:
        tasks = [*self._draining, *([] if self._watching is None else [self._watching])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.close()

    @asynccontextmanager
    async def _place(self, adapter: str | None, scope: str) -> AsyncIterator[tuple[Runner, Path | None]]:
        """A runner that has the adapter, with a place on it."""
        with self._shelf.need(adapter) as path:
            await self._current(path)  # before the place: none stands empty while llama.cpp loads an adapter
            async with self._schedule.place(adapter, scope):
                with (await self._current(path)).use() as runner:
                    yield runner, path

    async def _current(self, path: Path | None) -> Runner:
        """The runner for new requests, with this adapter; one that died or lacks it is replaced."""
        runner = self._runner
        if runner is not None and runner.serves(path):
            return runner
        async with self._changing:  # one change serves all who wait for it
            runner = self._runner
            if runner is None:
                raise Unavailable("The inference server is still loading its model.")
            if runner.serves(path):
                return runner
            return await self._replace(runner)

    async def _replace(self, runner: Runner) -> Runner:
        """A new runner in the place of this one, on which requests in flight finish; to be called with the lock."""
        self._runner = await self._start()
        self._changes += 1
        task = asyncio.create_task(runner.drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
        return self._runner

    async def _watch_neighbours(self) -> None:
        """Change the runner's way of waiting when the machine has become crowded, or quiet, and stays so."""
        changed = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            runner = self._runner
            if runner is None or not runner.alive:
                continue
            crowded = await is_crowded([runner.pid], _LOOK_SECONDS, before=self._crowded)
            changed = changed + 1 if crowded != self._crowded else 0
            if changed < 2:
                continue
            self._crowded, changed = crowded, 0
            async with self._changing:
                with contextlib.suppress(FineryError):  # no room for a second one: the old one serves on
                    await self._replace(runner if self._runner is None else self._runner)

    async def _start(self) -> Runner:
        weights = self._config.weights_file
        return await Runner.start(
            self._folder,
            model=Path(weights) if weights else await asyncio.to_thread(artifacts.model_gguf, self._model.folder),
            adapters=self._shelf.chosen(),
            slots=self._capabilities.slots,
            context_tokens=self._capabilities.context_tokens,
            threads=self._config.threads or os.cpu_count() or 1,
            environment=waiting_environment(self._crowded),
        )


def _capabilities(config: ServerConfig, model: dict[str, Any], model_context: int) -> Capabilities:
    context = min(config.context_tokens or 4096, model_context)
    heads = model["num_attention_heads"]
    head_size = model.get("head_dim") or model["hidden_size"] // heads
    # Keys and values, 2 bytes each, for every layer (llama.cpp keeps them as f16).
    token_bytes = 2 * 2 * model["num_hidden_layers"] * (model.get("num_key_value_heads") or heads) * head_size
    fitting = max(_CACHE_BYTES, _available_bytes() // 4) // (token_bytes * context)
    slots = max(1, min(config.slots or 8, fitting))
    return Capabilities(engine="llamacpp", context_tokens=context, slots=slots, json_schema=True, grammar=True)


def _available_bytes() -> int:
    """Memory that can be had now; 0 where the system doesn't tell."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    return 0
