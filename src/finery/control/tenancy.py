"""Subscription, hubs with connections, projects. A caller sees what lies in its scopes; all else isn't there."""

import re
from urllib.parse import urlsplit

from finery.control import audit
from finery.control.plane import ControlPlane, now
from finery.core import ids
from finery.core.access import Caller, Project, Scope
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.roles import Permission
from finery.core.tenancy import DEFAULT_HUB, DEFAULT_PROJECT, Hub, HubConnection, Subscription
from finery.storage import projects, tenancy

_READ, _WRITE = Permission.PROJECTS_READ, Permission.PROJECTS_WRITE
_ID_LIKE = re.compile(r"(proj|hub|principal)_.*", re.IGNORECASE)
_RESOURCE_GROUP = re.compile(r"[A-Za-z0-9_(][A-Za-z0-9._()-]{0,88}[A-Za-z0-9_()-]|[A-Za-z0-9_()]")
_MAX_TARGET = 2048


def check_name(name: str, *, what: str, param: str = "name") -> str:
    """Refuse a name that couldn't stand in an address, or that looks like an id.

    Raises:
        InvalidRequest: saying what a name may be.
    """
    ids.check_name(name, what=what, param=param)
    if _ID_LIKE.fullmatch(name):
        raise InvalidRequest(f"{name!r} looks like an id; {what} can't be named so.", param=param)
    return name


def subscription(plane: ControlPlane) -> Subscription:
    """The subscription of this server."""
    with plane.database.read() as connection:
        return tenancy.list_subscriptions(connection)[0]


def list_subscriptions(plane: ControlPlane) -> list[Subscription]:
    """The subscriptions of this server."""
    with plane.database.read() as connection:
        return tenancy.list_subscriptions(connection)


def create_hub(plane: ControlPlane, caller: Caller, *, name: str, resource_group: str, location: str) -> Hub:
    """Make a hub in a location.

    Raises:
        Forbidden: the caller may not, in the whole subscription.
        InvalidRequest: a name that can't be one, or no such location; lists those there are.
        Conflict: the name is taken.
    """
    under = subscription(plane)
    caller.require(_WRITE, under.scope)
    check_name(name, what="a hub")
    if not _RESOURCE_GROUP.fullmatch(resource_group):
        raise InvalidRequest(
            f"{resource_group!r} can't be a resource group: use 1 to 90 letters, digits, '.', '_', '-', '(' or ')', "
            "without a '.' at either end.",
            param="resource_group",
        )
    hub = Hub(
        id=ids.new_id("hub_"),
        subscription_id=under.id,
        name=name,
        resource_group=resource_group,
        location=location,
        created_at=now(),
    )
    with plane.database.write() as connection:
        known = [place.name for place in tenancy.list_locations(connection)]
        if location not in known:
            raise InvalidRequest(f"There is no location {location!r}; there are: {', '.join(known)}.", param="location")
        if tenancy.find_hub(connection, name):
            raise Conflict(f"There is a hub {name!r} already. Choose another name.", param="name")
        tenancy.insert_hub(connection, hub)
        audit.record(connection, caller, "hubs.create", hub.id, shared=True, name=name, location=location)
    return hub


def get_hub(plane: ControlPlane, caller: Caller, name: str) -> Hub:
    """A hub by name or id.

    Raises:
        NotFound: there is none that the caller could see.
    """
    with plane.database.read() as connection:
        hub = tenancy.find_hub(connection, name)
    if hub is None or not (caller.may(_READ, hub.scope) or caller.project.hub_id == hub.id):
        raise NotFound(f"There is no hub {name!r} that you could see.", code="hub_not_found")
    return hub


def list_hubs(plane: ControlPlane, caller: Caller) -> list[Hub]:
    """The hubs that the caller can see: those of its scopes, and its project's."""
    with plane.database.read() as connection:
        found = tenancy.list_hubs(connection)
    return [hub for hub in found if caller.may(_READ, hub.scope) or caller.project.hub_id == hub.id]


def delete_hub(plane: ControlPlane, caller: Caller, name: str) -> Hub:
    """Delete a hub that has no projects.

    Raises:
        Conflict: it has some, or it is the default one.
    """
    hub = get_hub(plane, caller, name)
    caller.require(_WRITE, subscription(plane).scope)
    with plane.database.write() as connection:
        inside = [project.name for project in projects.list_projects(connection, hub.id)]
        if inside or hub.name == DEFAULT_HUB:
            why = f"has projects: {', '.join(inside)}. Delete them first" if inside else "is the default one"
            raise Conflict(f"The hub {hub.name!r} {why}.")
        tenancy.remove_hub(connection, hub.id)
        audit.record(connection, caller, "hubs.delete", hub.id, shared=True, name=hub.name)
    return hub


