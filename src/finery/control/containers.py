"""Containers: addresses to which a client may send files without a key, because the address itself is signed.

Azure's way to upload: the service hands out a signed address, the client puts blobs there, whole or in blocks, and
then says which of them is a dataset's version. A signature holds for one container, for a day. A version's label is
whatever the client calls it ("1.0"); Finery's own number stands beside it.
"""

import dataclasses
import hashlib
import hmac
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finery.control import datasets, files, naming
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.datasets import DatasetVersion, check_dataset_name
from finery.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, TooLarge, Unauthenticated
from finery.core.files import MAX_FILE_BYTES, File
from finery.core.ids import check_name, new_id
from finery.core.records import Kind, Record
from finery.storage import files as file_rows
from finery.storage import records
from finery.storage.blobs import Blob

SIGNATURE_SECONDS = 24 * 3600
MAX_BLOCK_BYTES = 100 * 1024 * 1024
MAX_BLOBS = 1000
"""Blobs and blocks of one container."""

OPEN = "open"
"""Files may be put there."""
CLOSED = "closed"
"""One of its files is a version."""

_EXPIRY = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What stands in a signed address, under Azure's names."""

    se: str
    """Until when, in UTC."""
    sig: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledVersion:
    """A dataset's version, as a client of Azure calls it."""

    name: str
    label: str
    version: DatasetVersion
    container: Record | None
    """Where its file came in; None for one that was made in another way."""


def start(plane: ControlPlane, caller: Caller, name: str, label: str) -> tuple[Record, Signature]:
    """A container for the files of a version that is to come, and a signature for it.

    Raises:
        InvalidRequest: a name or a label that can't be one.
        Conflict: the version is there already.
    """
    check_dataset_name(name)
    check_name(label, what="a version", param="version")
    if any(found.label == label for found in _versions(plane, caller, name)):
        raise Conflict(f"The dataset '{name}' has a version '{label}' already. Versions can't change: choose another.")
    container = Record(
        id=new_id("container-"),
        project_id=caller.project.id,
        kind=Kind.CONTAINER,
        owner=name,
        status=OPEN,
        body={"label": label},
        created_at=now(),
    )
    with plane.database.write() as connection:
        records.insert_record(connection, container)
    return container, sign(plane, container)


def sign(plane: ControlPlane, container: Record) -> Signature:
    """A fresh signature for a container."""
    expiry = datetime.fromtimestamp(time.time() + SIGNATURE_SECONDS, UTC).strftime(_EXPIRY)
    return Signature(se=expiry, sig=_mac(plane, container.id, expiry))


def check(plane: ControlPlane, container_id: str, signature: Signature) -> Record:
    """The container that a signed address names.

    Raises:
        Unauthenticated: no signature.
        Forbidden: it is another container's, made up, or too old.
    """
    if not signature.sig:
        raise Unauthenticated("The address isn't signed. Send it with all that stands behind its '?'.")
    expected = _mac(plane, container_id, signature.se)
    if not hmac.compare_digest(expected.encode(), signature.sig.encode()):
        raise Forbidden("The address isn't signed by this server. Begin the upload again.", code="AuthenticationFailed")
    # The expiry is part of what was signed, so it is well-formed.
    if datetime.strptime(signature.se, _EXPIRY).replace(tzinfo=UTC).timestamp() < time.time():
        raise Forbidden(f"The signed address ended at {signature.se}. Ask again.", code="AuthenticationFailed")
    with plane.database.read() as connection:
        container = records.find(connection, Kind.CONTAINER, container_id)
    if container is None:
        raise NotFound("The container is gone.", code="ContainerNotFound")
    return container


