"""What the routes of Azure Machine Learning share: the workspace in the path, and names inside of Azure's addresses.

A workspace is a project, the caller's own, by its name, in the resource group of its hub.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path

from finery.api.access import KnownCaller
from finery.api.context import Plane
from finery.control import containers, models, tenancy
from finery.control.named_jobs import get_model
from finery.control.plane import ControlPlane
from finery.core.access import Caller
from finery.core.errors import InvalidRequest, NotFound
from finery.core.tenancy import Hub

PROVIDER = "Microsoft.MachineLearningServices"
WORKSPACES = "/subscriptions/{subscription}/resourceGroups/{group}/providers/" + PROVIDER + "/workspaces"
WORKSPACE = WORKSPACES + "/{workspace}"

_FILE = re.compile(r"file-[A-Za-z0-9]+")
_ASSET = re.compile(r"/(?P<kind>data|models)/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/?$")
_SHORT = re.compile(r"azureml:(?P<name>[^:/]+)(:(?P<version>[^:/]+))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """A workspace: a project of a hub, under the subscription by which it was asked for."""

    subscription: str
    hub: Hub
    name: str

    @property
    def id(self) -> str:
        """Its resource id."""
        return self.beside(self.name)

    @property
    def hub_id(self) -> str:
        """The resource id of its hub."""
        return self.beside(self.hub.name)

    def beside(self, name: str) -> str:
        """The resource id of a workspace in the same resource group."""
        return WORKSPACE.format(subscription=self.subscription, group=self.hub.resource_group, workspace=name)


def own_workspace(plane: ControlPlane, caller: Caller, subscription: str) -> Workspace:
    """The caller's workspace."""
    hub = tenancy.get_hub(plane, caller, caller.project.hub_id)
    return Workspace(subscription=subscription, hub=hub, name=caller.project.name)


def workspace_of(
    plane: Plane,
    caller: KnownCaller,
    subscription: Annotated[str, Path(max_length=128)],
    group: Annotated[str, Path(max_length=90)],
    workspace: Annotated[str, Path(max_length=64)],
) -> Workspace:
    """The workspace that a path names.

    Raises:
        NotFound: it isn't the caller's.
    """
    own = own_workspace(plane, caller, subscription)
    if (workspace.lower(), group.lower()) != (own.name.lower(), own.hub.resource_group.lower()):
        raise NotFound(
            f"The workspace '{workspace}' was not found in the resource group '{group}'. Your key is for the workspace "
            f"'{own.name}' in '{own.hub.resource_group}'.",
            param="workspace",
        )
    return own


OfWorkspace = Annotated[Workspace, Depends(workspace_of)]


def file_in(plane: ControlPlane, caller: Caller, uri: str, param: str) -> str:
    """The file that an address of training data means: it holds the file's id, or names a version of a dataset.

    Raises:
        InvalidRequest: neither.
        NotFound: no such dataset or version.
    """
    if found := _FILE.search(uri):
        return found[0]
    asset = _asset(uri, "data")
    if asset is None:
        raise InvalidRequest(
            f"{uri!r} leads to no data here. Give azureml:DATASET:VERSION, or the address of an uploaded file "
            "(…/files/file-…).",
            param=param,
        )
    name, version = asset
    found_versions = containers.list_versions(plane, caller, name)
    if version is None:
        return found_versions[0].version.file_id
    return containers.find(plane, caller, name, version).version.file_id


def model_in(plane: ControlPlane, caller: Caller, uri: str) -> str:
    """The model that an address means: one that a job registered, or a base model, in whatever capitals.

    Raises:
        UnknownModel: there is none of that name.
    """
    name, version = _asset(uri, "models") or (uri.rstrip("/").rpartition("/")[2], None)
    try:
        number = int(version) if version and version.isascii() and version.isdigit() else None
        return str(get_model(plane, caller, name, number).job.fine_tuned_model)
    except NotFound:
        known = {base.id.lower(): base.id for base in models.list_bases(plane)}
        return models.resolve(plane, caller, known.get(name.lower(), name)).name


def _asset(uri: str, kind: str) -> tuple[str, str | None] | None:
    match = _SHORT.fullmatch(uri) or _ASSET.search(uri)
    if match is None or match.groupdict().get("kind", kind) != kind:
        return None
    return match["name"], match["version"]
