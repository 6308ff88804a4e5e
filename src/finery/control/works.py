"""Protected works of a project: texts that completions are not to repeat. Kept as hashes; no text stays.

A work is found where WORDS of its words stand one behind the other. Where there are no works, nothing is ever found.
"""

from typing import Any

from finery.control import audit, overlaps
from finery.control import files as uploaded
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import InvalidRequest, NotFound, TooLarge
from finery.core.ids import check_name, new_id
from finery.core.records import Kind, Record
from finery.safety.overlaps import Runs, hashes
from finery.storage import records

WORDS = 15
"""Of the shortest piece of a work that counts: about 80 characters."""
MAX_WORK_BYTES = 10_000_000
MAX_RUNS = 4_000_000
"""Of all works of a project: about 40 long novels, and 32 MB."""
MAX_DESCRIPTION = 1024


def put(
    plane: ControlPlane, caller: Caller, name: str, *, text: str | None, file_id: str | None, description: str
) -> Record:
    """Take a work in, or another text under its name: what is said here, or what is in an uploaded file.

    Raises:
        InvalidRequest: neither or both of them, not UTF-8, or too few words to be found again.
        NotFound: no such file; TooLarge: the work, or all of the project's together.
    """
    check_name(name, what="a protected work")
    if (text is None) == (file_id is None):
        raise InvalidRequest("Give the work's text, or the file_id of a file with it: one of them.", param="text")
    found = hashes(_read(plane, caller, file_id) if text is None else text, WORDS)
    if not len(found):
        raise InvalidRequest(
            f"The work '{name}' has no run of {WORDS} words; a text so short can't be told from a common phrase. Put "
            "terms and phrases on a blocklist.",
            param="text" if file_id is None else "file_id",
        )
    old: list[Record] = []

    def write(connection: Any, work: Record) -> None:
        there = records.list_under(connection, caller.project.id, Kind.PROTECTED_WORK, "")
        old[:] = [one for one in there if one.owner == name]
        count = sum(one.body["runs"] for one in there if one.owner != name) + len(found)
        if count > MAX_RUNS:
            raise TooLarge(
                f"The protected works of this project would have {count:,} runs of words; at most {MAX_RUNS:,} are "
                "kept. Delete works, or put those that matter into a project of their own."
            )
        records.remove_owned(connection, caller.project.id, Kind.PROTECTED_WORK, name)
        records.insert_record(connection, work)
        audit.record(connection, caller, "protected_works.put", name, runs=len(found))

    work = Record(
        id=new_id("work_"),
        project_id=caller.project.id,
        kind=Kind.PROTECTED_WORK,
        owner=name,
        body={"description": description},
        created_at=now(),
    )
    kept = overlaps.keep(plane, work, found, write)
    overlaps.drop(plane, old)
    return kept


def get(plane: ControlPlane, caller: Caller, name: str) -> Record:
    """A protected work.

    Raises:
        NotFound: there is none of that name.
    """
    with plane.database.read() as connection:
        found = records.list_owned(connection, caller.project.id, Kind.PROTECTED_WORK, name)
    if not found:
        raise NotFound(f"There is no protected work '{name}' in this project.")
    return found[0]


def list_all(plane: ControlPlane, caller: Caller) -> list[Record]:
    """The project's protected works, oldest first."""
    with plane.database.read() as connection:
        return records.list_under(connection, caller.project.id, Kind.PROTECTED_WORK, "")


def delete(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Forget a work; from the next request on it may be repeated.

    Raises:
        NotFound: there is none of that name.
    """
    work = get(plane, caller, name)
    with plane.database.write() as connection:
        records.remove_owned(connection, caller.project.id, Kind.PROTECTED_WORK, name)
        audit.record(connection, caller, "protected_works.delete", name)
    overlaps.drop(plane, [work])


def runs(plane: ControlPlane, caller: Caller) -> Runs:
    """The runs of all the project's works, ready to be looked for. Raises as `overlaps.ready`."""
    return overlaps.ready(plane, [work.body["sha256"] for work in list_all(plane, caller)], WORDS)


def _read(plane: ControlPlane, caller: Caller, file_id: str | None) -> str:
    file = uploaded.get(plane, caller, file_id or "", param="file_id")
    if file.bytes > MAX_WORK_BYTES:
        raise TooLarge(f"The file {file.id} has {file.bytes:,} bytes; a work has at most {MAX_WORK_BYTES:,}.")
    try:
        return b"".join(plane.blobs.stream(file.sha256)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"The file {file.id} is not UTF-8 (at byte {error.start}). A work is plain text.", param="file_id"
        ) from None
