"""One llama.cpp child process from start to end, and its slots; it decides nothing about when to change it.

Each slot remembers the tokens whose keys and values llama.cpp still holds there, so that a prompt goes where most of it
is known already, and never shares them across adapters or cache scopes.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finery.core.errors import CorruptArtifact, Unavailable
from finery.serving.engines.llamacpp_child import Order
from finery.serving.engines.llamacpp_completions import Completions
from finery.serving.protocol import OUT_OF_MEMORY
from finery.serving.wire import Wire

PREFIX = "llamacpp-"
"""How the folders of sockets begin."""
LOG_FILE = "llamacpp.log"
_LONGEST_SOCKET_PATH = 107  # unix(7): sun_path
_LONGEST_START_SECONDS = 600.0


@dataclass(kw_only=True, slots=True)
class Slot:
    """One of llama.cpp's places and what it holds."""

    number: int
    owner: tuple[str | None, str] = (None, "")
    """Adapter and cache scope of its tokens."""
    tokens: list[int] = field(default_factory=list)
    used_at: float = 0.0

    def shared(self, prompt: Sequence[int]) -> int:
        """Tokens at the beginning of the prompt that lie here already."""
        for place, (held, wanted) in enumerate(zip(self.tokens, prompt, strict=False)):
            if held != wanted:
                return place
        return min(len(self.tokens), len(prompt))


class Runner:
    """A running llama.cpp."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, order: Order) -> None:
        self.completions = Completions(Wire(server="llama.cpp", key=order.key, socket=order.socket))
        self.adapters: dict[Path, int] = {Path(path): place for place, path in enumerate(order.adapters)}
        self._process = process
        self._folder = folder
        self._free = [Slot(number=number) for number in range(order.slots)]
        self._used = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @staticmethod
    async def start(
        folder: Path,
        *,
        model: Path,
        adapters: Sequence[Path],
        slots: int,
        context_tokens: int,
        threads: int,
        environment: Mapping[str, str],
    ) -> "Runner":
        """Start and wait until it serves; `folder` is for its log and its socket, `environment` is added.

        Raises CorruptArtifact where llama.cpp can't load what it was given.
        """
        log = folder / LOG_FILE
        short = len(str(folder.resolve())) < _LONGEST_SOCKET_PATH - 40
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder.resolve() if short else None))
        order = Order(
            parent_pid=os.getpid(),
            model=str(model),
            adapters=[str(path) for path in adapters],
            socket=str(place / "llama.sock"),
            key=secrets.token_urlsafe(24),
            slots=slots,
            context_tokens=context_tokens,
            threads=threads,
        )
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "finery.serving.engines.llamacpp_child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | environment,
            )
        runner = Runner(process, place, order)
        try:
            await asyncio.wait_for(_wait_ready(process, order, log), _LONGEST_START_SECONDS)
        except BaseException:
            await runner.close()
            raise
        return runner

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None

    def serves(self, adapter: Path | None) -> bool:
        """Whether the process runs and has this adapter."""
        return self.alive and (adapter is None or adapter in self.adapters)

    @contextlib.contextmanager
    def use(self) -> Iterator["Runner"]:
        """Keep this runner from being drained while a request is on it."""
        self._used += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._used -= 1
            if self._used == 0:
                self._idle.set()

    def lora(self, adapter: Path | None) -> list[dict[str, Any]]:
        """What a request must say to use one adapter and no other."""
        return [{"id": place, "scale": 1.0} for path, place in self.adapters.items() if path == adapter]

    def take_slot(self, adapter: str | None, scope: str, prompt: Sequence[int]) -> Slot:
        """The free slot that holds most of the prompt for this adapter and scope, else the one unused the longest."""
        owner = (adapter, scope)
        best = max(self._free, key=lambda slot: (slot.shared(prompt) if slot.owner == owner else 0, -slot.used_at))
        self._free.remove(best)
        if best.owner != owner:
            best.owner, best.tokens = owner, []
        return best

    def give_slot(self, slot: Slot, tokens: Sequence[int]) -> None:
        """Return a slot with the tokens it has seen; the last of them was chosen, not computed."""
        slot.tokens = list(tokens[:-1])
        slot.used_at = time.monotonic()
        self._free.append(slot)

    async def drain(self) -> None:
        """End once the requests on it are through."""
        await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        """End now."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


async def _wait_ready(process: asyncio.subprocess.Process, order: Order, log: Path) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(order.line().encode())
        await process.stdin.drain()
    line = await process.stdout.readline()
    if line and json.loads(line).get("ready"):
        return
    status = 0 if line else await process.wait()
    if status == -signal.SIGKILL:
        raise Unavailable(
            f"There was no memory left to load {order.model}: the system ended llama.cpp. Stop another model, or give "
            "this one fewer slots or a shorter context.",
            code=OUT_OF_MEMORY,
        )
    reason = json.loads(line)["error"] if line else f"it ended with status {status}"
    raise CorruptArtifact(f"llama.cpp can't load {order.model} with its adapters: {reason} Its log is {log}.")
