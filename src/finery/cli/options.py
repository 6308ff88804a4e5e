"""Options that several commands share, and the client they lead to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from finery.sdk import Finery

BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", envvar="FINERY_BASE_URL", metavar="URL", help="Address of the server; default: this machine's."
    ),
]

ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="FINERY_API_KEY", metavar="KEY", help="API key; default: the key of this machine's server."
    ),
]

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="FINERY_HOME",
        metavar="DIR",
        help="Where this machine's Finery keeps things; default ~/.finery.",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Most items to show, newest first.")]


def connect(base_url: str | None, api_key: str | None, home: Path | None = None) -> "Finery":
    """A client of the server that the options, the environment or the home name."""
    from finery.sdk import Finery

    return Finery(base_url, api_key, home=home)


def home_folder(home: Path | None) -> Path:
    """The home on this machine."""
    return (home or Path("~/.finery")).expanduser()


def noun(help_text: str) -> typer.Typer:
    """A group of commands about one noun."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
