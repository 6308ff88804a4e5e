"""The audit log's entries, chained by their hashes: one that is changed, left out or moved breaks every later one.

Knows no database. A chain shows that nothing inside it was changed; only its last hash, kept somewhere else, shows
that nothing was cut off its end or written anew from the beginning.
"""

import hashlib
import json
from dataclasses import astuple, dataclass

GENESIS = "0" * 64
"""What the first entry follows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One change, and who made it."""

    number: int
    """From 1 on, without a gap."""
    created_at: int
    key_id: str
    """The key it was made with; empty for what was done with a token (whose principal is named), or by the server."""
    principal_id: str | None
    project_id: str | None
    """The project it concerns; None where it concerns a hub or the subscription."""
    action: str
    """Noun and verb, as `keys.create`."""
    target: str
    """Id or name of the thing that was changed."""
    details: str
    """Canonical JSON: what was asked for. Never a secret."""
    previous: str
    """The hash of the entry before."""

    def hash(self) -> str:
        """SHA-256 over all fields, and so over all entries before."""
        return hashlib.sha256(canonical(astuple(self)).encode()).hexdigest()


def canonical(value: object) -> str:
    """JSON in the one form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
