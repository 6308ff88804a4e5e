"""`finery serve` and `finery worker`: the processes of this machine. Wiring is `finery.bootstrap`'s."""

import contextlib
from typing import Annotated, Any

import typer

from finery.cli.options import Home, home_folder
from finery.core.errors import InvalidRequest, Unavailable
from finery.settings import Settings


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="ADDRESS", envvar="FINERY_HOST", help="Address to listen on; default 127.0.0.1."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="N", envvar="FINERY_PORT", min=0, max=65535, help="Port to listen on; default 8000."
        ),
    ] = None,
    home: Home = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Start no worker; others will do the training.")
    ] = False,
    tls_self_signed: Annotated[
        bool,
        typer.Option(
            "--tls-self-signed",
            help="Speak TLS, with a certificate that this machine signs itself; clients have to trust tls/ca.pem of "
            "the home.",
        ),
    ] = False,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen beyond this machine although keys and data then travel unencrypted."),
    ] = False,
) -> None:
    """Run the server of this machine.

    It answers the API, schedules jobs, and looks after one local worker and the inference servers. Ctrl-C ends it.
    """
    try:
        settings = Settings.from_environment(
            home=home,
            host=host,
            port=port,
            worker=not no_worker,
            tls_self_signed=tls_self_signed,
            insecure=insecure,
        )
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    with contextlib.suppress(KeyboardInterrupt):
        _bootstrap().serve(settings)


def worker(
    base_url: Annotated[
        str,
        typer.Option(
            "--base-url", metavar="URL", envvar="FINERY_BASE_URL", show_default=False, help="Address of the server."
        ),
    ],
    worker_key: Annotated[
        str,
        typer.Option(
            "--worker-key",
            metavar="KEY",
            envvar="FINERY_WORKER_KEY",
            show_default=False,
            help="Key of the server's workers; default: worker.key in the home.",
        ),
    ] = "",
    home: Home = None,
    ray: Annotated[
        str,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            envvar="FINERY_RAY",
            show_default=False,
            help="Place jobs in this Ray cluster (auto, or host:port of its head) instead of training here.",
        ),
    ] = "",
    rank_cpus: Annotated[
        float, typer.Option("--rank-cpus", metavar="N", min=0.01, help="With --ray: CPUs each rank takes.")
    ] = 1.0,
    rank_gpus: Annotated[
        float, typer.Option("--rank-gpus", metavar="N", min=0, help="With --ray: GPUs each rank takes.")
    ] = 0.0,
    rank_memory: Annotated[
        float, typer.Option("--rank-memory", metavar="GB", min=0, help="With --ray: memory each rank takes; 0: any.")
    ] = 0.0,
) -> None:
    """Run a worker for a server.

    It takes jobs, trains them and sends back what came of them. Ctrl-C ends it; its job goes on from a checkpoint.
    """
    needs = {"cpus": rank_cpus, "gpus": rank_gpus, "memory_gb": rank_memory}
    placed = {"ray": ray, "needs": needs} if ray else {}
    with contextlib.suppress(KeyboardInterrupt):
        _bootstrap().work(base_url=base_url, home=home_folder(home), secret=worker_key, **placed)


def _bootstrap() -> Any:
    """`finery.bootstrap`.

    Raises:
        Unavailable: this is a bare client, without the server's parts.
    """
    try:
        from finery import bootstrap
    except ImportError as error:
        raise Unavailable(
            f"This needs the server parts ({error.name} is missing): pip install 'finery[server]'."
        ) from None
    return bootstrap
