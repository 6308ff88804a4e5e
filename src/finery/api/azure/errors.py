"""Finery's errors in Azure's words: the same faults, with Azure's codes, statuses and error object.

The object holds OpenAI's four keys as well: the OpenAI SDK speaks to these paths too. Shapes and codes: Azure OpenAI's
authoring specification of 2024-10-21. Knows no HTTP.
"""

from typing import Any

from pydantic import BaseModel

from finery.api import errors
from finery.api.errors import Dialect, Fault


class ResourceError(BaseModel):
    """What went wrong; the words of Azure Resource Manager."""

    code: str
    message: str
    target: str | None


class ResourceErrorEnvelope(BaseModel):
    """The body of its answers with a status of 400 or more."""

    error: ResourceError


DOCUMENTED = errors.documented(ResourceErrorEnvelope)
"""Answers that any of its routes may give."""

_BY_CODE = {
    "AuthenticationFailed": "AuthenticationFailed",
    "BlobAlreadyExists": "BlobAlreadyExists",
    "BlobNotFound": "BlobNotFound",
    "ContainerNotFound": "ContainerNotFound",
    "InvalidApiVersionParameter": "InvalidApiVersionParameter",
    "DeploymentNotFound": "DeploymentNotFound",
    "content_filter": "content_filter",
    "context_length_exceeded": "context_length_exceeded",
    "invalid_job_state": "unexpectedEntityState",
    "invalid_training_file": "jsonlValidationFailed",
}

_BY_STATUS = {
    400: "invalidPayload",
    401: "401",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    413: "invalidPayload",
    429: "429",
    503: "serviceUnavailable",
    507: "quotaExceeded",
}


_DATA_PLANE = ("/openai/", "/chat/", "/embeddings", "/info", "/models/", "/api/projects/", "/blobs/")


_ARM_CODES = {
    "DeploymentNotFound": "ResourceNotFound",
    "InvalidApiVersionParameter": "InvalidApiVersionParameter",
    "model_not_found": "DeploymentModelNotSupported",
}

_ARM_STATUSES = {
    400: "InvalidRequestContent",
    401: "AuthenticationFailed",
    403: "AuthorizationFailed",
    404: "ResourceNotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}


def dialect_of(path: str) -> Dialect | None:
    """How Azure speaks at a path; None where the path isn't one of Azure's."""
    if path.lower().startswith(("/subscriptions/", "/providers/")):
        return resource_manager
    return data_plane if path.startswith(_DATA_PLANE) else None


def data_plane(path: str, fault: Fault) -> tuple[int, dict[str, Any]]:
    """Azure OpenAI's own error object."""
    status, code, message = fault.status, None, fault.message
    if fault.code == "model_not_found":
        status, code, message = _unknown_model(path, fault)
    code = code or _BY_CODE.get(fault.code or "") or _BY_STATUS.get(status, "internalFailure")
    error: dict[str, Any] = {"code": code, "message": message, "type": fault.type, "param": fault.param}
    if fault.param:
        error["target"] = fault.param
    if fault.code and fault.code != code:
        error["innererror"] = {"code": fault.code}
    if fault.inner:
        error |= {"type": None, "status": status, "innererror": fault.inner}
    return status, {"error": error}


def resource_manager(path: str, fault: Fault) -> tuple[int, dict[str, Any]]:
    """The error object of Azure Resource Manager."""
    code = _ARM_CODES.get(fault.code or "") or _ARM_STATUSES.get(fault.status, "InternalServerError")
    status = 400 if fault.code == "model_not_found" else fault.status
    error: dict[str, Any] = {"code": code, "message": fault.message, "target": fault.param, "details": []}
    return status, {"error": error}


def _unknown_model(path: str, fault: Fault) -> tuple[int, str, str]:
    """What Azure calls a name that nothing answers to depends on what was asked of it."""
    if "/fine_tuning/" in path:
        return 400, "invalidPayload", fault.message
    if "/models" in path:
        return 404, "notFound", fault.message
    return 404, "DeploymentNotFound", f"The API deployment for this resource does not exist. {fault.message}"
