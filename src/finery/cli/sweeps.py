"""`finery sweeps`: several sets of hyperparameters over the same rows, compared."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finery.cli import tune
from finery.cli.console import note, say, say_json, table
from finery.cli.figures import ago
from finery.cli.options import ApiKey, AsJson, BaseUrl, Limit, connect, noun
from finery.core import hyperparameters
from finery.core.errors import InvalidRequest

if TYPE_CHECKING:
    from finery.sdk import Json

app = noun("Several sets of hyperparameters over the same data.")

SweepId = Annotated[str, typer.Argument(metavar="SWEEP_ID", show_default=False, help="Id of the sweep: sweep_…")]
Grid = Annotated[
    list[str],
    typer.Option(
        "--grid", metavar="KNOB=A,B,…", show_default=False, help="Values to try of a knob; several knobs are combined."
    ),
]


@app.command("create")
def create(
    data: tune.Data,
    model: tune.Model,
    grid: Grid,
    *,
    validation: tune.Validation = None,
    split: tune.Split = None,
    suffix: tune.Suffix = None,
    seed: tune.Seed = None,
    knobs: tune.Knobs = None,
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping/--no-early-stopping", help="Stop jobs that are clearly behind.")
    ] = True,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Start a sweep and return; look at it with `finery sweeps show`."""
    shared = tune.parse_knobs(knobs or [])
    if split is not None:
        shared["validation_split"] = split
    tried = parse_grid(grid)
    with connect(base_url, api_key) as finery:
        files = [tune.usable_file(finery, path) if path else None for path in (data, validation)]
        sweep = finery.sweeps.create(
            model,
            str(files[0]),
            validation_file=files[1],
            hyperparameters=shared,
            grid=tried,
            suffix=suffix,
            seed=seed,
            early_stopping=early_stopping,
        )
    if as_json:
        say_json(sweep)
        return
    say(f"{sweep['id']}  {len(sweep['runs'])} jobs")
    note(f"Look at it: finery sweeps show {sweep['id']}")


@app.command("list")
def list_(limit: Limit = 20, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List sweeps, newest first."""
    with connect(base_url, api_key) as finery:
        sweeps = list(finery.sweeps.list(limit=limit))
    if as_json:
        say_json(sweeps)
        return
    rows = [(s["id"], s["model"], s["status"], len(s["runs"]), s["best_model"], ago(s["created_at"])) for s in sweeps]
    table(("ID", "MODEL", "STATUS", "JOBS", "BEST", "CREATED"), rows, "No sweeps yet: finery sweeps create DATA …")


@app.command("show")
def show(sweep_id: SweepId, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Compare a sweep's jobs; the best comes first and is marked."""
    with connect(base_url, api_key) as finery:
        sweep = finery.sweeps.retrieve(sweep_id)
    if as_json:
        say_json(sweep)
        return
    rows = [_line(run) for run in sorted(sweep["runs"], key=_order)]
    table(("", "JOB", "SET", "STATUS", "EPOCHS", "VALIDATION LOSS", "MODEL"), rows, "no jobs")
    say(f"{sweep_id} is {sweep['status']}")


@app.command("cancel")
def cancel(sweep_id: SweepId, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Stop a sweep and its jobs."""
    with connect(base_url, api_key) as finery:
        sweep = finery.sweeps.cancel(sweep_id)
    say(f"{sweep_id} is {sweep['status']}")


def parse_grid(assignments: list[str]) -> dict[str, list[Any]]:
    """`KNOB=A,B` texts as values by knob.

    Raises:
        InvalidRequest: not an assignment, or no such knob.
    """
    grid: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not text:
            raise InvalidRequest(f"--grid {assignment} has no values; write --grid {name}=A,B.")
        if name not in hyperparameters.KNOBS:
            raise InvalidRequest(f"There is no knob {name!r}.", param=name)
        grid[name] = [_value(part) for part in text.split(",")]
    return grid


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _order(run: "Json") -> tuple[bool, float]:
    return run["best_loss"] is None, run["best_loss"] or 0.0


def _line(run: "Json") -> tuple[Any, ...]:
    status = "stopped early" if run["stopped_early"] else run["status"]
    settings = ", ".join(f"{name}={value}" for name, value in run["set"].items())
    loss = "" if run["best_loss"] is None else f"{run['best_loss']:.4f}"
    return (
        "*" if run["best"] else "",
        run["job_id"],
        settings,
        status,
        len(run["losses"]),
        loss,
        run["fine_tuned_model"],
    )
