"""The folder of one inference server: `server.json` in, `ready.json` or `failed.json` out; it starts nothing.

`ready.json` is written, whole, once the server answers: {"port", "pid"}. `failed.json` is the error that kept it from
starting, as in `protocol.error_json`.
"""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finery.core.errors import InvalidRequest

CONFIG_FILE = "server.json"
READY_FILE = "ready.json"
FAILED_FILE = "failed.json"
PID_FILE = "server.pid"
LOG_FILE = "server.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """All that an inference server is told."""

    model_folder: str
    """Folder of the base model."""
    engine: str = "llamacpp"
    """llamacpp, torch (many adapters side by side, and the reference), or vllm (for GPUs)."""
    precision: str = ""
    """Of weights in torch and vllm: fp32 (exact), bf16 (fast where the machine has it), or, in torch, fp16 (all between
    the layers in fp32). Empty: torch takes fp16 on x86-64, else fp32; vllm what they were saved in, 16 bits at most."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Names of adapters and their folders in PEFT's format, loaded at the start."""
    weights_file: str = ""
    """A GGUF file to serve instead of the one made from the folder, such as a quantised export."""
    adapter_bytes: int = 1 << 30
    """Memory for adapters, by the size of their files; the least used ones leave it and come back when asked for."""
    adapter_rank: int = 64
    """Largest rank of an adapter on vllm, which sets memory aside for it when it starts."""
    gpu_share: float = 0.9
    """Part of a GPU's memory that vllm takes for itself: weights, adapters, keys and values."""
    slots: int = 0
    """Most requests decoded side by side, 0 means 8; fewer where the memory for their keys and values is short."""
    threads: int = 0
    """CPU threads; 0 means all cores."""
    context_tokens: int = 0
    """Prompt and answer of one request together; 0 means the model's own, 4096 at most."""

    def write(self, folder: Path) -> None:
        """Write `server.json`, whole or not at all."""
        write_json(folder / CONFIG_FILE, dataclasses.asdict(self))

    @staticmethod
    def read(folder: Path) -> "ServerConfig":
        """Read `server.json`; an unknown field or a missing file is an InvalidRequest that names it."""
        path = folder / CONFIG_FILE
        try:
            return ServerConfig(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise InvalidRequest(f"{path} is missing; an inference server is told there what to serve.") from error
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"{path} is not a server's configuration: {error}.") from error


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON beside `path`, then rename it there: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
    temporary.replace(path)