def create_project(plane: ControlPlane, caller: Caller, *, name: str, hub: str | None) -> Project:
    """Make a project in a hub, the caller's own unless another is named.

    Raises:
        Forbidden: the caller may not, in that hub.
        Conflict: the name is taken.
    """
    into = get_hub(plane, caller, hub or caller.project.hub_id)
    caller.require(_WRITE, into.scope)
    check_name(name, what="a project")
    with plane.database.write() as connection:
        if projects.find_project(connection, name):
            raise Conflict(f"There is a project {name!r} already. Choose another name.", param="name")
        project = projects.insert_project(connection, name, into.id)
        audit.record(connection, caller, "projects.create", project.id, shared=True, name=name, hub=into.name)
    return project


def get_project(plane: ControlPlane, caller: Caller, name: str) -> Project:
    """A project by name or id.

    Raises:
        NotFound: there is none that the caller could see.
    """
    with plane.database.read() as connection:
        project = projects.find_project(connection, name)
    if project is None or not caller.may(_READ, project.scope):
        raise NotFound(f"There is no project {name!r} that you could see.", code="project_not_found")
    return project


def list_projects(plane: ControlPlane, caller: Caller) -> list[Project]:
    """The projects that the caller can see, by name."""
    with plane.database.read() as connection:
        return [project for project in projects.list_projects(connection) if caller.may(_READ, project.scope)]


def delete_project(plane: ControlPlane, caller: Caller, name: str) -> Project:
    """Delete an empty project, with its keys and roles.

    Raises:
        Conflict: it owns something, or is the default one.
    """
    project = get_project(plane, caller, name)
    caller.require(_WRITE, project.scope)
    with plane.database.write() as connection:
        owned = projects.count_contents(connection, project.id)
        if owned or project.name == DEFAULT_PROJECT:
            listed = ", ".join(f"{count} {kind}" for kind, count in owned.items())
            why = f"owns {listed}. Delete them first" if owned else "is the default one"
            raise Conflict(f"The project {project.name!r} {why}.")
        projects.remove_project(connection, project.id)
        audit.record(connection, caller, "projects.delete", project.id, shared=True, name=project.name)
    return project


def create_connection(
    plane: ControlPlane, caller: Caller, hub: str, *, name: str, category: str, target: str, metadata: dict[str, str]
) -> HubConnection:
    """Make a service known to a hub's projects.

    Raises:
        InvalidRequest: a target that is no http(s) URL, or that holds a password.
        Conflict: the name is taken.
    """
    under = get_hub(plane, caller, hub)
    caller.require(_WRITE, under.scope)
    check_name(name, what="a connection")
    check_name(category, what="a category", param="category")
    _check_target(target)
    made = HubConnection(
        hub_id=under.id, name=name, category=category, target=target, metadata=metadata, created_at=now()
    )
    with plane.database.write() as connection:
        if tenancy.find_connection(connection, under.id, name):
            raise Conflict(f"The hub {under.name!r} has a connection {name!r} already.", param="name")
        tenancy.insert_connection(connection, made)
        audit.record(connection, caller, "connections.create", name, shared=True, hub=under.name, target=target)
    return made


def list_connections(plane: ControlPlane, caller: Caller, hub: str) -> list[HubConnection]:
    """A hub's connections."""
    under = get_hub(plane, caller, hub)
    with plane.database.read() as connection:
        return tenancy.list_connections(connection, under.id)


def delete_connection(plane: ControlPlane, caller: Caller, hub: str, name: str) -> None:
    """Forget a connection.

    Raises:
        NotFound: the hub has none of that name.
    """
    under = get_hub(plane, caller, hub)
    caller.require(_WRITE, under.scope)
    with plane.database.write() as connection:
        if not tenancy.remove_connection(connection, under.id, name):
            raise NotFound(f"The hub {under.name!r} has no connection {name!r}.")
        audit.record(connection, caller, "connections.delete", name, shared=True, hub=under.name)


def scope_of(plane: ControlPlane, caller: Caller, *, hub: str | None, project: str | None) -> Scope:
    """The scope that a request names: a project, a hub, or, where it names neither, the subscription.

    Raises:
        InvalidRequest: both were named.
        NotFound: no such hub or project for this caller.
    """
    if hub and project:
        raise InvalidRequest("Name a hub or a project, not both: a project lies in one hub.", param="hub")
    if project:
        return get_project(plane, caller, project).scope
    return get_hub(plane, caller, hub).scope if hub else subscription(plane).scope


def _check_target(target: str) -> None:
    try:
        parts = urlsplit(target)
        whole = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.password)
    except ValueError:
        whole = False
    if not whole or len(target) > _MAX_TARGET or not target.isprintable():
        raise InvalidRequest(
            "target must be an http or https URL without a user name or password in it; whoever uses a connection "
            "brings their own key.",
            param="target",
        )
