"""`finery keys`: make, list and revoke API keys."""

import sys
from typing import Annotated

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
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a key.

    It is printed this once; the server keeps only a digest of it.
    """
    with connect(base_url, api_key) as finery:
        key = finery.keys.create(name)
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
        (k["id"], k["name"], k.get("hint"), "revoked" if k.get("revoked_at") else "valid", ago(k.get("created_at")))
        for k in keys
    ]
    table(("ID", "NAME", "KEY", "STATE", "CREATED"), rows, "No keys.")


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
