"""`finery backup` and `finery restore`: the operator's, beside the server and without a key."""

from pathlib import Path
from typing import Annotated, Any

import typer

from finery.cli.console import say
from finery.cli.options import Home
from finery.core.errors import InvalidRequest, Unavailable

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the backup.", show_default=False)]


def backup(folder: Folder, home: Home = None) -> None:
    """Back everything up into a new folder, while the server runs.

    Rows, stored data, and the home's keys: keep the folder as safe as the home. Base models are left out. Where
    FINERY_DATABASE_URL or FINERY_BLOB_URL are set for the server, set them here too.
    """
    manifest = _backups().make(_settings(home), folder)
    say(f"Backed up to {folder}: {_told(manifest)}")


def restore(folder: Folder, home: Home = None) -> None:
    """Make a home of a backup, after all of the backup was checked.

    The home must be new or empty, and so must the database. With FINERY_DATABASE_URL set, a backup of SQLite becomes a
    database on PostgreSQL, and the other way round.
    """
    settings = _settings(home)
    manifest = _backups().restore(settings, folder)
    say(f"Restored into {settings.home}: {_told(manifest)}")


def _told(manifest: dict[str, Any]) -> str:
    rows = sum(manifest["rows"].values())
    megabytes = manifest["blob_bytes"] / 1e6
    return f"{rows:,} rows, {len(manifest['blobs']):,} blobs ({megabytes:,.1f} MB), schema {manifest['schema']}."


def _settings(home: Path | None) -> Any:
    from finery.settings import Settings

    try:
        return Settings.from_environment(home=home)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _backups() -> Any:
    """`finery.storage.backups`.

    Raises:
        Unavailable: this is a bare client, without the server's parts.
    """
    try:
        from finery.storage import backups
    except ImportError as error:
        raise Unavailable(
            f"This needs the server parts ({error.name} is missing): pip install 'finery[server]'."
        ) from None
    return backups
