"""vLLM as an engine, for GPUs: continuous batching over requests of many adapters, its core in processes of its own.

Places are given by our own schedule, so that projects and adapters take turns; what has a place vLLM batches as it
likes. It knows tokens only: text, templates and stop strings are `serving.answers`. `vllm_setup.prepare` comes first.
"""

import asyncio
import contextlib
import itertools
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from finery.core.errors import CorruptArtifact, InvalidRequest, Unavailable
from finery.modeling import sources
from finery.modeling.adapters import WEIGHTS_FILE, read_adapter
from finery.modeling.architectures import linear_layers
from finery.serving.config import ServerConfig
from finery.serving.engines.base import Capabilities, Engine, Sampling, Token
from finery.serving.engines.vllm_adapters import AdapterBook, LoadedAdapter
from finery.serving.engines.vllm_requests import params_of, prompt_of, scoring_params, token_at, tokens_of
from finery.serving.engines.vllm_worker import EXTENSION, PENALTIES
from finery.serving.protocol import MAX_LOGPROBS
from finery.serving.schedule import Schedule

_PRECISIONS = {"": "auto", "fp32": "float32", "bf16": "bfloat16"}
_RANKS = (8, 16, 32, 64, 128, 256, 512)
"""What vLLM can be started for."""
_BATCH_ADAPTERS = 4
"""Different adapters in one batch; vLLM keeps room for each on the GPU."""
_MOST_ADAPTERS = 1000
"""In the machine's memory; others are read again when they are asked for."""
_CPU_CACHE_BYTES = 1 << 30
"""Memory for keys and values on a machine without a GPU, where vLLM would take nearly all there is."""