def put_blob(plane: ControlPlane, container: Record, name: str, chunks: Iterable[bytes], *, replace: bool) -> File:
    """Store a blob, and check its lines if it is JSONL.

    Raises:
        Conflict: there is one of that name and it isn't to be replaced.
        TooLarge: over 512 MB.
    """
    old = _blobs(plane, container).get(name)
    if old is not None and not replace:
        raise Conflict(f"The container has a blob '{name}' already.", code="BlobAlreadyExists")
    _require_room(plane, container)
    purpose = "fine-tune" if name.lower().endswith((".jsonl", ".ndjson")) else "user_data"
    capped = _capped(chunks, MAX_FILE_BYTES)
    file = files.store(plane, container.project_id, filename=name, purpose=purpose, chunks=capped)
    blob = Record(
        id=new_id("blob-"),
        project_id=container.project_id,
        kind=Kind.CONTAINER_BLOB,
        owner=container.id,
        body={"name": name, "file_id": file.id},
        created_at=now(),
    )
    with plane.database.write() as connection:
        if old is not None:
            records.remove(connection, container.project_id, Kind.CONTAINER_BLOB, old.id)
        records.insert_record(connection, blob)
    return files.check(plane, file) if file.bytes <= files.CHECK_AT_ONCE_BYTES else file


def put_block(plane: ControlPlane, container: Record, name: str, block_id: str, chunks: Iterable[bytes]) -> None:
    """Store a piece of a blob that is to come.

    Raises:
        TooLarge: over 100 MB.
    """
    _require_room(plane, container)
    owner = _blocks_of(container, name)
    with plane.database.read() as connection:
        if len(records.list_owned(connection, container.project_id, Kind.UPLOAD_PART, owner)) >= MAX_BLOBS:
            raise TooLarge(f"A blob has at most {MAX_BLOBS} blocks here. Send larger ones.")

    def name_it(connection: Any, stored: Blob) -> None:
        block = Record(
            id=new_id("part_"),
            project_id=container.project_id,
            kind=Kind.UPLOAD_PART,
            owner=owner,
            body={"sha256": stored.sha256, "bytes": stored.bytes, "block": block_id},
            created_at=now(),
        )
        records.insert_record(connection, block)

    with plane.blobs.receive() as received:
        received.write_all(_capped(chunks, MAX_BLOCK_BYTES))
        naming.keep(plane, received, name_it)


def put_blocks(plane: ControlPlane, container: Record, name: str, block_ids: list[str], *, replace: bool) -> File:
    """Make a blob of its blocks, in the order given.

    Raises:
        InvalidRequest: a block that wasn't sent.
    """
    owner = _blocks_of(container, name)
    with plane.database.read() as connection:
        sent = records.list_owned(connection, container.project_id, Kind.UPLOAD_PART, owner)
    by_id = {block.body["block"]: block.body["sha256"] for block in sent}
    missing = [block_id for block_id in block_ids if block_id not in by_id]
    if missing:
        raise InvalidRequest(f"The block {missing[0]!r} of '{name}' wasn't sent.", code="InvalidBlockList")

    def chunks() -> Iterator[bytes]:
        for block_id in block_ids:
            yield from plane.blobs.stream(by_id[block_id])

    file = put_blob(plane, container, name, chunks(), replace=replace)
    with plane.database.write() as connection:
        records.remove_owned(connection, container.project_id, Kind.UPLOAD_PART, owner)
    for sha256 in {block.body["sha256"] for block in sent}:
        naming.drop(plane, sha256)
    return file


def read_blob(plane: ControlPlane, container: Record, name: str) -> File:
    """The file behind a blob.

    Raises:
        NotFound: the container has none of that name.
    """
    blob = _blobs(plane, container).get(name)
    with plane.database.read() as connection:
        file = file_rows.get(connection, container.project_id, blob.body["file_id"]) if blob else None
    if file is None:
        raise NotFound(f"The container has no blob '{name}'.", code="BlobNotFound")
    return file


def register(
    plane: ControlPlane, caller: Caller, name: str, label: str, *, container_id: str, blob: str | None, description: str
) -> LabelledVersion:
    """Make a blob a dataset's version; without a blob's name it is the container's only one.

    Raises:
        NotFound: no such container, or no such blob in it.
        InvalidRequest: the container was made for another version, or holds more than one file.
    """
    with plane.database.read() as connection:
        container = records.get(connection, caller.project.id, Kind.CONTAINER, container_id)
    if container is None:
        raise NotFound(f"There is no container '{container_id}' in this project.", param="dataUri")
    if (container.owner, container.body["label"]) != (name, label):
        raise InvalidRequest(
            f"This container was made for the version '{container.body['label']}' of '{container.owner}'.",
            param="dataUri",
        )
    for known in _versions(plane, caller, name):
        if known.label == label:
            if known.container and known.container.id == container.id:
                return known
            raise Conflict(f"The dataset '{name}' has a version '{label}' already. Versions can't change.")
    file = read_blob(plane, container, blob or _only_blob(plane, container))
    version = datasets.add_version(plane, caller, name, file.id, description)
    closed = dataclasses.replace(
        container, status=CLOSED, body={**container.body, "version": version.version, "blob": blob}
    )
    with plane.database.write() as connection:
        records.change(connection, container, status=closed.status, body=closed.body)
    return LabelledVersion(name=name, label=label, version=version, container=closed)


