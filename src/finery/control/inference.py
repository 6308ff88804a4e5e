"""Which inference servers run, and with which adapters. One server per base model; it is started when somebody asks,
started again when it died, and stopped when nobody has asked for a while. Knows no request and no policy.
"""

import asyncio
import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from finery.core.errors import CorruptArtifact, FineryError, InvalidRequest, Unavailable
from finery.core.models import TunedModel
from finery.modeling import manifests
from finery.modeling.sources import LocalModel
from finery.serving.config import ServerConfig
from finery.serving.process import InferenceProcess
from finery.serving.remote import InferenceClient
from finery.settings import Settings
from finery.storage.blobs import BlobStore

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Longest start: the first one of a model also writes its GGUF file."""


@dataclass(kw_only=True, slots=True)
class _Server:
    """One base model's server; `lock` guards starting it and changing its adapters."""

    model_folder: Path
    engine: str
    process: InferenceProcess | None = None
    client: InferenceClient | None = None
    adapters: set[str] = field(default_factory=set)
    active: int = 0
    used_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive


class InferencePool:
    """Inference servers of one machine."""

    def __init__(self, settings: Settings, blobs: BlobStore) -> None:
        self._settings = settings
        self._blobs = blobs
        self._servers: dict[str, _Server] = {}

    @contextlib.asynccontextmanager
    async def use(
        self, base: LocalModel, tuned: TunedModel | None, *, engine: str = "llamacpp"
    ) -> AsyncIterator[tuple[InferenceClient, str | None]]:
        """A server with the model loaded in an engine, and its adapter's name there, for as long as the block lasts.

        Raises:
            Unavailable: the server doesn't start.
            CorruptArtifact: the adapter's files aren't what was trained.
        """
        _require_words(base, tuned)
        server, adapter = await self._ready(base, tuned, engine)
        server.active += 1
        try:
            assert server.client is not None
            yield server.client, adapter
        finally:
            server.active -= 1
            server.used_at = time.monotonic()

    async def stop_idle(self, keep: set[str]) -> None:
        """Stop servers that nobody used for a while, but for those of the base models in `keep`."""
        for name, server in list(self._servers.items()):
            if name in keep:
                continue
            # Looked at under the lock: a server that is just being started isn't idle.
            async with server.lock:
                idle = time.monotonic() - server.used_at
                if server.alive and not server.active and idle > self._settings.idle_seconds:
                    log.info("stopping the idle inference server of %s", name)
                    await self._stop(server)

    async def close(self) -> None:
        """Stop every server."""
        await asyncio.gather(*(self._stop(server) for server in self._servers.values()))

    async def _ready(self, base: LocalModel, tuned: TunedModel | None, engine: str) -> tuple[_Server, str | None]:
        full = tuned is not None and tuned.manifest.get("method") == "full"
        name = tuned.name if tuned is not None and full else base.id
        folder = await self.materialise(tuned) if tuned else base.folder
        if engine != "llamacpp":
            name = f"{name}#{engine}"
        server = self._servers.setdefault(name, _Server(model_folder=folder if full else base.folder, engine=engine))
        adapter = None if tuned is None or full else tuned.name
        with _said_plainly(tuned.name if tuned else base.id):
            async with server.lock:
                if not server.alive:
                    await self._start(name, server)
                assert server.client is not None
                if adapter is not None and adapter not in server.adapters:
                    await server.client.put_adapter(adapter, folder)
                    server.adapters.add(adapter)
        return server, adapter

    async def _start(self, name: str, server: _Server) -> None:
        await self._stop(server)
        folder = self._settings.home / "inference" / _digest(name)
        config = ServerConfig(
            model_folder=str(server.model_folder),
            engine=server.engine,
            slots=self._settings.inference_slots,
            context_tokens=self._settings.inference_context,
        )
        log.info("starting the inference server of %s", name)
        server.process = await asyncio.to_thread(InferenceProcess.start, folder, config)
        server.client = await server.process.wait_ready(START_SECONDS)
        server.adapters.clear()
        server.used_at = time.monotonic()

    async def _stop(self, server: _Server) -> None:
        if server.client is not None:
            await server.client.close()
        if server.process is not None:
            await server.process.stop()
        server.client, server.process = None, None

    async def materialise(self, tuned: TunedModel) -> Path:
        """The model's files as a folder, made once from its blobs."""
        final = self._settings.home / "adapters" / _digest(tuned.name)
        if not final.exists():
            await asyncio.to_thread(self._write_folder, tuned, final)
        return final

    def _write_folder(self, tuned: TunedModel, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f"{final.name}.{time.monotonic_ns()}")
        try:
            for path, file in tuned.manifest["files"].items():
                target = temporary / path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._blobs.save_to(file["sha256"], target)
            manifests.verify(temporary)
            with contextlib.suppress(OSError):
                # Another request was quicker: the same bytes lie there already.
                temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _require_words(base: LocalModel, tuned: TunedModel | None) -> None:
    task = tuned.manifest.get("task", "chat") if tuned else "chat"
    if task not in ("chat", "completion"):
        raise InvalidRequest(
            f"'{tuned.name if tuned else base.id}' has a head for the task {task} in place of words: it can't chat.",
            code="unsupported_model",
            param="model",
        )


@contextlib.contextmanager
def _said_plainly(model: str) -> Iterator[None]:
    """What an engine says of a failed load (paths, traces) is for the log; the caller is told what it means."""
    try:
        yield
    except (InvalidRequest, CorruptArtifact):
        raise
    except FineryError as error:
        log.error("loading %s: %s", model, error.message)
        raise Unavailable(f"The model '{model}' could not be loaded. The server's log says why.") from error


def _digest(name: str) -> str:
    """A folder name for a model's name, which may hold colons and dots."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
