"""Inference engines behind one interface (`base.Engine`), chosen by name; each is imported only when asked for."""

from pathlib import Path

from finery.core.errors import InvalidRequest
from finery.serving.config import ServerConfig
from finery.serving.engines.base import Engine

ENGINES = ("llamacpp", "torch")


def make_engine(config: ServerConfig, folder: Path) -> Engine:
    """The engine a configuration names, not yet loaded; `folder` is for its sockets and logs.

    Raises InvalidRequest for a name that is no engine.
    """
    if config.engine == "llamacpp":
        from finery.serving.engines.llamacpp import LlamaCppEngine

        return LlamaCppEngine(config, folder)
    if config.engine == "torch":
        from finery.serving.engines.torch import TorchEngine

        return TorchEngine(config)
    raise InvalidRequest(f"{config.engine!r} is no engine; there are {', '.join(ENGINES)}.", param="engine")
