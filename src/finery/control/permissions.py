"""Which projects may use a checkpoint that isn't theirs."""

from finery.control import audit, models
from finery.control.plane import ControlPlane, now
from finery.core.access import Caller
from finery.core.errors import NotFound
from finery.core.ids import new_id
from finery.core.records import Kind, Record
from finery.storage import records
from finery.storage.pages import Cursor, Page


def create(plane: ControlPlane, caller: Caller, checkpoint: str, project_ids: list[str]) -> list[Record]:
    """Give projects permission; one that has it keeps the permission it has.

    Raises:
        NotFound: no such checkpoint in the caller's project.
    """
    _require_checkpoint(plane, caller, checkpoint)
    with plane.database.write() as connection:
        known = {
            record.body["project_id"]: record
            for record in records.list_owned(connection, caller.project.id, Kind.PERMISSION, checkpoint)
        }
        for project_id in project_ids:
            if project_id not in known:
                known[project_id] = Record(
                    id=new_id("cp_"),
                    project_id=caller.project.id,
                    kind=Kind.PERMISSION,
                    owner=checkpoint,
                    body={"project_id": project_id},
                    created_at=now(),
                )
                records.insert_record(connection, known[project_id])
                audit.record(connection, caller, "models.share", checkpoint, with_project=project_id)
    return [known[project_id] for project_id in dict.fromkeys(project_ids)]


def list_page(
    plane: ControlPlane, caller: Caller, checkpoint: str, cursor: Cursor, project_id: str | None
) -> Page[Record]:
    """A checkpoint's permissions, perhaps only those of one project."""
    _require_checkpoint(plane, caller, checkpoint)
    with plane.database.read() as connection:
        page = records.list_page(connection, caller.project.id, Kind.PERMISSION, cursor, owner=checkpoint)
    if project_id is None:
        return page
    return Page(items=[item for item in page.items if item.body["project_id"] == project_id], has_more=page.has_more)


def delete(plane: ControlPlane, caller: Caller, checkpoint: str, permission_id: str) -> None:
    """Take a permission back.

    Raises:
        NotFound: no such permission of this checkpoint.
    """
    with plane.database.write() as connection:
        found = records.get(connection, caller.project.id, Kind.PERMISSION, permission_id)
        if found is None or found.owner != checkpoint:
            raise NotFound(f"There is no permission {permission_id!r} on the checkpoint {checkpoint!r}.")
        records.remove(connection, caller.project.id, Kind.PERMISSION, permission_id)
        audit.record(connection, caller, "models.unshare", checkpoint, with_project=found.body["project_id"])


def _require_checkpoint(plane: ControlPlane, caller: Caller, checkpoint: str) -> None:
    if models.get_tuned(plane, caller, checkpoint) is None:
        raise NotFound(
            f"There is no checkpoint {checkpoint!r} in this project. A job's checkpoints are listed at "
            "/v1/fine_tuning/jobs/{id}/checkpoints.",
            param="fine_tuned_model_checkpoint",
        )
