"""The process around one llama.cpp server object: one model, a fixed set of adapters, one Unix socket.

    python -m finery.serving.engines.llamacpp_child < order.json

llama.cpp takes its adapters when it starts, and building it holds Python's lock for half a second. In a process of its
own it stalls no stream, an abort inside it takes nothing else along, and its memory goes back whole. Started by
`engines.llamacpp`; it reads one line of JSON (`Order`), answers `{"ready": true}` or `{"error": …}` on one line, and
ends when its input is closed or its parent dies.
"""

import dataclasses
import importlib
import json
import sys
from dataclasses import dataclass
from typing import Any

from finery.serving.lifeline import die_with_parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What the process is told on its first line of input."""

    parent_pid: int
    model: str
    """Path of the GGUF file."""
    adapters: list[str]
    """Paths of adapter GGUF files; their place in the list is the id that requests name."""
    socket: str
    """Path of the Unix socket to listen on; its folder is closed to others."""
    key: str
    """Bearer token that every request must carry."""
    slots: int
    context_tokens: int
    """For each slot."""
    threads: int
    embeddings: bool = False

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


def main() -> None:
    """Read the order, serve until the input ends."""
    order = Order(**json.loads(sys.stdin.readline()))
    die_with_parent(order.parent_pid)
    try:
        server = _start(order)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        _say({"error": str(error)})
        return
    _say({"ready": True})
    sys.stdin.read()
    del server


def _start(order: Order) -> Any:
    xllamacpp: Any = importlib.import_module("xllamacpp")  # built without types

    params = xllamacpp.CommonParams()
    params.model.path = order.model
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in order.adapters]
    params.n_parallel = order.slots
    params.n_ctx = order.slots * order.context_tokens
    params.cpuparams.n_threads = order.threads
    params.cpuparams_batch.n_threads = order.threads
    params.hostnames = [order.socket]
    params.api_keys = [order.key]
    params.cors_origins = ""
    params.ui = False
    params.endpoint_metrics = True
    params.n_threads_http = order.slots + 4
    # Prompts saved aside in memory would be shared between projects; each slot's own cache is enough.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.slot_prompt_similarity = 0.0
    params.warmup = False
    params.fit_params = False
    params.verbosity = 1
    if order.embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - the parent reads this line


if __name__ == "__main__":
    main()
