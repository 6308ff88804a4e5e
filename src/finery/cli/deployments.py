"""`finery deployments`: give a model a name under which it answers."""

from typing import Annotated, Any

import typer

from finery.cli import progress
from finery.cli.console import fields, note, say, say_json, table
from finery.cli.figures import ago, moment
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun
from finery.core.errors import Unavailable

app = noun("Names under which models answer.")

Name = Annotated[str, typer.Argument(show_default=False, help="Name of the deployment.")]


@app.command("create")
def create(
    name: Name,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", show_default=False, help="A base model, a tuned model or a checkpoint."
        ),
    ],
    *,
    sku: Annotated[
        str | None, typer.Option("--sku", metavar="NAME", help="Kind of deployment, such as Standard.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="Name of the content filter policy.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it answers.")] = True,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Deploy a model under a name."""
    with connect(base_url, api_key) as finery:
        deployment = finery.deployments.create(name, model, sku={"name": sku} if sku else None, policy=policy)
        if wait and deployment["status"] == "Creating":
            with progress.waiting(f"Getting {model} ready to answer as {name}"):
                deployment = finery.deployments.wait(name)
    if as_json:
        say_json(deployment)
    if deployment["status"] == "Failed":
        details = deployment.get("status_details") or "the server gave no reason"
        raise Unavailable(f"{name} could not be deployed: {details} Remove it with `finery deployments delete {name}`.")
    if as_json:
        return
    if deployment["status"] == "Succeeded":
        say(f"{name} answers now.")
        note(f'Try it: finery chat {name} "Hello"')
    else:
        say(f"{name} is {deployment['status']}.")
        note(f"Look at it: finery deployments show {name}")


@app.command("list")
def list_(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List deployments."""
    with connect(base_url, api_key) as finery:
        deployments = list(finery.deployments.list())
    if as_json:
        say_json(deployments)
        return
    rows = [(d["name"], d["model"], d["status"], ago(d.get("created_at"))) for d in deployments]
    table(
        ("NAME", "MODEL", "STATUS", "CREATED"), rows, "No deployments yet: finery deployments create NAME --model MODEL"
    )


@app.command("show")
def show(name: Name, base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a deployment."""
    with connect(base_url, api_key) as finery:
        deployment = finery.deployments.retrieve(name)
    if as_json:
        say_json(deployment)
        return
    fields(
        (
            ("Name", deployment["name"]),
            ("Model", deployment["model"]),
            ("Status", deployment["status"]),
            ("Details", deployment.get("status_details")),
            ("Sku", _sku(deployment.get("sku"))),
            ("Policy", deployment.get("policy")),
            ("Created", moment(deployment.get("created_at"))),
        )
    )


@app.command("delete")
def delete(name: Name, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Take a deployment down; its model stays."""
    with connect(base_url, api_key) as finery:
        finery.deployments.delete(name)
    say(f"Deleted {name}")


def _sku(sku: Any) -> Any:
    return f"{sku.get('name')} × {sku.get('capacity', 1)}" if isinstance(sku, dict) else sku
