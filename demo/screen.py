"""What the demo looks like: headings, progress bars, and how it says that it can't go on."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False)


class DemoError(Exception):
    """The demo can't go on; the message says why, and what to do."""


def heading(number: int, what: str) -> None:
    """Say which step begins."""
    console.print(f"\n[bold cyan]{number}. {what}[/bold cyan]")


def bar() -> Progress:
    """A progress bar; on anything but a terminal it stays silent."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def fail(message: str) -> int:
    """Say in red what went wrong; returns the exit status."""
    console.print(f"[red]{escape(message)}[/red]", soft_wrap=True)
    return 1
