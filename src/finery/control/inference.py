"""Which inference servers run, and with which adapters. One server per base model, engine and replica; it is started
when somebody asks, started again with its adapters when it died, and stopped when nobody has asked for a while. Knows
no request and no policy.
"""

import asyncio
import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finery.core.errors import CorruptArtifact, FineryError, InvalidRequest, Unavailable
from finery.core.models import TunedModel
from finery.modeling import manifests
from finery.modeling.sources import FACTS_FILE, LocalModel
from finery.serving.config import ServerConfig
from finery.serving.process import InferenceProcess
from finery.serving.protocol import OUT_OF_MEMORY
from finery.serving.remote import InferenceClient
from finery.settings import Settings
from finery.storage.blobs import BlobStore

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Longest start: the first one of a model also writes its GGUF file."""

VLLM_START_SECONDS = 900.0
"""vLLM compiles and tries what it will run before it answers: minutes for a large model."""


@dataclass(frozen=True, slots=True)
class ServerKey:
    """What tells one server from another."""

    model: str
    """A base model, or a tuned one that has all its weights."""
    engine: str
    replica: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """How much of a model's serving deployments need."""

    replicas: int
    idle_seconds: float
    """Infinite: it stays in memory."""


@dataclass(kw_only=True, slots=True)
class _Server:
    """One server of a model; `starting` guards its process, `loading` its adapters."""

    model_folder: Path
    version: int | None = None
    """Of the folder that `process` was started with."""
    process: InferenceProcess | None = None
    client: InferenceClient | None = None
    adapters: dict[str, Path] = field(default_factory=dict)
    """Names and folders; those of a server that died are loaded again with the next one."""
    active: int = 0
    used_at: float = 0.0
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def alive(self) -> bool:
        """Whether it runs, on the files that are there now: a base may have been imported anew under its name."""
        return self.process is not None and self.process.alive and self.version == _version(self.model_folder)


