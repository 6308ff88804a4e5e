"""`finery policies` and `finery protected-works`: what prompts and completions are filtered by."""

from pathlib import Path
from typing import Annotated, Any

import typer

from finery.cli.console import say, say_json, table
from finery.cli.figures import ago, count
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun
from finery.core.errors import InvalidRequest

policies = noun("Content filter policies, and the guard models in them.")
works = noun("Protected works: texts that completions are not to repeat.")

PolicyName = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Name of the policy.")]
WorkName = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Name of the work.")]


@policies.command("list")
def list_policies(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the built-in policies and the project's."""
    with connect(base_url, api_key) as finery:
        found = list(finery.policies.list())
    if as_json:
        say_json(found)
        return
    rows = [
        (
            one["name"],
            one["mode"],
            one["on_filter_error"],
            _guard_name(one.get("guard")),
            "; ".join(one["weaker_than_default"]) or "–",
        )
        for one in found
    ]
    table(("NAME", "MODE", "IF THE FILTER FAILS", "GUARD", "WEAKER THAN THE DEFAULT"), rows, "No policies.")


@policies.command("guard")
def guard(
    name: PolicyName,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="llama_guard, qwen3_guard, granite_guardian or shield_gemma."),
    ] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", metavar="NAME", help="Deployment of this project that is the guard.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ID", help="Model of the operator's guard on the network, instead.")
    ] = None,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout-seconds", metavar="S", help="How long it may take to answer.")
    ] = 10.0,
    off: Annotated[bool, typer.Option("--off", help="Take the guard away.")] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Give a policy a guard model, or take it away.

    A policy that isn't there yet is made, its filters as in the default one.
    """
    if off == (kind is not None):
        raise InvalidRequest("Give the guard's --kind, or --off to take it away.")
    asked: dict[str, Any] | None = None
    if not off:
        asked = {"kind": kind, "deployment": deployment, "model": model, "timeout_seconds": timeout_seconds}
    with connect(base_url, api_key) as finery:
        made = finery.policies.set_guard(name, asked)
    say(f"The policy {made['name']} has {_guard_name(made['guard']) if made['guard'] else 'no guard'}")


@policies.command("delete")
def delete_policy(name: PolicyName, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Delete a policy that no deployment is under."""
    with connect(base_url, api_key) as finery:
        finery.policies.delete(name)
    say(f"Deleted {name}")


@works.command("list")
def list_works(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the project's protected works."""
    with connect(base_url, api_key) as finery:
        found = list(finery.protected_works.list())
    if as_json:
        say_json(found)
        return
    rows = [(one["name"], one["description"], count(one["runs"]), ago(one["created_at"])) for one in found]
    table(("NAME", "DESCRIPTION", "RUNS OF WORDS", "ADDED"), rows, "No protected works.")


@works.command("add")
def add(
    name: WorkName,
    path: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="The work, as plain text in UTF-8.")],
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is.")] = "",
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Take a work in, or another text under its name.

    Hashes of its runs of words are kept, no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} isn't UTF-8 (byte {error.start}). Save it as plain text in UTF-8.") from None
    with connect(base_url, api_key) as finery:
        made = finery.protected_works.put(name, text, description=description)
    say(f"Protected {made['name']}: {count(made['runs'])} runs of {made['words_per_run']} words")


@works.command("delete")
def delete_work(name: WorkName, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Forget a work."""
    with connect(base_url, api_key) as finery:
        finery.protected_works.delete(name)
    say(f"Deleted {name}")


def _guard_name(found: dict[str, Any] | None) -> str:
    return f"{found['kind']}: {found['deployment'] or found['model']}" if found else "–"
