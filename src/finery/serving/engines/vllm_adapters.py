"""The adapters that requests to vLLM may name: who is loaded under which number, and when one may be forgotten.

vLLM knows adapters by numbers and reads their files again whenever it has dropped them from memory, also in the middle
of a request; a file that is gone then ends the whole engine. So each load gets a number that is never used again (its
prefix cache is never another's), and a removed adapter is forgotten only when no request is on it. It knows no vLLM.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from finery.core.errors import UnknownModel


@dataclass(kw_only=True, slots=True, eq=False)
class LoadedAdapter:
    """One load of an adapter's folder."""

    number: int
    """1 or more."""
    folder: Path
    requests: int = 0
    removed: bool = False

    @property
    def label(self) -> str:
        """A name in vLLM: no two loads share one."""
        return f"adapter-{self.number}"


@dataclass(kw_only=True, slots=True)
class AdapterBook:
    """Adapters by name."""

    forget: Callable[[LoadedAdapter], None]
    """Called when a removed adapter is no longer in use."""
    _named: dict[str, LoadedAdapter] = field(default_factory=dict, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)

    def __len__(self) -> int:
        return len(self._named)

    def folders(self) -> dict[str, Path]:
        """Names and folders."""
        return {name: adapter.folder for name, adapter in self._named.items()}

    def new(self, folder: Path) -> LoadedAdapter:
        """A number for a load of this folder, before it has a name."""
        return LoadedAdapter(number=next(self._numbers), folder=folder)

    def put(self, name: str, adapter: LoadedAdapter) -> None:
        """Requests may name it from now on; what had the name before is removed."""
        previous = self._named.get(name)
        self._named[name] = adapter
        if previous is not None:
            self._retire(previous)

    def remove(self, name: str) -> None:
        """No further request may name it. Raises UnknownModel."""
        self._retire(self._named.pop(self._known(name)))

    @contextmanager
    def use(self, name: str | None) -> Iterator[LoadedAdapter | None]:
        """The adapter (None for the base), which isn't forgotten until the block ends. Raises UnknownModel."""
        if name is None:
            yield None
            return
        adapter = self._named[self._known(name)]
        adapter.requests += 1
        try:
            yield adapter
        finally:
            adapter.requests -= 1
            self._forget_if_idle(adapter)

    def _known(self, name: str) -> str:
        if name not in self._named:
            raise UnknownModel(f"No adapter {name!r} is loaded.", param="adapter")
        return name

    def _retire(self, adapter: LoadedAdapter) -> None:
        adapter.removed = True
        self._forget_if_idle(adapter)

    def _forget_if_idle(self, adapter: LoadedAdapter) -> None:
        if adapter.removed and adapter.requests == 0:
            self.forget(adapter)