class VllmEngine(Engine):
    """One base model on vLLM."""

    def __init__(self, config: ServerConfig, sockets: Path) -> None:
        if config.precision not in _PRECISIONS:
            raise InvalidRequest(f"{config.precision!r} is no precision; there are fp32 and bf16, or nothing.")
        self._config = config
        self._sockets = sockets
        self._model = sources.load(Path(config.model_folder))
        self._rank = _rank(config.adapter_rank)
        self._in_memory = _adapters_in_memory(config, self._model.config, self._rank)
        context = min(config.context_tokens or 4096, self._model.context_tokens)
        slots = config.slots or 8
        self._capabilities = Capabilities(
            engine="vllm", context_tokens=context, slots=slots, json_schema=True, grammar=True
        )
        self._book = AdapterBook(forget=self._forget)
        self._schedule = Schedule(slots=slots)
        self._llm: AsyncLLM | None = None
        self._starting = asyncio.Lock()
        self._forgetting: set[asyncio.Task[None]] = set()
        self._asked: set[str] = set()
        self._numbers = itertools.count()
        self._generated = 0
        self._starts = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def load(self) -> None:
        await self._start()
        for name, folder in self._config.adapters.items():
            await self.add_adapter(name, Path(folder))

    def adapters(self) -> dict[str, Path]:
        return self._book.folders()

    async def add_adapter(self, name: str, folder: Path) -> None:
        await asyncio.to_thread(self._check_adapter, folder)
        adapter = self._book.new(folder)
        await self._read_adapter(await self._current(), adapter)
        self._book.put(name, adapter)

    async def remove_adapter(self, name: str) -> None:
        self._book.remove(name)

    async def generate(self, sampling: Sampling) -> AsyncGenerator[Token, None]:
        asked = time.monotonic()
        with _refusals():
            params = params_of(sampling, self._model.eos_token_ids)
        first = True
        with self._book.use(sampling.adapter) as adapter:
            async with self._schedule.place(sampling.adapter, sampling.cache_scope):
                placed = time.monotonic()
                async with aclosing(self._outputs(sampling.prompt, params, sampling.cache_scope, adapter)) as outputs:
                    async for output in outputs:
                        for token in tokens_of(output.outputs[0], sampling.logprobs):
                            self._generated += 1
                            yield _first(token, output, asked, placed) if first else token
                            first = False

    async def score(self, tokens: Sequence[int], *, adapter: str | None, top: int, start: int) -> list[Token]:
        with self._book.use(adapter) as found:
            async with (
                self._schedule.place(adapter, ""),
                aclosing(self._outputs(tokens, scoring_params(top), "", found)) as outputs,
            ):
                async for output in outputs:
                    places = zip(tokens[start:], output.prompt_logprobs[start:], strict=True)
                    return [token_at(token, there, top) for token, there in places]
        raise Unavailable("vLLM ended without an answer; try again.")

    async def embed(self, tokens: Sequence[int], *, adapter: str | None) -> list[float]:
        raise InvalidRequest("The engine vllm serves no embeddings; use the engine torch.")

    async def metrics(self) -> dict[str, float]:
        return {
            "requests_running": self._schedule.running,
            "requests_waiting": self._schedule.waiting,
            "tokens_generated_total": self._generated,
            "adapters": len(self._book),
            "engine_changes_total": max(0, self._starts - 1),
        }

    async def close(self) -> None:
        async with self._starting:
            llm, self._llm = self._llm, None
        if llm is not None:
            await llm.abort(list(self._asked))
            await asyncio.to_thread(llm.shutdown)
        for task in self._forgetting:
            task.cancel()
        await asyncio.gather(*self._forgetting, return_exceptions=True)
        shutil.rmtree(self._sockets, ignore_errors=True)

    async def _outputs(
        self, tokens: Sequence[int], params: SamplingParams, scope: str, adapter: LoadedAdapter | None
    ) -> AsyncGenerator[RequestOutput, None]:
        """One request to vLLM; its errors in our words."""
        llm = await self._current()
        if adapter is not None:
            await self._have_adapter(llm, adapter)
        name = str(next(self._numbers))
        self._asked.add(name)
        try:
            with _refusals():
                stream = llm.generate(prompt_of(tokens, scope), params, name, lora_request=_lora(adapter))
                async with aclosing(stream) as outputs:
                    async for output in outputs:
                        if output.outputs[0].finish_reason == "abort":
                            raise Unavailable("The inference server is stopping; try again.")
                        yield output
        finally:
            self._asked.discard(name)

    async def _current(self) -> AsyncLLM:
        """vLLM as it runs; one whose core has died is replaced, with its adapters."""
        if self._llm is not None and not self._llm.errored:
            return self._llm
        async with self._starting:
            if self._llm is None:
                raise Unavailable("The inference server is loading its model, or stopping.")
            if self._llm.errored:
                await asyncio.to_thread(self._llm.shutdown)
                await self._start()
            return self._llm

    async def _start(self) -> None:
        self._llm = llm = await asyncio.to_thread(self._launch)
        self._starts += 1
        await llm.collective_rpc("end_with_finery", args=(os.getpid(),))

    def _launch(self) -> AsyncLLM:
        try:
            return AsyncLLM.from_engine_args(self._arguments())
        except (RuntimeError, ValueError, OSError) as error:
            raise Unavailable(
                f"vLLM can't serve {self._model.folder}: {error} Where memory is short, lower "
                "FINERY_INFERENCE_GPU_SHARE, FINERY_INFERENCE_CONTEXT or FINERY_INFERENCE_SLOTS."
            ) from error

    def _arguments(self) -> AsyncEngineArgs:
        able = self._capabilities
        return AsyncEngineArgs(
            model=str(self._model.folder),
            trust_remote_code=False,
            load_format="safetensors",
            # Ends and defaults are what the request says, not what a file beside the weights does.
            generation_config="vllm",
            dtype=_PRECISIONS[self._config.precision],
            max_model_len=able.context_tokens,
            max_num_seqs=able.slots,
            max_logprobs=MAX_LOGPROBS,
            gpu_memory_utilization=self._config.gpu_share,
            kv_cache_memory_bytes=_cpu_cache_bytes(),
            enable_lora=True,
            max_loras=min(_BATCH_ADAPTERS, able.slots),
            max_cpu_loras=self._in_memory,
            max_lora_rank=self._rank,
            logits_processors=[PENALTIES],
            worker_extension_cls=EXTENSION,
            seed=secrets.randbelow(2**31),
            disable_log_stats=True,
        )

    def _check_adapter(self, folder: Path) -> None:
        """Raises InvalidRequest or CorruptArtifact, naming what is wrong with it."""
        config, _ = read_adapter(folder, self._model.config)
        if config.dora or config.task != "CAUSAL_LM":
            raise InvalidRequest(f"{folder} is a {config.task} adapter (DoRA: {config.dora}); plain LoRA is served.")
        if config.rank > self._rank:
            raise InvalidRequest(
                f"{folder} has the rank {config.rank}; vLLM was started for adapters of rank {self._rank} at most. Set "
                f"FINERY_INFERENCE_ADAPTER_RANK to {config.rank}, or deploy it with another engine."
            )

    async def _have_adapter(self, llm: AsyncLLM, adapter: LoadedAdapter) -> None:
        """vLLM must find its files: a request that needs them in vain would end the engine for everybody."""
        if not (adapter.folder / WEIGHTS_FILE).is_file():
            raise CorruptArtifact(f"The files of the adapter in {adapter.folder} are gone; deploy it again.")
        if len(self._book) > self._in_memory or self._starts > 1:
            await self._read_adapter(llm, adapter)

    async def _read_adapter(self, llm: AsyncLLM, adapter: LoadedAdapter) -> None:
        try:
            await llm.add_lora(_lora(adapter))
        except EngineDeadError as error:
            raise Unavailable("vLLM's engine has died; try again.") from error
        except Exception as error:  # of whatever kind: what its process raised comes as text
            raise CorruptArtifact(f"vLLM can't load the adapter in {adapter.folder}: {error}") from error

    def _forget(self, adapter: LoadedAdapter) -> None:
        if self._llm is not None and not self._llm.errored:
            task = asyncio.create_task(_forgotten(self._llm, adapter))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)


