"""Wiring: the one place where the parts meet. `serve` makes a control plane of a home, `work` a worker."""

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from finery import telemetry, tls
from finery.api import app
from finery.control.admission import Admission
from finery.control.inference import InferencePool
from finery.control.issuer import Issuer
from finery.control.plane import ControlPlane, now
from finery.control.sign_in import SignIn
from finery.core.access import Key, Level, digest, hint, new_secret
from finery.core.errors import Conflict, InvalidRequest
from finery.core.ids import new_id
from finery.core.roles import Role
from finery.core.tenancy import DEFAULT_HUB, DEFAULT_PROJECT
from finery.safety.filter import Filter
from finery.settings import Settings
from finery.storage import access, files, projects, tenancy
from finery.storage.blobs import BlobStore
from finery.storage.database import Database
from finery.studio.mount import Studio
from finery.tls import Certificate

log = logging.getLogger(__name__)

ADMIN_KEY_FILE = "admin.key"
WORKER_KEY_FILE = "worker.key"
SERVER_FILE = "server.json"
LOCK_FILE = "finery.lock"

_WORKER_RESTART_SECONDS = 1.0


def serve(settings: Settings) -> None:
    """Run a control plane until SIGTERM or SIGINT, with its local worker and inference servers.

    Raises:
        Conflict: another control plane uses the home, or something else the port.
        InvalidRequest: an address beyond this machine without the explicit flag.
    """
    _require_safe_address(settings)
    telemetry.start(log_format=settings.log_format)
    settings.home.mkdir(parents=True, exist_ok=True)
    with _only_one(settings.home), _listen(settings) as listener:
        port = listener.getsockname()[1]
        certificate = _certificate(settings)
        url = f"{'https' if certificate else 'http'}://{_reachable(settings.host)}:{port}"
        plane = control_plane(settings)
        server = _http_server(settings, plane, url, certificate)
        # Until uvicorn listens to signals, they are heard here: a stop that comes early must not be lost. And uvicorn
        # raises the signal that ended it once more when it is done; unheard, it would end us untidied.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        # Whoever reads the address calls at once, and waits a moment instead of being refused.
        listener.listen(server.config.backlog)
        _announce(settings, url, certificate)
        stop = threading.Event()
        supervisor = threading.Thread(target=_supervise_worker, args=(settings, url, certificate, stop), daemon=True)
        try:
            if settings.worker:
                supervisor.start()
            server.run(sockets=[listener])
        finally:
            stop.set()
            (settings.home / SERVER_FILE).unlink(missing_ok=True)
            plane.database.close()


def _http_server(settings: Settings, plane: ControlPlane, url: str, certificate: Certificate | None) -> uvicorn.Server:
    config = uvicorn.Config(
        Studio(
            app.build(plane), url, authority=certificate.ca if certificate else None, provider=_sign_in(settings, plane)
        ),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        # Clients keep connections, and some don't notice in time that theirs was closed.
        timeout_keep_alive=75,
        ssl_certfile=certificate.chain if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )
    return uvicorn.Server(config)


def control_plane(settings: Settings) -> ControlPlane:
    """A control plane over a home: database migrated, first project and keys made.

    Raises:
        Conflict: the database is of a newer Finery, or names data that is in another object store.
        InvalidRequest: an address of a database, an object store or an identity provider that can't be one.
        Unavailable: the database or the object store doesn't answer, or doesn't let us do what we have to.
    """
    issuer = _issuer(settings)
    database = Database(settings.database)
    database.migrate()
    blobs = BlobStore(settings.home / "blobs", settings.blob_url, settings.blob_seconds)
    blobs.check()
    _require_its_data(database, blobs)
    _make_admin_key(settings.home, database)
    return ControlPlane(
        settings=settings,
        database=database,
        blobs=blobs,
        inference=InferencePool(settings, blobs),
        admission=Admission(places=settings.inference_slots, waiting=settings.inference_queue),
        filter=Filter(settings.filter_seconds),
        worker_digest=digest(_worker_key(settings)),
        issuer=issuer,
    )


def _issuer(settings: Settings) -> Issuer | None:
    """The provider whose tokens are taken; those that it makes for the Studio's sign-in are, too."""
    if settings.oidc_issuer:
        return Issuer(settings.oidc_issuer, ",".join((settings.oidc_audience, settings.oidc_client_id)))
    if settings.oidc_client_id:
        raise InvalidRequest("FINERY_OIDC_CLIENT_ID needs FINERY_OIDC_ISSUER: whose client that is.")
    return None


def _sign_in(settings: Settings, plane: ControlPlane) -> SignIn | None:
    if plane.issuer is None or not settings.oidc_client_id:
        return None
    return SignIn(
        issuer=plane.issuer,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        scope=settings.oidc_scope,
        redirect_uri=settings.oidc_redirect_uri,
    )


