"""A backup: a folder with every row, every blob and the home's keys, made while the server runs, and a home made of it.

    backup.json        what is in it, with SHA-256; written last, so a backup without it isn't one
    rows/TABLE.jsonl   the rows, the same for SQLite and PostgreSQL
    blobs/ab/abcd…     the blobs by their SHA-256
    home/…             admin.key, worker.key, tls/

Base models aren't in it, nor the folders of runs under way: those jobs begin anew. Blobs are in it wherever they are
kept, a bucket included: a backup needs nothing that isn't in its folder. The keys to that bucket aren't.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import finery
from finery.core.errors import Conflict, CorruptArtifact, InvalidRequest, NotFound
from finery.settings import Settings
from finery.storage import rows
from finery.storage.blobs import BlobStore
from finery.storage.database import Database, known_schemas, schema_of

MANIFEST = "backup.json"
FORMAT = 1

_HOME_FILES = ("admin.key", "worker.key", "tls/*")
_TRIES = 5


def make(settings: Settings, folder: Path) -> dict[str, Any]:
    """Back a home up into a folder; returns the manifest.

    Raises:
        Conflict: the folder isn't empty.
        NotFound: the home has no database.
        CorruptArtifact: a blob is damaged.
        Unavailable: the object store doesn't answer.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} isn't empty. Name a new folder for each backup.")
    database = Database(_only_reading(settings))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    blobs = BlobStore(settings.home / "blobs", settings.blob_url, settings.blob_seconds)
    try:
        # Blobs come before the rows that name them, and are dropped after: so first all that are there, then the rows,
        # then what came between. Only what was dropped in just that moment can be missing: then once more.
        for _ in range(_TRIES):
            _copy_blobs(blobs, folder / "blobs")
            schema, tables = _write_rows(database, folder / "rows")
            _copy_blobs(blobs, folder / "blobs")
            missing = _named(folder) - _there(folder / "blobs")
            if not missing:
                break
        else:
            raise CorruptArtifact(
                f"The database names {len(missing)} blobs that the object store doesn't have, {min(missing)} among "
                "them. Restore them from an older backup, or delete the files or models that they belong to."
            )
    finally:
        database.close()
    return _finish(settings, folder, schema, tables)


def check(folder: Path) -> dict[str, Any]:
    """A backup's manifest, after all of it was read and found to be what was written.

    Raises:
        NotFound: there is no whole backup in the folder.
        CorruptArtifact: a file is damaged or missing.
    """
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        said = manifest.pop("sha256")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{folder} holds no whole backup: there is no {MANIFEST}, which is written last.") from None
    except (ValueError, KeyError):
        raise CorruptArtifact(f"{folder / MANIFEST} is damaged. Take another backup.") from None
    if said != _sha256([_canonical(manifest)]):
        raise CorruptArtifact(f"{folder / MANIFEST} is damaged. Take another backup.")
    for name, sha256 in manifest["files"].items():
        if not (folder / name).is_file() or _sha256_of(folder / name) != sha256:
            raise CorruptArtifact(f"{folder / name} is missing or damaged. Take another backup.")
    for sha256 in manifest["blobs"]:
        path = folder / "blobs" / sha256[:2] / sha256
        if not path.is_file() or _sha256_of(path) != sha256:
            raise CorruptArtifact(f"{path} is missing or damaged. Take another backup.")
    return manifest


def restore(settings: Settings, folder: Path) -> dict[str, Any]:
    """Make a home, its database and its blobs of a backup; returns the manifest. Nothing is made of a bad one.

    Raises:
        Conflict: the home or the database isn't empty, or the backup is of a newer Finery.
        NotFound, CorruptArtifact: as `check`.
        Unavailable: the object store doesn't answer, or refuses what is to be written.
    """
    manifest = check(folder)
    if manifest["format"] != FORMAT or manifest["schema"] not in known_schemas():
        raise Conflict(
            f"The backup was made by Finery {manifest['finery']} with schema {manifest['schema']}, which this version "
            f"({finery.__version__}) doesn't know. Install that version or a newer one."
        )
    if settings.home.exists() and any(settings.home.iterdir()):
        raise Conflict(f"The home {settings.home} isn't empty. Restore into a new one: --home.")
    made_home = not settings.home.exists()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _restore_into(settings, folder, manifest)
    except BaseException:
        shutil.rmtree(settings.home, ignore_errors=True)
        if not made_home:
            settings.home.mkdir(exist_ok=True)
        raise
    return manifest


