"""/api/projects/{project}/datasets: versions of data whose files the client puts into a container itself."""

from typing import Annotated, Literal
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from finery.api.access import ReadsFiles, WritesData
from finery.api.azure import arm, versions
from finery.api.azure.arm import Wire
from finery.api.azure.projects import PROJECT, require_own
from finery.api.context import Plane
from finery.control import containers, datasets
from finery.control.containers import LabelledVersion, Signature
from finery.core.errors import InvalidRequest, NotFound
from finery.core.records import Record

router = APIRouter(
    prefix=f"{PROJECT}/datasets", tags=["azure"], dependencies=[Depends(versions.check), Depends(require_own)]
)


class RegisterVersion(BaseModel):
    """Where a version's file lies."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["uri_file", "uri_folder"]
    data_uri: Annotated[str, Field(alias="dataUri", max_length=2048)]
    description: Annotated[str | None, Field(max_length=1000)] = None


@router.get("")
def list_latest(plane: Plane, caller: ReadsFiles, request: Request) -> Wire:
    """The latest version of every dataset."""
    names = [dataset.name for dataset in datasets.list_all(plane, caller)]
    return arm.paged(_version(request, containers.list_versions(plane, caller, name)[0]) for name in names)


@router.get("/{name}/versions")
def list_versions(plane: Plane, caller: ReadsFiles, request: Request, name: str) -> Wire:
    """The versions of a dataset, newest first."""
    return arm.paged(_version(request, found) for found in containers.list_versions(plane, caller, name))


@router.get("/{name}/versions/{version}")
def retrieve(plane: Plane, caller: ReadsFiles, request: Request, name: str, version: str) -> Wire:
    """One version."""
    return _version(request, containers.find(plane, caller, name, version))


@router.delete("/{name}/versions/{version}")
def delete(plane: Plane, caller: WritesData, name: str, version: str) -> Response:
    """Forget a version; its file stays."""
    found = containers.find(plane, caller, name, version)
    datasets.delete_version(plane, caller, name, found.version.version)
    return Response(status_code=204)


@router.post("/{name}/versions/{version}/startPendingUpload")
def start_upload(plane: Plane, caller: WritesData, request: Request, name: str, version: str) -> Wire:
    """Where to put the files of a version that is to come."""
    container, signature = containers.start(plane, caller, name, version)
    return {
        "blobReference": _blob_reference(request, container, signature),
        "pendingUploadId": container.id,
        "version": version,
        "pendingUploadType": "BlobReference",
    }


@router.patch("/{name}/versions/{version}")
def register(
    plane: Plane, caller: WritesData, request: Request, name: str, version: str, body: RegisterVersion
) -> JSONResponse:
    """Make a version of what was put there."""
    container_id, blob = _place(body.data_uri)
    found = containers.register(
        plane,
        caller,
        name,
        version,
        container_id=container_id,
        blob=blob,
        description=body.description or "",
    )
    return JSONResponse(_version(request, found), status_code=201)


@router.post("/{name}/versions/{version}/credentials")
def credentials(plane: Plane, caller: WritesData, request: Request, name: str, version: str) -> Wire:
    """A signed address under which a version's file can be read."""
    found = containers.find(plane, caller, name, version)
    if found.container is None:
        raise NotFound(
            f"The version '{version}' of '{name}' wasn't put into a container; read it as the file "
            f"{found.version.file_id}."
        )
    return {"blobReference": _blob_reference(request, found.container, containers.sign(plane, found.container))}


def _place(data_uri: str) -> tuple[str, str | None]:
    """Container and blob of an address below /blobs."""
    _, blobs, place = urlsplit(data_uri).path.partition("/blobs/")
    container, _, blob = place.partition("/")
    if not (blobs and container):
        raise InvalidRequest(
            f"dataUri is {data_uri!r}; it must be an address that startPendingUpload gave.",
            param="dataUri",
        )
    return container, unquote(blob) or None


def _blob_reference(request: Request, container: Record, signature: Signature) -> Wire:
    uri = f"{request.base_url}blobs/{container.id}"
    query = f"sv=2025-05-05&sr=c&sp=rcw&se={quote(signature.se)}&sig={signature.sig}"
    return {
        "blobUri": uri,
        "storageAccountArmId": "/subscriptions/default/resourceGroups/default/providers/Microsoft.Storage/"
        "storageAccounts/finery",
        "credential": {"sasUri": f"{uri}?{query}", "type": "SAS"},
    }


def _version(request: Request, found: LabelledVersion) -> Wire:
    """Its `id` is the file's: that is what jobs and evaluations take."""
    container = found.container
    if container is None:
        uri = f"{request.base_url}v1/files/{found.version.file_id}/content"
    else:
        uri = f"{request.base_url}blobs/{container.id}" + (f"/{blob}" if (blob := container.body["blob"]) else "")
    return {
        "id": found.version.file_id,
        "name": found.name,
        "version": found.label,
        "type": "uri_file",
        "dataUri": uri,
        "isReference": False,
        "connectionName": "workspaceblobstore",
    }
