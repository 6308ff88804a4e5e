"""`finery keys`: make, list, rotate and revoke API keys."""

import sys
import time
from typing import Annotated, Any

import typer

from finery.cli.console import note, say, say_json, table
from finery.cli.figures import ago
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun

app = noun("API keys.")


@app.command("create")
def create(
    name: Annotated[
        str, typer.Argument(show_default=False, help="What the key is for, such as a program or a person.")
    ],
    role: Annotated[
        str | None,
        typer.Option("--role", metavar="ROLE", help="What it may, such as Reader; default: Azure AI Developer."),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option("--level", metavar="LEVEL", help="Where it may: project (the default), hub or subscription."),
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", metavar="NAME", help="User or service principal it speaks for.")
    ] = None,
    days: Annotated[int | None, typer.Option("--expires-in", metavar="DAYS", help="Days until it ends.")] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a key.

    It is printed this once; the server keeps only a digest of it.
    """
    with connect(base_url, api_key) as finery:
        seconds = None if days is None else days * 24 * 3600
        key = finery.keys.create(name, role=role, level=level, principal=principal, expires_in=seconds)
    if as_json:
        say_json(key)
        return
    # The key alone on standard output: KEY=$(finery keys create ci)
    sys.stdout.write(key["key"] + "\n")
    note(f"Keep it now: it is never shown again. Revoke it with `finery keys revoke {key['id']}`.")


@app.command("list")
def list_(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List keys."""
    with connect(base_url, api_key) as finery:
        keys = list(finery.keys.list())
    if as_json:
        say_json(keys)
        return
    rows = [
        (k["id"], k["name"], k.get("hint"), k.get("role"), k.get("level"), _state(k), ago(k.get("created_at")))
        for k in keys
    ]
    table(("ID", "NAME", "KEY", "ROLE", "LEVEL", "STATE", "CREATED"), rows, "No keys.")


@app.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", show_default=False, help="Id of the key, from the list.")],
    hours: Annotated[
        int, typer.Option("--keep-old", metavar="HOURS", min=0, help="How long the old key goes on working.")
    ] = 24,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Make a key's successor, which may do the same.

    It is printed this once; the old key goes on working for a while, so that programs can be moved over.
    """
    with connect(base_url, api_key) as finery:
        key = finery.keys.rotate(key_id, hours * 3600)
    sys.stdout.write(key["key"] + "\n")
    note(f"Keep it now: it is never shown again. {key_id} ends in {hours} hours.")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", show_default=False, help="Id of the key, from the list.")],
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """End a key at once."""
    with connect(base_url, api_key) as finery:
        finery.keys.revoke(key_id)
    say(f"Revoked {key_id}")


def _state(key: dict[str, Any]) -> str:
    if key.get("revoked_at"):
        return "revoked"
    ends = key.get("expires_at")
    if not ends:
        return "valid"
    return "expired" if ends <= time.time() else f"valid until {time.strftime('%Y-%m-%d %H:%M', time.localtime(ends))}"
