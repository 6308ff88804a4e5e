"""The torch engine: transformers' model code, requests and their adapters side by side in one batch.

Adapters are added to a layer's output at the time of use, never merged, as the trainer does it. It is the engine for
many adapters: where llama.cpp decodes one adapter at a time, here every request of a batch has its own. It starts more
slowly than llama.cpp. The only modules of serving that import torch are this and `torch_*`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from finery.core.errors import UnknownModel
from finery.modeling import sources
from finery.serving.config import ServerConfig
from finery.serving.engines import torch_weights
from finery.serving.engines.base import Capabilities, Engine, Sampling, Token
from finery.serving.engines.torch_adapters import Adapter
from finery.serving.engines.torch_pasts import Past
from finery.serving.engines.torch_rows import Part, RowModel
from finery.serving.schedule import Schedule

_PASS_TOKENS = 512
"""Most prompt tokens of one pass: other requests wait no longer than that for their next token."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Request:
    sampling: Sampling
    adapter: Adapter
    past: Past
    generator: torch.Generator
    unread: list[int]
    """Tokens that the model hasn't seen: the prompt's rest, or the last token said."""
    said: list[int] = field(default_factory=list)
    ready: "asyncio.Queue[Token | Exception]" = field(default_factory=asyncio.Queue)
    done: bool = False