def find(plane: ControlPlane, caller: Caller, name: str, label: str) -> LabelledVersion:
    """A dataset's version by its label.

    Raises:
        NotFound: no such dataset or version.
    """
    versions = list_versions(plane, caller, name)
    for found in versions:
        if found.label == label:
            return found
    there = ", ".join(found.label for found in versions)
    raise NotFound(f"The dataset '{name}' has no version '{label}'; it has: {there}.", param="version")


def list_versions(plane: ControlPlane, caller: Caller, name: str) -> list[LabelledVersion]:
    """A dataset's versions, newest first.

    Raises:
        NotFound: no such dataset.
    """
    _, versions = datasets.get(plane, caller, name)
    with plane.database.read() as connection:
        made = records.list_owned(connection, caller.project.id, Kind.CONTAINER, name)
    by_version = {container.body.get("version"): container for container in made}
    return [
        LabelledVersion(
            name=name,
            label=container.body["label"] if (container := by_version.get(version.version)) else str(version.version),
            version=version,
            container=container,
        )
        for version in versions
    ]


def expire(plane: ControlPlane) -> None:
    """Forget containers that nothing was made of while their signature held, and the blocks that lie there."""
    with plane.database.read() as connection:
        left = records.list_in(connection, Kind.CONTAINER, OPEN)
    for container in left:
        if container.created_at + SIGNATURE_SECONDS < now():
            _forget(plane, container)


def _forget(plane: ControlPlane, container: Record) -> None:
    with plane.database.write() as connection:
        blocks = records.list_under(connection, container.project_id, Kind.UPLOAD_PART, f"{container.id}/")
        for block in blocks:
            records.remove(connection, container.project_id, Kind.UPLOAD_PART, block.id)
        records.remove_owned(connection, container.project_id, Kind.CONTAINER_BLOB, container.id)
        records.remove(connection, container.project_id, Kind.CONTAINER, container.id)
    for sha256 in {block.body["sha256"] for block in blocks}:
        naming.drop(plane, sha256)


def _versions(plane: ControlPlane, caller: Caller, name: str) -> list[LabelledVersion]:
    try:
        return list_versions(plane, caller, name)
    except NotFound:
        return []


def _blobs(plane: ControlPlane, container: Record) -> dict[str, Record]:
    with plane.database.read() as connection:
        found = records.list_owned(connection, container.project_id, Kind.CONTAINER_BLOB, container.id)
    return {blob.body["name"]: blob for blob in found}


def _only_blob(plane: ControlPlane, container: Record) -> str:
    names = sorted(_blobs(plane, container))
    if len(names) != 1:
        raise InvalidRequest(
            f"A version of a dataset is one file; the folder holds {len(names)}: {', '.join(names[:5])}.",
            param="dataUri",
        )
    return names[0]


def _require_room(plane: ControlPlane, container: Record) -> None:
    if container.status != OPEN:
        raise Conflict("The container's files are a dataset's version by now; versions can't change.")
    if len(_blobs(plane, container)) >= MAX_BLOBS:
        raise TooLarge(f"A container holds at most {MAX_BLOBS} blobs.")


def _blocks_of(container: Record, name: str) -> str:
    """Whose blocks: a blob's name may be longer than a column."""
    return f"{container.id}/{hashlib.sha256(name.encode()).hexdigest()}"


def _mac(plane: ControlPlane, container_id: str, expiry: str) -> str:
    # Keyed with what no client knows; the words in front keep it apart from every other use of that secret.
    return hmac.new(plane.worker_digest.encode(), f"container {container_id} {expiry}".encode(), "sha256").hexdigest()


def _capped(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise TooLarge(f"This is over {most // 1024**2} MB. Split it.")
        yield chunk
