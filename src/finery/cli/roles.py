"""`finery principals` and `finery roles`: who is known here, and who may what."""

from typing import Annotated

import typer

from finery.cli.console import say, say_json, table
from finery.cli.figures import ago
from finery.cli.options import ApiKey, AsJson, BaseUrl, connect, noun

app = noun("Roles: who may what, and where.")
principals = noun("Users and service principals: who can be given roles.")

Principal = Annotated[
    str, typer.Argument(metavar="PRINCIPAL", show_default=False, help="Name of the user or service principal.")
]


@principals.command("create")
def create(
    name: Principal,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject", metavar="SUBJECT", help="Who it is in the identity provider's tokens: `sub` or `oid`."
        ),
    ] = None,
    service_principal: Annotated[
        bool, typer.Option("--service-principal", help="It is a program and no person.")
    ] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Make a user or a service principal known.

    It may nothing until it is given a role: finery roles assign.
    """
    kind = "ServicePrincipal" if service_principal else "User"
    with connect(base_url, api_key) as finery:
        made = finery.roles.create_principal(name, kind=kind, subject=subject)
    say(f"Created {made['name']} ({made['id']})")


@principals.command("list")
def list_principals(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List users and service principals."""
    with connect(base_url, api_key) as finery:
        found = list(finery.roles.principals())
    if as_json:
        say_json(found)
        return
    rows = [(p["name"], p["id"], p["kind"], p.get("subject"), p.get("issuer"), ago(p.get("created_at"))) for p in found]
    table(("NAME", "ID", "KIND", "SUBJECT", "ISSUER", "CREATED"), rows, "No users and no service principals.")


@principals.command("delete")
def delete(name: Principal, base_url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Forget a user or a service principal; its roles end, and its keys."""
    with connect(base_url, api_key) as finery:
        finery.roles.delete_principal(name)
    say(f"Deleted {name}")


@app.command("assign")
def assign(
    principal: Principal,
    role: Annotated[
        str,
        typer.Argument(metavar="ROLE", show_default=False, help="One of Azure's roles, such as 'Azure AI Developer'."),
    ],
    project: Annotated[str | None, typer.Option("--project", metavar="PROJECT", help="Project that it is for.")] = None,
    hub: Annotated[
        str | None, typer.Option("--hub", metavar="HUB", help="Hub that it is for, with all projects.")
    ] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Give a user or a service principal a role.

    Without --project and --hub it is for the whole subscription.
    """
    with connect(base_url, api_key) as finery:
        made = finery.roles.assign(principal, role, project=project, hub=hub)
    where = f"in the project {project}" if project else f"in the hub {hub}" if hub else "in the whole subscription"
    say(f"{principal} is {made['role']} {where} ({made['id']})")


@app.command("list")
def list_(base_url: BaseUrl = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List who was given which role, and where."""
    with connect(base_url, api_key) as finery:
        found = list(finery.roles.list())
        names = {} if as_json else {one["id"]: one["name"] for one in finery.roles.principals()}
    if as_json:
        say_json(found)
        return
    rows = [
        (
            one["id"],
            names.get(one["principal_id"], one["principal_id"]),
            one["role"],
            one.get("project_id") or one.get("hub_id") or "subscription",
            ago(one.get("created_at")),
        )
        for one in found
    ]
    table(("ID", "WHO", "ROLE", "WHERE", "GIVEN"), rows, "No roles were given.")


@app.command("remove")
def remove(
    assignment_id: Annotated[
        str, typer.Argument(metavar="ASSIGNMENT_ID", show_default=False, help="Id of what was given, from the list.")
    ],
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Take a role back, at once."""
    with connect(base_url, api_key) as finery:
        finery.roles.remove(assignment_id)
    say(f"Removed {assignment_id}")
