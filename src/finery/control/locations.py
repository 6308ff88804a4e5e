"""Locations: the operator's pools of machines, and which base models can be tuned in which."""

from finery.control import audit
from finery.control import tenancy as tenants
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest, NotFound
from finery.core.roles import Permission
from finery.core.tenancy import DEFAULT_LOCATION, Location
from finery.storage import tenancy

_MAX_MODELS = 1000


def create(plane: ControlPlane, caller: Caller, *, name: str, display_name: str, models: list[str] | None) -> Location:
    """Make a location known; workers that are there say so (`finery worker --location NAME`).

    Raises:
        Forbidden: the caller may not, in the whole subscription.
        Conflict: the name is taken.
    """
    caller.require(Permission.PROJECTS_WRITE, tenants.subscription(plane).scope)
    tenants.check_name(name, what="a location")
    if not (0 < len(display_name) <= 100 and display_name.isprintable()):
        raise InvalidRequest("display_name must be 1 to 100 printable characters.", param="display_name")
    location = Location(name=name, display_name=display_name, models=_checked(models), created_at=now())
    with plane.database.write() as connection:
        if tenancy.find_location(connection, name):
            raise Conflict(f"There is a location {name!r} already.", param="name")
        tenancy.insert_location(connection, location)
        audit.record(connection, caller, "locations.create", name, shared=True, models=models)
    return location


def list_all(plane: ControlPlane) -> list[Location]:
    """All locations, by name."""
    with plane.database.read() as connection:
        return tenancy.list_locations(connection)


def get(plane: ControlPlane, name: str) -> Location:
    """The location of that name.

    Raises:
        NotFound: there is none.
    """
    with plane.database.read() as connection:
        location = tenancy.find_location(connection, name)
    if location is None:
        raise NotFound(f"There is no location {name!r}.")
    return location


def offer(plane: ControlPlane, caller: Caller, name: str, models: list[str] | None) -> Location:
    """Say which base models can be tuned in a location; None: every one. Jobs that were taken in go on."""
    get(plane, name)
    caller.require(Permission.PROJECTS_WRITE, tenants.subscription(plane).scope)
    with plane.database.write() as connection:
        checked = _checked(models)
        tenancy.set_location_models(connection, name, None if checked is None else list(checked))
        audit.record(connection, caller, "locations.offer", name, shared=True, models=models)
    return get(plane, name)


def delete(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Forget a location.

    Raises:
        Conflict: a hub lies there, or it is the default one.
    """
    get(plane, name)
    caller.require(Permission.PROJECTS_WRITE, tenants.subscription(plane).scope)
    with plane.database.write() as connection:
        inside = [hub.name for hub in tenancy.list_hubs(connection) if hub.location == name]
        if inside or name == DEFAULT_LOCATION:
            why = f"holds the hubs {', '.join(inside)}. Delete them first" if inside else "is the default one"
            raise Conflict(f"The location {name!r} {why}.")
        tenancy.remove_location(connection, name)
        audit.record(connection, caller, "locations.delete", name, shared=True)


def require_offer(plane: ControlPlane, caller: Caller, base_model: str) -> None:
    """Refuse to tune a base model where the caller's hub lies, if it isn't offered there.

    Raises:
        InvalidRequest: naming the locations in which it is.
    """
    with plane.database.read() as connection:
        hub = tenancy.find_hub(connection, caller.project.hub_id)
        places = tenancy.list_locations(connection)
    here = next((place for place in places if hub and place.name == hub.location), None)
    if hub is None or here is None or here.offers(base_model):
        return
    others = ", ".join(f"{place.name} ({place.display_name})" for place in places if place.offers(base_model))
    way_out = f"It can be tuned in: {others}. Use a project of a hub there" if others else "No location offers it"
    raise InvalidRequest(
        f"Fine-tuning {base_model} isn't offered in {here.name} ({here.display_name}), where the hub {hub.name!r} of "
        f"the project {caller.project.name!r} lies. {way_out}.",
        code="model_not_offered_in_location",
        param="model",
    )


def _checked(models: list[str] | None) -> tuple[str, ...] | None:
    if models is None:
        return None
    if len(models) > _MAX_MODELS or any(not name or len(name) > 100 or not name.isprintable() for name in models):
        raise InvalidRequest(
            f"models must be up to {_MAX_MODELS} names of base models, or null for every one.", param="models"
        )
    return tuple(dict.fromkeys(models))