def work(*, base_url: str, home: Path, secret: str = "", ray: str = "", needs: dict[str, float] | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT; its key is the home's worker.key unless one is given.

    With an address in `ray` it trains nothing itself: jobs are placed in that Ray cluster, each rank with its `needs`.
    """
    from finery.worker import loop

    settings = Settings.from_environment(home=home)
    telemetry.start("worker", log_format=settings.log_format)
    key = home / WORKER_KEY_FILE
    if not secret and not key.exists():
        raise InvalidRequest(
            f"There is no worker key. Copy worker.key from the server's home to {key}, or set FINERY_WORKER_KEY."
        )
    secret = secret or key.read_text().strip()
    if ray:
        from finery.worker import cluster

        cluster.work(address=ray, needs=cluster.Needs(**(needs or {})), base_url=base_url, secret=secret, home=home)
        return
    loop.work(
        base_url=base_url,
        secret=secret,
        home=home,
        models_folder=settings.models_folder,
        shares_checkpoints=True,
    )


def _require_safe_address(settings: Settings) -> None:
    if settings.insecure or settings.tls_self_signed or settings.host == "localhost":
        return
    try:
        loopback = ip_address(settings.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidRequest(
            f"{settings.host} can be reached from other machines, and keys would travel unencrypted. Say "
            "--tls-self-signed, put a proxy with TLS in front and listen on 127.0.0.1, or say --insecure if the "
            "network is your own."
        )


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """The home is ours: two processes on one SQLite file would put it at risk."""
    with (home / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another `finery serve` uses {home}. Stop it, or choose another --home.") from None
        yield


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise Conflict(
                f"Can't listen on {settings.host}:{settings.port} ({error.strerror}). Choose another --port."
            ) from None
        yield listener


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _require_its_data(database: Database, blobs: BlobStore) -> None:
    """Refuse an object store that hasn't what the database names: most likely it is another one than was meant."""
    with database.read() as connection:
        newest = files.newest_blob(connection)
    if newest is not None and not blobs.has(newest):
        raise Conflict(
            f"The database names data ({newest[:12]}…) that the object store {blobs.place} doesn't have. Set "
            "FINERY_BLOB_URL to the store that belongs to this database (all control planes of one database share "
            "one), or restore a backup: finery restore."
        )


def _worker_key(settings: Settings) -> str:
    return settings.worker_key or _secret_file(settings.home / WORKER_KEY_FILE)


def _make_admin_key(home: Path, database: Database) -> None:
    path = home / ADMIN_KEY_FILE
    with database.write() as connection:
        if projects.find_project(connection, DEFAULT_PROJECT) is not None:
            return
        hub = tenancy.find_hub(connection, DEFAULT_HUB)
        assert hub is not None  # the migrations made it
        project = projects.insert_project(connection, DEFAULT_PROJECT, hub.id)
        secret = _secret_file(path)
        key = Key(
            id=new_id("key_"),
            project_id=project.id,
            name="admin",
            hint=hint(secret),
            role=Role.OWNER,
            level=Level.SUBSCRIPTION,
            created_at=now(),
        )
        access.insert_key(connection, key, digest(secret))
    print(f"Admin key (shown this once, kept in {path}): {secret}", flush=True)  # noqa: T201 - meant for the operator


def _secret_file(path: Path) -> str:
    """The secret in a file that only its owner can read; made if it isn't there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    secret = new_secret()
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
    return secret


def _certificate(settings: Settings) -> Certificate | None:
    if not settings.tls_self_signed:
        return None
    further = {name.strip() for name in settings.tls_names.split(",")} - {""}
    return tls.issue(settings.home / "tls", tls.own_names(settings.host) | further)


def _announce(settings: Settings, url: str, certificate: Certificate | None) -> None:
    whole = settings.home / f".{SERVER_FILE}.{os.getpid()}"
    whole.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    whole.replace(settings.home / SERVER_FILE)
    print(f"Finery listens at {url}  (home {settings.home})", flush=True)  # noqa: T201 - meant for the operator
    if certificate:
        print(f"Clients have to trust {certificate.ca}", flush=True)  # noqa: T201 - meant for the operator


def _supervise_worker(settings: Settings, url: str, certificate: Certificate | None, stop: threading.Event) -> None:
    """Keep one worker alive for as long as the control plane lives."""
    environment = os.environ | {
        "FINERY_BASE_URL": url,
        "FINERY_WORKER_KEY": _worker_key(settings),
        "FINERY_HOME": str(settings.home),
        "FINERY_MODELS": str(settings.models_folder),
        "FINERY_PARENT_PID": str(os.getpid()),
        # Nobody else could go on with the jobs of a home that has its database in itself.
        "FINERY_SHARES_CHECKPOINTS": "1" if settings.database_url else "",
    }
    if certificate:
        environment["SSL_CERT_FILE"] = str(certificate.ca)
    while not stop.is_set():
        with (settings.home / "worker.log").open("ab") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "finery.worker.loop"], env=environment, stdout=output, stderr=output
            )
        while worker.poll() is None and not stop.wait(0.2):
            pass
        if stop.is_set():
            worker.send_signal(signal.SIGTERM)
            return
        log.warning("the worker ended with %s; starting it again", worker.returncode)
        stop.wait(_WORKER_RESTART_SECONDS)
