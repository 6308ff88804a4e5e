"""`python -m finery.cli.reference > docs/cli.md`: the reference of the command line, made from the help texts alone."""

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any

import typer

from finery.cli.app import app
from finery.core.hyperparameters import KNOBS, Knob

_HEAD = """# The command line

Made from the help texts by `python -m finery.cli.reference > docs/cli.md`; a test compares the two.

Exit codes: 0 it worked, 1 it didn't (one red line says why and what to do), 2 wrong usage, 130 ended by Ctrl-C.
Results go to standard output; progress, notes and errors go to standard error. `--json` prints what the API said.
"""


def reference() -> str:
    """The whole page, as Markdown."""
    root = typer.main.get_command(app)
    return "\n".join([_HEAD, *_commands(root, "finery"), *_knobs()])


def _commands(command: Any, path: str) -> Iterator[str]:
    subcommands = getattr(command, "commands", {})
    yield f"{'#' * (2 if path.count(' ') < 2 else 3)} {path}\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    parameters = [*command.params]
    yield f"```\n{_usage(path, parameters, bool(subcommands))}\n```\n"
    lines = [_parameter(parameter) for parameter in parameters if not parameter.name.endswith("_completion")]
    if lines:
        yield "\n".join(lines) + "\n"
    for name, subcommand in subcommands.items():
        yield from _commands(subcommand, f"{path} {name}")


def _usage(path: str, parameters: list[Any], group: bool) -> str:
    words = [path]
    if any(parameter.param_type_name == "option" for parameter in parameters):
        words.append("[OPTIONS]")
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            words.append(_label(parameter) if parameter.required else f"[{_label(parameter)}]")
    return " ".join([*words, "COMMAND …"] if group else words)


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"- `{_label(parameter)}`: {parameter.help}"
    flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f" {parameter.metavar}"
    notes = []
    if parameter.required:
        notes.append("required")
    if not parameter.required and not parameter.is_flag and parameter.default not in (None, ""):
        notes.append(f"default: {parameter.default}")
    if parameter.envvar:
        notes.append(f"environment: `{parameter.envvar}`")
    closing = f" ({'; '.join(notes)})" if notes else ""
    return f"- `{flags}{value}`: {parameter.help}{closing}"


def _label(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _knobs() -> Iterator[str]:
    yield "## Knobs of a job\n"
    yield "For `finery tune --set KNOB=VALUE`, and as fields of a job in the API.\n"
    yield "| knob | values | default | |\n|---|---|---|---|"
    for knob in KNOBS.values():
        default = "" if knob.default is None else f"`{_json(knob.default)}`"
        yield f"| `{knob.name}` | {_values(knob)} | {default} | {knob.help} |"
    yield ""


def _values(knob: Knob) -> str:
    if knob.kind == "choice":
        return ", ".join(knob.choices)
    if knob.low is None:
        return knob.kind
    return f"{knob.kind}, {'above' if knob.above_low else 'from'} {knob.low:,.9g} to {knob.high:,.9g}"


def _json(value: Any) -> str:
    """A value as `--set` takes it: a word, or JSON."""
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(reference())
