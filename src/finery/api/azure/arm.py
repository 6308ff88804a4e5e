"""What all routes of Azure Resource Manager share: the account in the path, resource ids, lists, moments.

An account of Azure is a hub, by its name, in its resource group; what is made in it belongs to the caller's project.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Path
from fastapi.responses import JSONResponse

from finery.api.access import KnownCaller
from finery.api.context import Plane
from finery.control import tenancy
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import NotFound
from finery.core.tenancy import Hub

PROVIDER = "Microsoft.CognitiveServices"
SUBSCRIPTION = "/subscriptions/{subscription}/providers/" + PROVIDER
GROUP = "/subscriptions/{subscription}/resourceGroups/{group}/providers/" + PROVIDER
ACCOUNT = GROUP + "/accounts/{account}"

POLL_SECONDS = "1"
"""Azure's clients ask again after half a minute unless they are told."""

Wire = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An account: a hub, under the subscription by which it was asked for."""

    subscription: str
    hub: Hub

    @property
    def id(self) -> str:
        """Its resource id."""
        return ACCOUNT.format(subscription=self.subscription, group=self.hub.resource_group, account=self.hub.name)


def account_of(
    plane: Plane,
    caller: KnownCaller,
    subscription: Annotated[str, Path(max_length=128)],
    group: Annotated[str, Path(max_length=90)],
    account: Annotated[str, Path(max_length=64)],
) -> Account:
    """The account that a path names.

    Raises:
        NotFound: it isn't the hub of the caller's project, or lies in another resource group.
    """
    own = own_account(plane, caller, subscription)
    if (account.lower(), group.lower()) != (own.hub.name.lower(), own.hub.resource_group.lower()):
        raise NotFound(
            f"The account '{account}' was not found in the resource group '{group}'. Your key is for the account "
            f"'{own.hub.name}' in '{own.hub.resource_group}'.",
            param="account",
        )
    return own


OfAccount = Annotated[Account, Depends(account_of)]


def own_account(plane: ControlPlane, caller: Caller, subscription: str) -> Account:
    """The account of the caller's project."""
    return Account(subscription=subscription, hub=tenancy.get_hub(plane, caller, caller.project.hub_id))


def paged(items: Iterable[Wire]) -> Wire:
    """A list in one page: Azure's clients ask on while there is a `nextLink`."""
    return {"value": list(items)}


def accepted(resource: Wire, status: int = 200) -> JSONResponse:
    """A resource that may still be in the making: when to ask again."""
    return JSONResponse(resource, status_code=status, headers={"retry-after": POLL_SECONDS})


def moment(seconds: int) -> str:
    """A time as Azure writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def system_data(created_at: int, updated_at: int) -> Wire:
    """Azure's `systemData`."""
    return {"createdAt": moment(created_at), "lastModifiedAt": moment(updated_at)}
