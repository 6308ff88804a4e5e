"""What vLLM is told before it is imported: nothing to the network, nothing to report, sockets that only we can open.

vLLM reads its environment when it is imported, and hands it on to its own processes. It knows no model, and doesn't
import vLLM either.
"""

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from finery.core.errors import InvalidRequest
from finery.serving.config import ServerConfig

PREFIX = "vllm-"
"""How the folders of sockets begin."""

_LONGEST_SOCKET_PATH = 107
"""unix(7): sun_path."""

_FIXED = {
    # Models are folders of this machine. Hugging Face's libraries would ask their hub all the same.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # vLLM sends its users' hardware and models home unless it is told not to.
    "DO_NOT_TRACK": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # Its processes speak to each other on this machine alone.
    "VLLM_HOST_IP": "127.0.0.1",
    # A fork of a process that has threads (uvicorn's, the lifeline's) may inherit a lock that nobody opens.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # What penalises repetitions (`vllm_worker`) is written for this model runner, on GPUs and CPUs alike.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}
_DEFAULTS = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    # On CPUs only: by itself vLLM pins threads to cores, as if the machine were its own.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def prepare(config: ServerConfig, folder: Path) -> Path:
    """Set the environment of this process; returns the folder of vLLM's sockets, to be removed in the end.

    Raises InvalidRequest, with the way out, where vLLM isn't installed.
    """
    if find_spec("vllm") is None:
        raise InvalidRequest(
            "The engine vllm needs a Python that has vLLM, on a machine with a GPU: python -m venv vllm && "
            "vllm/bin/pip install 'finery[vllm]', then start the server with FINERY_VLLM_PYTHON=vllm/bin/python. Or "
            "deploy with the engine llamacpp.",
            param="engine",
        )
    os.environ.update(_FIXED)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if config.threads:
        os.environ["OMP_NUM_THREADS"] = str(config.threads)
    sockets = _socket_folder(folder)
    os.environ["VLLM_RPC_BASE_PATH"] = str(sockets)
    return sockets


def _socket_folder(folder: Path) -> Path:
    """A folder of its own, closed to others, and short enough for a socket's path."""
    for left in folder.glob(f"{PREFIX}*"):  # of a server that was killed
        shutil.rmtree(left, ignore_errors=True)
    short = len(str(folder.resolve())) < _LONGEST_SOCKET_PATH - 60
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder.resolve() if short else None))
