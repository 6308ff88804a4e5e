"""A create that is sent twice makes one thing.

OpenAI's SDK sends a create again after a time-out or a broken connection, without a key; all that tells is its header
`x-stainless-retry-count`. So every create's answer is kept for a while under a fingerprint of what was asked, and a
retry of the same request is answered with it. A client that sends `Idempotency-Key` gets the first answer for a day,
and an error where it uses the key for something else.
"""

import hashlib
import json
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import Conflict, InvalidRequest
from finery.storage import replays
from finery.storage.replays import Replay

RETRY_SECONDS = 30 * 60
"""The SDK waits ten minutes for an answer and tries three times."""
KEY_SECONDS = 24 * 60 * 60
MAX_KEY_LENGTH = 255

_LOCKS = tuple(threading.Lock() for _ in range(64))


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """How a create was sent."""

    route: str
    key: str = ""
    """The client's `Idempotency-Key`."""
    retry: bool = False
    """The client says that it sent this before."""


def once(
    plane: ControlPlane, caller: Caller, attempt: Attempt, asked: Any, create: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The answer of `create`, or the one that the same create had before; `asked` is what tells creates apart.

    Raises:
        Conflict: the key was used for something else.
        InvalidRequest: a key that is too long.
    """
    if len(attempt.key) > MAX_KEY_LENGTH:
        raise InvalidRequest(
            f"The Idempotency-Key has {len(attempt.key)} characters; at most {MAX_KEY_LENGTH} are kept.",
            param="Idempotency-Key",
        )
    fingerprint = _fingerprint(attempt.route, asked)
    kept_as = f"key:{attempt.key}" if attempt.key else f"same:{fingerprint}"
    # A retry may come while the first try is still at work: it waits here and then finds the first one's answer.
    with _LOCKS[zlib.crc32(f"{caller.project.id}{kept_as}".encode()) % len(_LOCKS)]:
        known = None
        if attempt.key or attempt.retry:
            with plane.database.read() as connection:
                known = replays.get(connection, caller.project.id, kept_as, now())
        if known is not None:
            if known.fingerprint != fingerprint:
                raise Conflict(
                    f"The Idempotency-Key {attempt.key!r} was used for another request. Send a new key with a new "
                    "request.",
                    code="idempotency_key_reused",
                    param="Idempotency-Key",
                )
            return known.answer
        answer = create()
        until = now() + (KEY_SECONDS if attempt.key else RETRY_SECONDS)
        with plane.database.write() as connection:
            replays.put(connection, caller.project.id, kept_as, Replay(fingerprint=fingerprint, answer=answer), until)
    return answer


def forget_expired(plane: ControlPlane) -> None:
    """Forget answers whose time is over."""
    with plane.database.write() as connection:
        replays.forget_expired(connection, now())


def _fingerprint(route: str, asked: Any) -> str:
    return hashlib.sha256(json.dumps([route, asked], sort_keys=True).encode()).hexdigest()