class TorchEngine(Engine):
    """One base model in torch."""

    def __init__(self, config: ServerConfig) -> None:
        self._info = sources.load(Path(config.model_folder))
        self._eos = frozenset(self._info.eos_token_ids)
        context = min(config.context_tokens or 4096, self._info.context_tokens)
        slots = config.slots or 8
        self._capabilities = Capabilities(engine="torch", context_tokens=context, slots=slots, embeddings=True)
        self._threads = config.threads
        self._precision = config.precision or torch_weights.fastest_precision()
        self._folders = {name: Path(path) for name, path in config.adapters.items()}
        self._adapters: dict[str, Adapter] = {}
        self._base: Adapter = {}
        self._schedule = Schedule(slots=slots)
        self._requests: list[_Request] = []
        self._passes: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._generated = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def load(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        self._model = await asyncio.to_thread(RowModel, self._info.folder, self._info.config, self._precision)
        for name, folder in self._folders.items():
            self._adapters[name] = await asyncio.to_thread(self._model.load_adapter, folder)

    def adapters(self) -> dict[str, Path]:
        return dict(self._folders)

    async def add_adapter(self, name: str, folder: Path) -> None:
        self._adapters[name] = await asyncio.to_thread(self._model.load_adapter, folder)
        self._folders[name] = folder

    async def remove_adapter(self, name: str) -> None:
        if name not in self._folders:
            raise UnknownModel(f"No adapter {name!r} is loaded.", param="adapter")
        del self._folders[name], self._adapters[name]

    async def generate(self, sampling: Sampling) -> AsyncGenerator[Token, None]:
        request = self._request(sampling)
        asked = time.monotonic()
        async with self._schedule.place(sampling.adapter, sampling.cache_scope):
            placed = time.monotonic()
            self._requests.append(request)
            if self._passes is None or self._passes.done():
                self._passes = asyncio.create_task(self._run_passes())
            try:
                for place in range(sampling.max_tokens):
                    token = await request.ready.get()
                    if isinstance(token, Exception):
                        raise token
                    if place == 0:
                        token = replace(token, queue_seconds=placed - asked, engine_seconds=time.monotonic() - placed)
                    yield token
                    if token.id in self._eos:
                        return
            finally:
                request.done = True

    async def score(self, tokens: Sequence[int], *, adapter: str | None, top: int, start: int) -> list[Token]:
        part = Part(tokens, Past(len(tokens)), self._adapter(adapter), keep=len(tokens) - start + 1)
        async with self._lock:
            [logits] = await asyncio.to_thread(self._model.read, [part])
        logprobs = logits[:-1].log_softmax(-1)
        return [_token(token, there, top) for token, there in zip(tokens[start:], logprobs, strict=True)]

    async def embed(self, tokens: Sequence[int], *, adapter: str | None) -> list[float]:
        part = Part(tokens, Past(len(tokens)), self._adapter(adapter))
        async with self._lock:
            return [float(value) for value in await asyncio.to_thread(self._model.embed, part)]

    async def metrics(self) -> dict[str, float]:
        return {
            "requests_running": self._schedule.running,
            "requests_waiting": self._schedule.waiting,
            "tokens_generated_total": self._generated,
            "adapters": len(self._folders),
        }

    async def close(self) -> None:
        if self._passes is not None:
            self._passes.cancel()
            await asyncio.gather(self._passes, return_exceptions=True)

    def _adapter(self, name: str | None) -> Adapter:
        if name is None:
            return self._base
        if name not in self._adapters:
            raise UnknownModel(f"No adapter {name!r} is loaded.", param="adapter")
        return self._adapters[name]

    def _request(self, sampling: Sampling) -> _Request:
        generator = torch.Generator()
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        past = Past(len(sampling.prompt) + sampling.max_tokens)
        adapter = self._adapter(sampling.adapter)
        return _Request(
            sampling=sampling, adapter=adapter, past=past, generator=generator, unread=list(sampling.prompt)
        )

    async def _run_passes(self) -> None:
        """One pass after the other while there are requests."""
        while requests := [request for request in self._requests if not request.done]:
            self._requests = requests
            chosen = _next(requests)
            try:
                async with self._lock:
                    tokens = await asyncio.to_thread(self._pass, chosen)
            except Exception as error:
                for request in requests:
                    request.done = True
                    request.ready.put_nowait(error)
                return
            for request, token in tokens:
                self._generated += 1
                request.done |= token.id in self._eos or len(request.said) >= request.sampling.max_tokens
                request.ready.put_nowait(token)

    def _pass(self, chosen: list[tuple[_Request, int]]) -> list[tuple[_Request, Token]]:
        """Read so many unread tokens of each request; those that have read all say their next token."""
        parts = [Part(request.unread[:count], request.past, request.adapter) for request, count in chosen]
        said = []
        for (request, count), logits in zip(chosen, self._model.read(parts), strict=True):
            del request.unread[:count]
            if request.unread:
                continue
            token = _choose(logits[-1], request.said, request.sampling, request.generator)
            request.said.append(token)
            request.unread.append(token)
            wanted = request.sampling.logprobs
            said.append(
                (request, Token(id=token) if wanted is None else _token(token, logits[-1].log_softmax(-1), wanted))
            )
        return said


def _next(requests: list[_Request]) -> list[tuple[_Request, int]]:
    """Who reads how many tokens in the next pass: everybody's last token, and of prompts what there is room for."""
    chosen, left = [], _PASS_TOKENS
    for request in requests:
        if len(request.unread) == 1:
            chosen.append((request, 1))
        elif left > 0:
            chosen.append((request, min(left, len(request.unread))))
            left -= chosen[-1][1]
    return chosen


def _choose(logits: Tensor, said: list[int], sampling: Sampling, generator: torch.Generator) -> int:
    """Biases and penalties, then temperature, then the nucleus, then the draw."""
    logits = logits.clone()
    for token, bias in sampling.logit_bias.items():
        logits[token] += bias
    if sampling.presence_penalty or sampling.frequency_penalty:
        counts = torch.bincount(torch.tensor([*sampling.prompt, *said]), minlength=len(logits)).to(logits.dtype)
        logits -= sampling.frequency_penalty * counts + sampling.presence_penalty * (counts > 0)
    if sampling.temperature == 0:
        return int(logits.argmax())
    values, order = (logits / sampling.temperature).softmax(-1).sort(descending=True)
    kept = values.cumsum(-1) - values < sampling.top_p
    kept[0] = True
    return int(order[torch.multinomial(values * kept, 1, generator=generator)])


def _token(token: int, logprobs: Tensor, top: int) -> Token:
    values, ids = logprobs.topk(min(max(top, 1), len(logprobs)))
    alternatives = tuple((int(i), float(v)) for i, v in zip(ids, values, strict=True))[:top]
    return Token(id=token, logprob=float(logprobs[token]), top=alternatives)