class InferencePool:
    """Inference servers of one machine."""

    def __init__(self, settings: Settings, blobs: BlobStore) -> None:
        self._settings = settings
        self._blobs = blobs
        self._servers: dict[ServerKey, _Server] = {}
        self.reference = asyncio.Semaphore(1)
        """Held while a reference model is in memory: one at a time."""

    @contextlib.asynccontextmanager
    async def use(
        self, base: LocalModel, tuned: TunedModel | None, *, engine: str = "llamacpp", replicas: int = 1
    ) -> AsyncIterator[tuple[InferenceClient, str | None]]:
        """A server with the model loaded in an engine, and its adapter's name there, for as long as the block lasts.

        Of several replicas it is the least busy one.

        Raises:
            Unavailable: the server doesn't start.
            CorruptArtifact: the adapter's files aren't what was trained.
        """
        keys = [ServerKey(_served_model(base, tuned), engine, replica) for replica in range(replicas)]
        key = min(keys, key=lambda key: (self._active(key), key.replica))
        async with self.use_replica(base, tuned, engine=engine, replica=key.replica) as found:
            yield found

    @contextlib.asynccontextmanager
    async def use_replica(
        self, base: LocalModel, tuned: TunedModel | None, *, engine: str, replica: int
    ) -> AsyncIterator[tuple[InferenceClient, str | None]]:
        """As `use`, with one replica in particular."""
        _require_words(base, tuned)
        key = ServerKey(_served_model(base, tuned), engine, replica)
        folder = await self.materialise(tuned) if tuned else base.folder
        whole = tuned is None or is_full(tuned)
        server = self._servers.setdefault(key, _Server(model_folder=folder if whole else base.folder))
        server.active += 1
        try:
            adapter = None if tuned is None or whole else tuned.name
            with _said_plainly(tuned.name if tuned else base.id):
                client = await self._ready(key, server, adapter, folder)
            yield client, adapter
        finally:
            server.active -= 1
            server.used_at = time.monotonic()

    def ready_replicas(self, model: str, engine: str, replicas: int) -> int:
        """How many of a model's first servers run."""
        servers = (self._servers.get(ServerKey(model, engine, replica)) for replica in range(replicas))
        return sum(server is not None and server.alive for server in servers)

    async def stop_idle(self, needs: Mapping[tuple[str, str], Need]) -> None:
        """Stop servers that nobody used for a while; how long that is, `needs` says by model and engine."""
        for key, server in list(self._servers.items()):
            need = needs.get((key.model, key.engine))
            wanted = need is not None and key.replica < need.replicas
            patience = need.idle_seconds if need is not None and wanted else self._settings.idle_seconds
            # Looked at under the lock: a server that is just being started isn't idle.
            async with server.starting:
                idle = time.monotonic() - server.used_at
                if server.process is not None and not server.active and idle > patience:
                    log.info("stopping the idle inference server of %s", key.model)
                    await self._stop(server)

    async def close(self) -> None:
        """Stop every server."""
        await asyncio.gather(*(self._stop(server) for server in self._servers.values()))

    def _active(self, key: ServerKey) -> int:
        return self._servers[key].active if key in self._servers else 0

    async def _ready(self, key: ServerKey, server: _Server, adapter: str | None, folder: Path) -> InferenceClient:
        """The server's client, the adapter loaded; a server that dies under it is started again, once."""
        for last in (False, True):
            client = await self._running(key, server)
            try:
                if adapter is not None:
                    await self._load(server, client, adapter, folder)
            except Unavailable:
                if last or server.alive:
                    raise
                continue
            return client
        raise AssertionError("the second attempt returns or raises")

    async def _running(self, key: ServerKey, server: _Server) -> InferenceClient:
        if server.alive and server.client is not None:
            return server.client
        async with server.starting:
            if not server.alive or server.client is None:
                await self._start(key, server)
            assert server.client is not None
            return server.client

    async def _load(self, server: _Server, client: InferenceClient, name: str, folder: Path) -> None:
        """Load an adapter; requests for others go on meanwhile."""
        if name in server.adapters:
            return
        async with server.loading:
            if name not in server.adapters:
                await client.put_adapter(name, folder)
                server.adapters[name] = folder

    async def _start(self, key: ServerKey, server: _Server) -> None:
        await self._stop(server)
        adapters = {name: folder for name, folder in server.adapters.items() if folder.is_dir()}
        try:
            await self._launch(key, server, adapters)
        except (InvalidRequest, CorruptArtifact) as error:
            if not adapters:
                raise
            # One adapter that has gone bad must not keep all others from answering.
            log.warning("%s starts without its adapters: %s", key.model, error.message)
            await self._launch(key, server, {})

    async def _launch(self, key: ServerKey, server: _Server, adapters: dict[str, Path]) -> None:
        version = _version(server.model_folder)
        config = ServerConfig(
            model_folder=str(server.model_folder),
            engine=key.engine,
            adapters={name: str(folder) for name, folder in adapters.items()},
            slots=self._settings.inference_slots,
            context_tokens=self._settings.inference_context,
            adapter_rank=self._settings.inference_adapter_rank,
            gpu_share=self._settings.inference_gpu_share,
        )
        log.info("starting the inference server of %s", key.model)
        folder = self._settings.home / "inference" / _digest(f"{key.model}#{key.engine}#{key.replica}")
        python = self._settings.vllm_python if key.engine == "vllm" else ""
        process = await asyncio.to_thread(InferenceProcess.start, folder, config, python)
        try:
            server.client = await process.wait_ready(VLLM_START_SECONDS if key.engine == "vllm" else START_SECONDS)
        except BaseException:
            await process.stop()
            raise
        server.process, server.version = process, version
        server.adapters, server.used_at = adapters, time.monotonic()

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


def is_full(tuned: TunedModel) -> bool:
    """Whether a tuned model has weights of its own, in place of an adapter."""
    return tuned.manifest.get("method") == "full"


def _version(folder: Path) -> int | None:
    """Another one after each import into a folder of a base model; None for a tuned model's, which never changes."""
    try:
        return (folder / FACTS_FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _served_model(base: LocalModel, tuned: TunedModel | None) -> str:
    return tuned.name if tuned is not None and is_full(tuned) else base.id


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
        if error.code == OUT_OF_MEMORY:
            raise
        log.error("loading %s: %s", model, error.message)
        raise Unavailable(f"The model '{model}' could not be loaded. The server's log says why.") from error


def _digest(name: str) -> str:
    """A folder name for a model's name, which may hold colons and dots."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
