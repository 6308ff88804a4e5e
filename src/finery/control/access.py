"""Who is calling, and the keys by which they are known."""

import hmac

from finery.control.plane import ControlPlane
from finery.core.access import Caller, Key, digest, hint, looks_like_key, new_secret
from finery.core.errors import NotFound, Unauthenticated
from finery.core.ids import check_name
from finery.storage import projects

DEFAULT_PROJECT = "default"


def authenticate(plane: ControlPlane, secret: str) -> Caller:
    """The caller behind a key.

    Raises:
        Unauthenticated: no key, a mistyped one, an unknown or a revoked one.
    """
    if not secret:
        raise Unauthenticated(
            "No API key was sent. Send 'Authorization: Bearer KEY' or 'api-key: KEY'; "
            "the admin key lies in the server's home, in the file admin.key."
        )
    caller = None
    if looks_like_key(secret):
        with plane.database.read() as connection:
            caller = projects.find_caller(connection, digest(secret))
    if caller is None:
        raise Unauthenticated(f"The API key {hint(secret) if len(secret) > 24 else '…'} isn't one of this server's.")
    return caller


def authenticate_worker(plane: ControlPlane, secret: str) -> None:
    """Let a worker in.

    Raises:
        Unauthenticated: not the workers' secret of this server.
    """
    if not hmac.compare_digest(digest(secret), plane.worker_digest):
        raise Unauthenticated(
            "This isn't the server's worker key; it lies in the server's home, in the file worker.key."
        )


def create_key(plane: ControlPlane, caller: Caller, name: str) -> tuple[Key, str]:
    """A further key for the caller's project, and the secret that is shown this once."""
    check_name(name, what="a key")
    secret = new_secret()
    with plane.database.write() as connection:
        key = projects.insert_key(connection, caller.project.id, name=name, hint=hint(secret), digest=digest(secret))
    return key, secret


def list_keys(plane: ControlPlane, caller: Caller) -> list[Key]:
    """The keys of the caller's project, without their secrets."""
    with plane.database.read() as connection:
        return projects.list_keys(connection, caller.project.id)


def revoke_key(plane: ControlPlane, caller: Caller, key_id: str) -> None:
    """Revoke a key; it stops working at once.

    Raises:
        NotFound: the project has no such live key.
    """
    with plane.database.write() as connection:
        if not projects.revoke_key(connection, caller.project.id, key_id):
            raise NotFound(f"There is no live key {key_id!r} in this project.")
