"""transformers for a process that loads a model and computes with it: without what it brings along for others.

Its classes of models pull in accelerate and scipy, where they are installed, torch's sharded tensors and its compiler.
None of it computes anything of ours, and it is half of the CPU time until a trainer has its model's class. This is for
processes of our own, which do nothing else; others get all of transformers. It knows no model.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_DISPENSABLE = ("accelerate", "scipy", "sklearn", "librosa", "pandas")
"""Packages that transformers does without where they aren't installed."""

_COMPILER = "torch._dynamo"


def load_transformers() -> None:
    """Import transformers' models, once and for all in this process."""
    if "transformers" in sys.modules:
        return
    for name in _DISPENSABLE:
        # What Python reads as: it isn't there.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    import torch
    from transformers.utils import import_utils

    with _in_place_of(torch.distributed, "is_available", lambda: False):
        # It remembers the answer. Several processes train together by torch itself (`training.ranks`).
        import_utils.is_torch_distributed_available()
    if _COMPILER not in sys.modules:
        sys.modules[_COMPILER] = torch._dynamo = _LateCompiler(Path(torch.__file__).parent)
    importlib.import_module("transformers.modeling_utils")


class _LateCompiler(ModuleType):
    """In the place of torch's compiler until somebody wants more of it than to be left alone by it."""

    def __init__(self, torch_folder: Path) -> None:
        super().__init__(_COMPILER)
        self.__path__ = [str(torch_folder / "_dynamo")]
        for marker in ("allow_in_graph", "assume_constant_result", "disable"):
            setattr(self, marker, _as_it_is)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules[_COMPILER] is self:
            del sys.modules[_COMPILER]
        return getattr(importlib.import_module(_COMPILER), name)


def _as_it_is(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Callable[..., Any]:
    return _as_it_is if function is None else function


@contextmanager
def _in_place_of(module: Any, name: str, other: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, before)
