"""Answers to creates, kept for a while so that a repeated create gives back the first one's."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from finery.storage.schema import replays


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What a create was asked and what it answered."""

    fingerprint: str
    """SHA-256 of what was asked."""
    answer: dict[str, Any]


def get(connection: Connection, project_id: str, key: str, now: int) -> Replay | None:
    """The answer that is kept under a key."""
    query = select(replays.c.fingerprint, replays.c.answer).where(
        replays.c.project_id == project_id, replays.c.key == key, replays.c.expires_at > now
    )
    row = connection.execute(query).one_or_none()
    return Replay(fingerprint=row.fingerprint, answer=row.answer) if row else None


def put(connection: Connection, project_id: str, key: str, replay: Replay, expires_at: int) -> None:
    """Keep an answer; it takes the place of an older one."""
    connection.execute(delete(replays).where(replays.c.project_id == project_id, replays.c.key == key))
    connection.execute(
        insert(replays).values(
            project_id=project_id,
            key=key,
            fingerprint=replay.fingerprint,
            answer=replay.answer,
            expires_at=expires_at,
        )
    )


def forget_expired(connection: Connection, now: int) -> None:
    """Forget answers whose time is over."""
    connection.execute(delete(replays).where(replays.c.expires_at <= now))
