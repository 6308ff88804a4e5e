"""What all routes of Azure Resource Manager share: the account in the path, resource ids, lists, moments.

An account of Azure is what Finery calls a project: the caller's own, by its name. Subscription and resource group are
taken as they come and stand in the ids that are answered.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Path
from fastapi.responses import JSONResponse

from finery.api.access import KnownCaller
from finery.core.access import Caller
from finery.core.errors import NotFound

PROVIDER = "Microsoft.CognitiveServices"
SUBSCRIPTION = "/subscriptions/{subscription}/providers/" + PROVIDER
GROUP = "/subscriptions/{subscription}/resourceGroups/{group}/providers/" + PROVIDER
ACCOUNT = GROUP + "/accounts/{account}"

LOCATION = "local"
"""Where this server stands."""

POLL_SECONDS = "1"
"""Azure's clients ask again after half a minute unless they are told."""

Wire = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An account, by its path."""

    subscription: str
    group: str
    name: str

    @property
    def id(self) -> str:
        """Its resource id."""
        return ACCOUNT.format(subscription=self.subscription, group=self.group, account=self.name)


def account_of(
    caller: KnownCaller,
    subscription: Annotated[str, Path(max_length=128)],
    group: Annotated[str, Path(max_length=90)],
    account: Annotated[str, Path(max_length=64)],
) -> Account:
    """The account that a path names.

    Raises:
        NotFound: it isn't the caller's.
    """
    if account != caller.project.name:
        raise NotFound(
            f"The account '{account}' was not found. Your key is for the account '{caller.project.name}'.",
            param="account",
        )
    return Account(subscription=subscription, group=group, name=account)


OfAccount = Annotated[Account, Depends(account_of)]


def own_account(caller: Caller, subscription: str, group: str) -> Account:
    """The caller's account."""
    return Account(subscription=subscription, group=group, name=caller.project.name)


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
