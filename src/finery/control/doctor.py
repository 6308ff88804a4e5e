"""What the server's machine lacks, and what its subscription has not registered."""

from collections.abc import Iterator

from finery import machine
from finery.control import models, providers
from finery.control.plane import ControlPlane
from finery.core.tenancy import RegistrationState
from finery.machine import Check
from finery.modeling.catalog import STARTER_MODEL


def look(plane: ControlPlane) -> list[Check]:
    """Every check, in the order of `finery doctor`."""
    return [*machine.look(plane.settings.home), _models(plane), *_providers(plane)]


def _models(plane: ControlPlane) -> Check:
    names = [model.id for model in models.list_bases(plane)]
    if names:
        return Check(name="Models", ok=True, found=", ".join(names))
    return Check(name="Models", ok=False, found="no base model", way_out=f"finery models pull {STARTER_MODEL}")


def _providers(plane: ControlPlane) -> Iterator[Check]:
    for found in providers.list_all(plane):
        registered = found.state == RegistrationState.REGISTERED
        missing = f", missing on the server: {', '.join(found.missing)}" if found.missing else ""
        yield Check(
            name=found.provider,
            ok=registered,
            found=found.state + missing,
            way_out="" if registered else f"finery providers register {found.provider}",
        )
