"""A running job: a live bar on a terminal, lines in a log, and the closing report. Takes events and jobs as JSON."""

import math
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from finery.cli.console import EXIT_INTERRUPTED, err, fields, note, out, plain, say
from finery.cli.figures import count, curve, duration
from finery.core.errors import Conflict, FineryError, Unavailable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from finery.sdk import Finery, Json

_LOG_SHARES = 20
"""In a log, a line of figures each time another 1/20 of the steps is done."""

_SPEED_STEPS = 20
"""The time left is guessed from the last steps only: a job that was paused or moved is not slower for it."""


@dataclass(slots=True)
class History:
    """What a job's events said of its training."""

    losses: list[float] = field(default_factory=list)
    """Training loss of each step."""
    valid_loss: float | None = None
    """Newest loss over the whole validation file."""
    valid_accuracy: float | None = None
    steps: int = 0
    total_steps: int = 0
    moments: list[tuple[int, float]] = field(default_factory=list)
    """(step, seconds since 1970) of the last steps."""

    def take(self, event: "Json") -> None:
        """Note the figures of one event."""
        data = event.get("data") or {}
        if event.get("type") != "metrics" or "step" not in data:
            return
        self.steps = int(data["step"])
        self.total_steps = int(data.get("total_steps") or self.total_steps)
        self.moments = [*self.moments[-_SPEED_STEPS:], (self.steps, float(event["created_at"]))]
        if data.get("train_loss") is not None:
            self.losses.append(float(data["train_loss"]))
        if data.get("full_valid_loss") is not None:
            self.valid_loss = float(data["full_valid_loss"])
            self.valid_accuracy = data.get("full_valid_mean_token_accuracy")

    def seconds_left(self) -> float | None:
        """A guess, once enough steps were seen."""
        if len(self.moments) < 3 or self.moments[-1][1] <= self.moments[0][1]:
            return None
        (first_step, first), (last_step, last) = self.moments[0], self.moments[-1]
        return (self.total_steps - last_step) * (last - first) / max(1, last_step - first_step)


class View:
    """Shows events as they come, on standard error; use it in a `with` statement."""

    def __init__(self) -> None:
        self.history = History()
        self._console = err()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._logged = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress = _bar(self._console)
            self._progress.start()
            self._task = self._progress.add_task("Getting ready", total=None, figures="")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if self._progress:
            self._progress.stop()

    def show(self, event: "Json") -> None:
        """One more event, oldest first."""
        self.history.take(event)
        if event.get("type") != "metrics":
            self._show_message(event)
        elif self._progress is None:
            self._log_figures(event)
        self._move_bar()

    def show_outage(self, outage: Unavailable) -> None:
        """The server is away, which stops nothing but the looking on."""
        text = f"{outage.message} The job isn't lost; waiting for the server."
        self._show_message({"created_at": time.time(), "level": "warn", "message": text})

    def _show_message(self, event: "Json") -> None:
        from rich.text import Text

        style = {"error": "red", "warn": "yellow"}.get(event.get("level", ""), "")
        clock = time.strftime("%H:%M:%S", time.localtime(event["created_at"]))
        line = Text.assemble((clock, "dim"), "  ", (plain(event["message"]), style))
        console = self._progress.console if self._progress else self._console
        console.print(line, soft_wrap=True)

    def _log_figures(self, event: "Json") -> None:
        """A line now and then, where nobody sees a bar move."""
        history = self.history
        share = history.steps * _LOG_SHARES // max(1, history.total_steps)
        if share > self._logged or history.steps == 1:
            self._logged = share
            self._show_message(event)

    def _move_bar(self) -> None:
        if self._progress is None or self._task is None or not self.history.steps:
            return
        history = self.history
        figures = [f"step {history.steps}/{history.total_steps}"]
        if history.losses:
            figures.append(f"loss {history.losses[-1]:.3f}")
        if history.valid_loss is not None:
            figures.append(f"validation {history.valid_loss:.3f}")
        left = history.seconds_left()
        if left is not None:
            figures.append(f"{duration(left)} left" if history.steps < history.total_steps else "closing")
        self._progress.update(
            self._task,
            description="Training",
            completed=history.steps,
            total=history.total_steps or None,
            figures=" · ".join(figures),
        )


def follow(finery: "Finery", job_id: str) -> tuple["Json", History]:
    """Show a job until it is settled; the job as it then is, and what was seen of its training.

    Ctrl-C ends the looking on, never the job.
    """
    try:
        with View() as view:
            for event in finery.jobs.follow(job_id, on_outage=view.show_outage):
                view.show(event)
        return finery.jobs.retrieve(job_id), view.history
    except KeyboardInterrupt:
        note(f"\nThe job {job_id} goes on without this window.", style=None)
        note(f"  look on again:  finery jobs follow {job_id}")
        note(f"  stop it:        finery jobs cancel {job_id}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def require_success(job: "Json") -> None:
    """Raise for a job that ended badly.

    Raises:
        Conflict: it failed or was cancelled; the text has the reason.
    """
    if job["status"] == "cancelled":
        raise Conflict(f"The job {job['id']} was cancelled.")
    if job["status"] == "failed":
        error = job.get("error") or {}
        raise FineryError(f"The job {job['id']} failed: {error.get('message') or 'no reason was given.'}")


def report(job: "Json", history: History) -> None:
    """What came of a job, on standard output, and what to do next."""
    if job["status"] == "paused":
        say(f"The job {job['id']} is paused.")
        note(f"Let it go on: finery jobs resume {job['id']}")
        return
    losses = history.losses
    fields(
        (
            ("Model", job.get("fine_tuned_model")),
            ("Base", job["model"]),
            ("Job", job["id"]),
            ("Steps", count(history.steps) if history.steps else None),
            ("Loss", f"{losses[0]:.3f} → {losses[-1]:.3f}" if losses else None),
            ("Validation", _validation(history)),
            ("Tokens", count(job.get("trained_tokens"))),
            ("Time", duration(job["finished_at"] - job["created_at"]) if job.get("finished_at") else None),
        )
    )
    _plot(losses)
    model = job.get("fine_tuned_model")
    if not model:
        return
    name = job.get("user_provided_suffix") or "my-model"
    note("\nNext:")
    for command in (
        f"finery deployments create {name} --model {model}",
        f'finery chat {name} "…"',
        f"finery jobs results {job['id']} -o results.csv",
    ):
        note(f"  {command}", style=None)


def _validation(history: History) -> str | None:
    if history.valid_loss is None:
        return None
    accuracy = history.valid_accuracy
    return f"loss {history.valid_loss:.3f}" + (f" · {accuracy:.1%} of tokens right" if accuracy is not None else "")


def _plot(losses: list[float]) -> None:
    """The loss curve, on a terminal that can show it."""
    console = out()
    losses = [loss for loss in losses if math.isfinite(loss)]
    if len(losses) < 3 or not console.is_terminal or console.options.ascii_only:
        return
    lines = curve(losses, columns=min(60, console.width - 12))
    labels = [f"{max(losses):8.3f} ", *[" " * 9] * (len(lines) - 2), f"{min(losses):8.3f} "]
    for label, line in zip(labels, lines, strict=True):
        console.print(f"{label}│{line}", style="cyan")


def _bar(console: Any) -> "Progress":
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[figures]}", markup=False),
        console=console,
    )
