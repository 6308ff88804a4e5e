"""The root command: nouns put together, errors turned into one red line. Knows no HTTP."""

import errno
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from finery.cli import (
    backup,
    chat,
    cost,
    data,
    deployments,
    doctor,
    evaluate,
    export,
    files,
    jobs,
    keys,
    models,
    monitor,
    projects,
    roles,
    safety,
    serve,
    sweeps,
    tune,
)
from finery.cli.console import EXIT_INTERRUPTED, fail
from finery.core.errors import FineryError


class Root(TyperGroup):
    """Ends a command that failed for a reason we know with one red line and 1, never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FineryError as error:
            fail(error.message)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            fail(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.")
        except KeyboardInterrupt:
            fail("Interrupted.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        raise typer.Exit(1)


app = typer.Typer(
    cls=Root,
    name="finery",
    help="Fine-tune, evaluate, deploy and chat with small open models on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    typer.echo(f"finery {version('finery')}")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("tune")(tune.tune)
app.command("chat")(chat.chat)
app.command("export")(export.export)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(jobs.app, name="jobs")
app.add_typer(files.app, name="files")
app.add_typer(data.datasets, name="datasets")
app.add_typer(models.app, name="models")
app.add_typer(deployments.app, name="deployments")
app.add_typer(monitor.app, name="monitor")
app.add_typer(sweeps.app, name="sweeps")
app.add_typer(projects.app, name="projects")
app.add_typer(projects.providers, name="providers")
app.add_typer(roles.principals, name="principals")
app.add_typer(roles.app, name="roles")
app.add_typer(keys.app, name="keys")
app.add_typer(safety.policies, name="policies")
app.add_typer(safety.works, name="protected-works")
app.add_typer(cost.app, name="cost")
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
app.command("doctor")(doctor.doctor)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