def _restore_into(settings: Settings, folder: Path, manifest: dict[str, Any]) -> None:
    blobs = BlobStore(settings.home / "blobs", settings.blob_url, settings.blob_seconds)
    blobs.check()
    for sha256 in manifest["blobs"]:
        with (folder / "blobs" / sha256[:2] / sha256).open("rb") as file:
            blobs.put(iter(lambda file=file: file.read(1024 * 1024), b""))  # type: ignore[misc]
    database = Database(settings.database)
    try:
        _require_empty(database)
        try:
            _load_rows(database, folder, manifest)
        except BaseException:
            with database.write() as connection:
                rows.drop_all(connection)
            raise
    finally:
        database.close()
    for name in manifest["home"]:
        _copy_private(folder / "home" / name, settings.home / name)


def _require_empty(database: Database) -> None:
    with database.write() as connection:
        found = rows.tables(connection)
    if found:
        raise Conflict(
            f"The database has tables already ({found[0].name} among them). Let FINERY_DATABASE_URL lead to an empty "
            "one."
        )


def _load_rows(database: Database, folder: Path, manifest: dict[str, Any]) -> None:
    database.migrate(manifest["schema"])
    with database.write() as connection:
        found = rows.tables(connection)
        rows.empty(connection, found)
        for table in found:
            with (folder / "rows" / f"{table.name}.jsonl").open(encoding="utf-8", newline="\n") as lines:
                rows.load(connection, table, lines)
    database.migrate()


def _only_reading(settings: Settings) -> str:
    """The database's URL for someone beside the server: who only reads never writes SQLite's log back."""
    if not settings.database.startswith("sqlite:///"):
        return settings.database
    path = settings.database.removeprefix("sqlite:///")
    if not Path(path).exists():
        raise NotFound(f"There is no database {path}. Name another --home.")
    return f"sqlite:///file:{quote(path)}?mode=ro&uri=true"


def _write_rows(database: Database, folder: Path) -> tuple[str, dict[str, int]]:
    """Every table as a file, all as of one moment; returns the schema and the number of rows of each."""
    folder.mkdir(exist_ok=True)
    counts = {}
    with database.read() as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("BEGIN")
        schema = schema_of(connection)
        if schema is None:
            raise InvalidRequest("The database has no schema of Finery. Does FINERY_DATABASE_URL lead to another one?")
        for table in rows.tables(connection):
            with (folder / f"{table.name}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
                count = 0
                for line in rows.dump(connection, table):
                    file.write(line)
                    count += 1
            counts[table.name] = count
    return schema, counts


def _copy_blobs(blobs: BlobStore, folder: Path) -> None:
    for sha256 in blobs.list_all():
        path = folder / sha256[:2] / sha256
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                blobs.save_to(sha256, path.with_suffix(".part"))
            except CorruptArtifact:
                if blobs.has(sha256):
                    raise
                path.with_suffix(".part").unlink(missing_ok=True)
                continue  # Deleted while we looked.
            path.with_suffix(".part").rename(path)


def _named(folder: Path) -> set[str]:
    """The blobs that files and models name: without these the backup would be none."""
    found = set()
    for line in (folder / "rows" / "files.jsonl").open(encoding="utf-8"):
        found.add(json.loads(line)["sha256"])
    for line in (folder / "rows" / "models.jsonl").open(encoding="utf-8"):
        found |= {file["sha256"] for file in json.loads(json.loads(line)["manifest"])["files"].values()}
    return found


def _there(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*/*") if path.suffix != ".part"}


def _finish(settings: Settings, folder: Path, schema: str, counts: dict[str, int]) -> dict[str, Any]:
    """Copy the home's keys, make all durable, and say last what the backup is."""
    home = []
    for pattern in _HOME_FILES:
        for path in sorted(settings.home.glob(pattern)):
            name = str(path.relative_to(settings.home))
            _copy_private(path, folder / "home" / name)
            home.append(name)
    names = [f"rows/{name}.jsonl" for name in counts] + [f"home/{name}" for name in home]
    blobs = sorted(_there(folder / "blobs"))
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "finery": finery.__version__,
        "schema": schema,
        "created_at": int(time.time()),
        "rows": counts,
        "home": home,
        "files": {name: _sha256_of(folder / name) for name in names},
        "blobs": blobs,
        "blob_bytes": sum((folder / "blobs" / name[:2] / name).stat().st_size for name in blobs),
    }
    # save_to made the blobs durable; the rest, and the folders, before the manifest says that all is there.
    for path in [folder / name for name in names] + [path for path in folder.rglob("*") if path.is_dir()]:
        _make_durable(path)
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps({**manifest, "sha256": _sha256([_canonical(manifest)])}, indent=1), encoding="utf-8")
    _make_durable(part)
    part.rename(folder / MANIFEST)
    _make_durable(folder)
    return manifest


def _make_durable(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy_private(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(source.read_bytes())


def _canonical(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True).encode()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