async def _forgotten(llm: AsyncLLM, adapter: LoadedAdapter) -> None:
    with contextlib.suppress(Exception):  # an engine that died has forgotten it too
        await llm.remove_lora(adapter.number)


def _lora(adapter: LoadedAdapter | None) -> LoRARequest | None:
    if adapter is None:
        return None
    return LoRARequest(lora_name=adapter.label, lora_int_id=adapter.number, lora_path=str(adapter.folder))


@contextmanager
def _refusals() -> Iterator[None]:
    """vLLM's errors as ours."""
    try:
        yield
    except EngineDeadError as error:
        raise Unavailable("vLLM's engine has died; try again.") from error
    except EngineGenerateError as error:
        if isinstance(error.__cause__, ValueError):
            raise InvalidRequest(f"vLLM refuses the request: {error.__cause__}") from error
        raise Unavailable(f"vLLM failed: {error.__cause__!r}; try again.") from error
    except (VLLMClientError, ValueError) as error:
        raise InvalidRequest(f"vLLM refuses the request: {error}") from error


def _first(token: Token, output: RequestOutput, asked: float, placed: float) -> Token:
    return replace(
        token,
        cached_tokens=output.num_cached_tokens or 0,
        queue_seconds=placed - asked,
        engine_seconds=time.monotonic() - placed,
    )


def _rank(wanted: int) -> int:
    """The smallest that vLLM can be started for."""
    fitting = [rank for rank in _RANKS if rank >= wanted]
    if not fitting or wanted < 1:
        raise InvalidRequest(f"FINERY_INFERENCE_ADAPTER_RANK is {wanted}; 1 to {_RANKS[-1]} can be.")
    return fitting[0]


def _adapters_in_memory(config: ServerConfig, model: dict[str, Any], rank: int) -> int:
    """How many adapters of the largest rank fit into the memory meant for them, 2 bytes a number."""
    one = 2 * rank * sum(outputs + inputs for outputs, inputs in linear_layers(model).values())
    return max(_BATCH_ADAPTERS, min(_MOST_ADAPTERS, config.adapter_bytes // one))


def _cpu_cache_bytes() -> int | None:
    """On a GPU vLLM finds out by itself what is left of its share."""
    return _CPU_CACHE_BYTES if current_platform.is_cpu() else None
