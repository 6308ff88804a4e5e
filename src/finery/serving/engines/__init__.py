"""Inference engines behind one interface (`base.Engine`), chosen by name; each is imported only when asked for."""

from pathlib import Path

from finery.core.errors import InvalidRequest
from finery.serving.config import ServerConfig
from finery.serving.engines.base import Engine

ENGINES = ("llamacpp", "torch", "vllm")


def make_engine(config: ServerConfig, folder: Path) -> Engine:
    """The engine a configuration names, not yet loaded; `folder` is for its sockets and logs.

    Raises InvalidRequest for a name that is no engine, and for one that isn't installed.
    """
    if config.engine == "llamacpp":
        from finery.serving.engines.llamacpp import LlamaCppEngine

        return LlamaCppEngine(config, folder)
    if config.engine == "torch":
        from finery.serving.engines.torch import TorchEngine

        return TorchEngine(config)
    if config.engine == "vllm":
        from finery.serving.engines.vllm_setup import prepare

        sockets = prepare(config, folder)  # vLLM reads its environment when it is imported
        from finery.serving.engines.vllm import VllmEngine

        return VllmEngine(config, sockets)
    raise InvalidRequest(f"{config.engine!r} is no engine; there are {', '.join(ENGINES)}.", param="engine")
