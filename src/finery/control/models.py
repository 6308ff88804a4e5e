"""Model names: base models on this machine, tuned models, checkpoints."""

from dataclasses import dataclass

from finery.control import audit, memorised, naming
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.deployments import Deployment
from finery.core.errors import Conflict, InvalidRequest, NotFound, UnknownModel
from finery.core.models import TunedModel
from finery.modeling import sources
from finery.modeling.catalog import CATALOG
from finery.modeling.sources import LocalModel
from finery.storage import deployments, models, records


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedModel:
    """A model by name: a base, and what was tuned on it (None for the base itself)."""

    name: str
    base: LocalModel
    tuned: TunedModel | None
    deployment: Deployment | None = None
    """The deployment under whose name it was asked for."""


def resolve(plane: ControlPlane, caller: Caller, name: str, *, param: str | None = "model") -> ResolvedModel:
    """The model of that name; a checkpoint may be named by its id (`ftckpt_…`) too.

    Raises:
        UnknownModel: none of that name for this caller; says how to get it where the catalog has it.
    """
    with plane.database.read() as connection:
        full_name = models.name_of_checkpoint(connection, name) or name
        tuned = models.get(connection, caller.project.id, full_name)
        if tuned is None:
            permission = records.find_permission(connection, full_name, caller.project.id)
            tuned = models.get(connection, permission.project_id, full_name) if permission else None
    base_name = tuned.base_model if tuned else name
    base = find_base(plane, base_name)
    if base is None:
        raise UnknownModel(_how_to_get(plane, base_name), param=param)
    return ResolvedModel(name=tuned.name if tuned else name, base=base, tuned=tuned)


def find_base(plane: ControlPlane, name: str) -> LocalModel | None:
    """A base model on this machine."""
    # The pattern has no slash and no leading dot: a name that fits it stays inside the folder.
    folder = plane.settings.models_folder / name
    if not sources.ID_PATTERN.fullmatch(name) or not folder.is_dir():
        return None
    return sources.load(folder)


def list_bases(plane: ControlPlane) -> list[LocalModel]:
    """Base models on this machine."""
    return sources.list_local(plane.settings.models_folder)


def list_tuned(plane: ControlPlane, caller: Caller) -> list[TunedModel]:
    """Finished models of the caller's project, newest first."""
    with plane.database.read() as connection:
        return models.list_final(connection, caller.project.id)


def get_tuned(plane: ControlPlane, caller: Caller, name: str) -> TunedModel | None:
    """A tuned model or checkpoint of the caller's project."""
    with plane.database.read() as connection:
        return models.get(connection, caller.project.id, name)


def delete(plane: ControlPlane, caller: Caller, name: str) -> None:
    """Delete a tuned model with its checkpoints.

    Raises:
        NotFound: no such model.
        InvalidRequest: a base model; those belong to the machine.
        Conflict: it is deployed; names the deployments.
    """
    if find_base(plane, name):
        raise InvalidRequest(
            f"{name} is a base model of this machine, not a tuned one. Its operator removes it from the home's models/."
        )
    with plane.database.write() as connection:
        model = models.get(connection, caller.project.id, name)
        if model is None:
            raise NotFound(f"The model '{name}' does not exist.", code="model_not_found", param="model")
        _require_undeployed(name, caller.project.id, deployments.list_of_model(connection, name))
        removed = models.remove(connection, caller.project.id, name)
        audit.record(connection, caller, "models.delete", name)
    for gone in removed:
        naming.drop_all(plane, gone.blobs)
    if model.step is None:
        memorised.forget(plane, model)


def _require_undeployed(name: str, project_id: str, used_by: list[Deployment]) -> None:
    own = sorted(deployment.name for deployment in used_by if deployment.project_id == project_id)
    if own:
        raise Conflict(f"The model '{name}' is deployed as: {', '.join(own)}. Delete the deployment first.")
    if used_by:
        raise Conflict(
            f"A checkpoint of the model '{name}' is deployed in another project that was given permission. Its "
            "deployment has to be deleted there first."
        )


def _how_to_get(plane: ControlPlane, name: str) -> str:
    if name in CATALOG:
        return (
            f"The model '{name}' is in the catalog but not on this machine yet. On the server, run: "
            f"finery models pull {name}"
        )
    here = ", ".join(model.id for model in list_bases(plane)) or "none yet"
    return (
        f"The model '{name}' does not exist or you do not have access to it. Base models on this machine: {here}; "
        "`finery models list` shows the catalog."
    )
