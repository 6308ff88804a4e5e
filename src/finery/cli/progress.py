"""Bars and spinners on standard error. On anything but a terminal bars stay silent and work is told in lines."""

import contextlib
from collections.abc import Callable, Iterator

from finery.cli.console import err, note, plain

BytesDone = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

ShareDone = Callable[[str, float], None]
"""Called with (what is being done, how much of it is, 0 to 1)."""


@contextlib.contextmanager
def bytes_bar(what: str) -> Iterator[BytesDone]:
    """A bar for bytes on their way."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = err()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(plain(what), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def share_bar(what: str) -> Iterator[ShareDone]:
    """A bar for work that tells in words what it does; in a log, a line for each new word."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    console = err()
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(plain(what), total=1.0)
        told = ""

        def show(now: str, share: float) -> None:
            nonlocal told
            if now != told and not console.is_terminal:
                note(f"{what}: {now}")
            told = now
            progress.update(task, completed=share, description=plain(f"{what}: {now}"))

        yield show


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner beside a sentence."""
    from rich.text import Text

    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(plain(what))):
        yield
