"""`finery projects` and `finery providers`: where things belong, and what the subscription has registered."""

from typing import Annotated

import typer

from finery.cli.console import say, say_json, table
from finery.cli.figures import ago
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun

app = noun("Projects: what owns files, jobs, models and deployments.")
providers = noun("Providers: what the subscription registers before its projects can use it.")

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Name of the project.")]
Namespace = Annotated[
    str, typer.Argument(metavar="PROVIDER", show_default=False, help="Name of the provider, as Finery.Compute.")
]


@app.command("create")
def create(
    name: Name,
    hub: Annotated[
        str | None, typer.Option("--hub", metavar="HUB", help="Hub it lies in; default: that of the key.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Make a project."""
    with connect(base_url, api_key) as finery:
        project = finery.projects.create(name, hub=hub)
    say(f"Created {project['name']} ({project['id']})")


@app.command("list")
def list_(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the projects that the key can see."""
    with connect(base_url, api_key) as finery:
        projects = list(finery.projects.list())
    if as_json:
        say_json(projects)
        return
    rows = [(p["name"], p["id"], "current" if p.get("current") else "", ago(p.get("created_at"))) for p in projects]
    table(("NAME", "ID", "", "CREATED"), rows, "No projects.")


@app.command("delete")
def delete(name: Name, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Delete an empty project."""
    with connect(base_url, api_key) as finery:
        finery.projects.delete(name)
    say(f"Deleted {name}")


@providers.command("list")
def list_providers(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the providers and whether they are registered."""
    with connect(base_url, api_key) as finery:
        found = list(finery.providers.list())
    if as_json:
        say_json(found)
        return
    rows = [(p["namespace"], p["registration_state"], ", ".join(p.get("missing") or [])) for p in found]
    table(("PROVIDER", "STATE", "MISSING HERE"), rows, "No providers.")


@providers.command("register")
def register(namespace: Namespace, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Register a provider."""
    with connect(base_url, api_key) as finery:
        state = finery.providers.register(namespace)["registration_state"]
    say(f"{namespace} is {state}")


@providers.command("unregister")
def unregister(namespace: Namespace, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Take a registration back; what runs goes on, nothing new begins."""
    with connect(base_url, api_key) as finery:
        state = finery.providers.unregister(namespace)["registration_state"]
    say(f"{namespace} is {state}")
