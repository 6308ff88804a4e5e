"""Which of the registered adapters are held in memory: those in use, then those used last, as far as the room goes.

It knows names, files and sizes, and starts nothing; an engine asks it what to load when it must load anew.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from finery.core.errors import UnknownModel


@dataclass(slots=True)
class AdapterShelf:
    """Registered adapters and how lately each was wanted."""

    room_bytes: int
    """For all adapters in memory together, by the size of their files; those in use may exceed it."""
    _files: dict[str, Path] = field(default_factory=dict, init=False)
    _needed: Counter[Path] = field(default_factory=Counter, init=False)
    _wanted_at: dict[Path, int] = field(default_factory=dict, init=False)
    _clock: Iterator[int] = field(default_factory=itertools.count, init=False)

    def put(self, name: str, path: Path) -> Path | None:
        """Register an adapter's file; returns the one that the name had before."""
        previous = self._files.get(name)
        self._files[name] = path
        self._wanted_at[path] = next(self._clock)
        return previous

    def restore(self, name: str, previous: Path | None) -> None:
        """Undo a `put`."""
        if previous is None:
            self.drop(name)
        else:
            self._files[name] = previous

    def drop(self, name: str) -> None:
        """Forget a name; requests on it that are under way go on."""
        self._files.pop(name, None)

    @contextmanager
    def need(self, name: str | None) -> Iterator[Path | None]:
        """The adapter's file (None for the base), which stays among the chosen until the block ends.

        Raises UnknownModel.
        """
        if name is None:
            yield None
            return
        if name not in self._files:
            raise UnknownModel(f"No adapter {name!r} is loaded.", param="adapter")
        path = self._files[name]
        self._wanted_at[path] = next(self._clock)
        self._needed[path] += 1
        try:
            yield path
        finally:
            self._needed[path] -= 1

    def chosen(self) -> list[Path]:
        """Files to hold in memory, sorted: all that are needed, and of the others the last wanted that fit."""
        needed = {path for path, count in self._needed.items() if count > 0}
        left = self.room_bytes - sum(map(_size, needed))
        others = set(self._files.values()) - needed
        for path in sorted(others, key=lambda path: self._wanted_at[path], reverse=True):
            left -= _size(path)
            if left < 0:
                break
            needed.add(path)
        return sorted(needed)


def _size(path: Path) -> int:
    return path.stat().st_size
