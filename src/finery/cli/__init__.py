"""The command line: speaks HTTP through `finery.sdk`, and does by itself only what belongs to this machine.

It must start at once, so modules here import typer and the standard library; httpx, rich and everything heavy are
imported by the command that needs them.

    app.py          the root command: nouns put together, errors turned into one red line
    options.py      options that several commands share
    console.py      tables, fields, JSON and errors on a terminal
    figures.py      sizes, times and the loss curve as text
    progress.py     bars for bytes, spinners for waiting
    training.py     a running job: live bar, lines for logs, the closing report
    findings.py     what a check of a file found
    tune.py         the whole job from one command
    evaluate.py     did it help: models on held-out rows
    jobs.py files.py models.py deployments.py sweeps.py projects.py keys.py cost.py chat.py    one noun each
    serve.py        the server and the worker of this machine
    doctor.py       is this machine fit; what is missing
    reference.py    docs/cli.md, made from the help texts
"""

import sys
import traceback


def main() -> None:
    """The `finery` command; ends the process with 0, 1 (it didn't work), 2 (used wrongly) or 130 (Ctrl-C)."""
    from finery.cli.app import app
    from finery.cli.console import debugging, fail

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="finery")
    except Exception as error:
        if debugging():
            traceback.print_exc()
        fail(
            f"Unexpected {type(error).__name__}: {error}. This is a fault of Finery: set FINERY_DEBUG=1, run it again "
            "and report what it prints."
        )
        sys.exit(1)
