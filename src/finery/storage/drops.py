"""Marks on bytes that nobody names and that are being removed from the object store; who names bytes looks here."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from finery.storage.schema import drops


@dataclass(frozen=True, kw_only=True, slots=True)
class Drop:
    """One removal."""

    sha256: str
    mark: str
    """Another one for each removal of the same bytes."""
    gone: bool
    """Whether the store has answered: what comes after stays."""
    created_at: int


def begin(connection: Connection, drop: Drop) -> None:
    """Mark bytes, in the transaction that found that no row names them."""
    connection.execute(delete(drops).where(drops.c.sha256 == drop.sha256))
    values = {"sha256": drop.sha256, "mark": drop.mark, "gone": drop.gone, "created_at": drop.created_at}
    connection.execute(insert(drops).values(values))


def end(connection: Connection, drop: Drop) -> None:
    """The bytes are gone; another removal's mark stays as it is."""
    connection.execute(update(drops).where(drops.c.sha256 == drop.sha256, drops.c.mark == drop.mark).values(gone=True))


def find(connection: Connection, sha256: str) -> Drop | None:
    """The mark on bytes."""
    row = connection.execute(
        select(drops.c.sha256, drops.c.mark, drops.c.gone, drops.c.created_at).where(drops.c.sha256 == sha256)
    ).one_or_none()
    return Drop(**row._mapping) if row else None


def list_open(connection: Connection, before: int) -> list[Drop]:
    """Removals that were begun before a moment and never ended: the store didn't answer, or the process died."""
    query = select(drops.c.sha256, drops.c.mark, drops.c.gone, drops.c.created_at).where(
        drops.c.gone.is_(False), drops.c.created_at < before
    )
    return [Drop(**row._mapping) for row in connection.execute(query)]


def forget(connection: Connection, sha256: str) -> None:
    """Somebody names the bytes again."""
    connection.execute(delete(drops).where(drops.c.sha256 == sha256))


def forget_old(connection: Connection, before: int) -> None:
    """Nobody who looked before the removal is still on the way."""
    connection.execute(delete(drops).where(drops.c.gone.is_(True), drops.c.created_at < before))
