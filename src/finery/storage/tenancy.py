"""Subscriptions, hubs with their connections, locations, and which providers are registered."""

import dataclasses
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from finery.core.tenancy import Hub, HubConnection, Location, Provider, Subscription
from finery.storage.schema import connections, hubs, locations, providers, role_assignments, subscriptions


def list_subscriptions(connection: Connection) -> list[Subscription]:
    """All of them, oldest first."""
    query = select(subscriptions).order_by(subscriptions.c.created_at)
    return [Subscription(**row._mapping) for row in connection.execute(query)]


def insert_hub(connection: Connection, hub: Hub) -> None:
    """Remember a new hub."""
    connection.execute(insert(hubs).values(dataclasses.asdict(hub)))


def find_hub(connection: Connection, name_or_id: str) -> Hub | None:
    """The hub of that name or id; no name begins like an id."""
    row = connection.execute(select(hubs).where((hubs.c.name == name_or_id) | (hubs.c.id == name_or_id))).one_or_none()
    return Hub(**row._mapping) if row else None


def list_hubs(connection: Connection) -> list[Hub]:
    """Hubs by name."""
    return [Hub(**row._mapping) for row in connection.execute(select(hubs).order_by(hubs.c.name))]


def remove_hub(connection: Connection, hub_id: str) -> None:
    """Forget a hub without projects, with its connections and role assignments."""
    for table in (connections, role_assignments):
        connection.execute(delete(table).where(table.c.hub_id == hub_id))
    connection.execute(delete(hubs).where(hubs.c.id == hub_id))


def insert_connection(connection: Connection, made: HubConnection) -> None:
    """Remember a connection."""
    connection.execute(insert(connections).values(dataclasses.asdict(made)))


def find_connection(connection: Connection, hub_id: str, name: str) -> HubConnection | None:
    """A hub's connection of that name."""
    query = select(connections).where(connections.c.hub_id == hub_id, connections.c.name == name)
    row = connection.execute(query).one_or_none()
    return HubConnection(**row._mapping) if row else None


def list_connections(connection: Connection, hub_id: str) -> list[HubConnection]:
    """A hub's connections by name."""
    query = select(connections).where(connections.c.hub_id == hub_id).order_by(connections.c.name)
    return [HubConnection(**row._mapping) for row in connection.execute(query)]


def remove_connection(connection: Connection, hub_id: str, name: str) -> bool:
    """Forget a connection."""
    statement = delete(connections).where(connections.c.hub_id == hub_id, connections.c.name == name)
    return connection.execute(statement).rowcount == 1


def insert_location(connection: Connection, location: Location) -> None:
    """Remember a location."""
    connection.execute(insert(locations).values(dataclasses.asdict(location)))


def set_location_models(connection: Connection, name: str, models: list[str] | None) -> None:
    """Say which base models can be tuned there; None: every one."""
    connection.execute(update(locations).where(locations.c.name == name).values(models=models))


def find_location(connection: Connection, name: str) -> Location | None:
    """The location of that name."""
    row = connection.execute(select(locations).where(locations.c.name == name)).one_or_none()
    return _location(row) if row else None


def list_locations(connection: Connection) -> list[Location]:
    """Locations by name."""
    return [_location(row) for row in connection.execute(select(locations).order_by(locations.c.name))]


def remove_location(connection: Connection, name: str) -> None:
    """Forget a location that no hub lies in."""
    connection.execute(delete(locations).where(locations.c.name == name))


def registered(connection: Connection, subscription_id: str) -> dict[Provider, int]:
    """The providers that a subscription has registered, and since when."""
    query = select(providers).where(providers.c.subscription_id == subscription_id)
    return {Provider(row.namespace): row.registered_at for row in connection.execute(query)}


def is_registered(connection: Connection, subscription_id: str, provider: Provider) -> bool:
    """Whether a subscription has registered a provider."""
    query = select(providers.c.namespace).where(
        providers.c.subscription_id == subscription_id, providers.c.namespace == provider
    )
    return connection.execute(query).one_or_none() is not None


def register(connection: Connection, subscription_id: str, provider: Provider, now: int) -> None:
    """Register a provider; once is enough."""
    if not is_registered(connection, subscription_id, provider):
        connection.execute(
            insert(providers).values(subscription_id=subscription_id, namespace=provider, registered_at=now)
        )


def unregister(connection: Connection, subscription_id: str, provider: Provider) -> None:
    """Take a registration back."""
    connection.execute(
        delete(providers).where(providers.c.subscription_id == subscription_id, providers.c.namespace == provider)
    )


def _location(row: Row[Any]) -> Location:
    models = row.models
    return Location(**{**row._mapping, "models": None if models is None else tuple(models)})
