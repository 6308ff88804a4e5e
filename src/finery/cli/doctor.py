"""`finery doctor`: is this machine fit, and what is missing. `machine` looks at it; here are the models and the server.

A check is a sentence with ✓ or ✗; ✗ comes with the way out. What is good to know but stops nothing has a –.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from finery import machine
from finery.cli.console import out, plain, say_json
from finery.cli.options import ApiKey, AsJson, BaseUrl, Home, connect, home_folder
from finery.core.errors import FineryError, Unauthenticated, Unavailable
from finery.machine import Check

_HUB_SECONDS = 3.0


def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the model hub can be reached.")] = False,
    home: Home = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Look what this machine lacks.

    Each line is ✓, ✗ with the way out, or – for what is good to know. Ends with 1 if there is a ✗.
    """
    folder = home_folder(home)
    checks = [*machine.look(folder), _models(folder), *_server(base_url, api_key, home)]
    if hub:
        checks.append(_hub())
    if as_json:
        say_json([asdict(check) for check in checks])
    else:
        _print(checks)
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _print(checks: list[Check]) -> None:
    from rich.text import Text

    console = out()
    marks = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}
    width = max(len(check.name) for check in checks)
    for check in checks:
        console.print(Text.assemble(marks[check.ok], f" {check.name:<{width}}  ", plain(check.found)), soft_wrap=True)
        if check.way_out:
            console.print(Text(f"  {'':<{width}}  {plain(check.way_out)}", style="yellow"), soft_wrap=True)


def _models(home: Path) -> Check:
    from finery.cli.models import local_models
    from finery.modeling.catalog import STARTER_MODEL

    names = [model.id for model in local_models(home)]
    if names:
        return Check(name="Models", ok=True, found=", ".join(names))
    way_out = f"finery models pull {STARTER_MODEL}"
    return Check(name="Models", ok=False, found=f"no base model in {home / 'models'}", way_out=way_out)


def _server(base_url: str | None, api_key: str | None, home: Path | None) -> Iterator[Check]:
    try:
        with connect(base_url, api_key, home) as finery:
            where = finery.connection.base_url
            models = len(list(finery.models.list()))
            providers = list(finery.providers.list())
    except Unauthenticated as error:
        yield Check(name="API key", ok=False, found="no valid key", way_out=error.message)
    except Unavailable as error:
        yield Check(name="Server", ok=False, found="none answers", way_out=error.message)
    except FineryError as error:
        refused_key = error.code == "invalid_api_key"
        yield Check(
            name="API key" if refused_key else "Server",
            ok=False,
            found=error.message,
            way_out=_KEY_WAY_OUT if refused_key else "",
        )
    else:
        yield Check(name="Server", ok=True, found=f"{where}, {models} {'model' if models == 1 else 'models'}")
        yield Check(name="API key", ok=True, found="valid")
        yield from map(_provider, providers)


def _provider(found: dict[str, Any]) -> Check:
    registered = found["registration_state"] == "Registered"
    missing = ", ".join(found["missing"])
    return Check(
        name=found["namespace"],
        ok=registered,
        found=found["registration_state"] + (f", missing on the server: {missing}" if missing else ""),
        way_out="" if registered else f"finery providers register {found['namespace']}",
    )


_KEY_WAY_OUT = "Pass the right one with --api-key or FINERY_API_KEY; this machine's server keeps its own in admin.key."


def _hub() -> Check:
    import httpx

    url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        httpx.head(url, timeout=_HUB_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        found = (
            f"{url} can't be reached ({type(error).__name__}): only the starter model and imported folders are at hand"
        )
        return Check(name="Hub", ok=None, found=found)
    return Check(name="Hub", ok=True, found=f"{url} answers")
