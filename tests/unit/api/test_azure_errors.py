"""Faults in Azure's words."""

import pytest

from finery.api.azure import errors
from finery.api.errors import Fault

FILES, JOBS, CHAT = "/openai/files", "/openai/fine_tuning/jobs", "/openai/deployments/d/chat/completions"
ARM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a/deployments/d"


def fault(status: int, code: str, param: str | None = None) -> Fault:
    return Fault(status=status, type="invalid_request_error", code=code, message="This can't be.", param=param)


@pytest.mark.parametrize(
    ("path", "given", "status", "code"),
    [
        (FILES, fault(401, "invalid_api_key"), 401, "401"),
        (FILES, fault(404, "not_found"), 404, "notFound"),
        (FILES, fault(409, "conflict"), 409, "conflict"),
        (FILES, fault(429, "rate_limit_exceeded"), 429, "429"),
        (FILES, fault(500, "internal_error"), 500, "internalFailure"),
        (JOBS, fault(400, "invalid_training_file"), 400, "jsonlValidationFailed"),
        (JOBS, fault(404, "model_not_found"), 400, "invalidPayload"),
        ("/openai/models/m", fault(404, "model_not_found"), 404, "notFound"),
        (CHAT, fault(404, "model_not_found"), 404, "DeploymentNotFound"),
        (CHAT, fault(400, "context_length_exceeded"), 400, "context_length_exceeded"),
        (ARM, fault(404, "DeploymentNotFound"), 404, "ResourceNotFound"),
        (ARM, fault(404, "model_not_found"), 400, "DeploymentModelNotSupported"),
        (ARM, fault(401, "invalid_api_key"), 401, "AuthenticationFailed"),
        (ARM, fault(500, "internal_error"), 500, "InternalServerError"),
        (ARM.lower(), fault(409, "conflict"), 409, "Conflict"),
    ],
)
def test_status_and_code(path: str, given: Fault, status: int, code: str) -> None:
    dialect = errors.dialect_of(path)
    assert dialect is not None
    found, body = dialect(path, given)
    assert (found, body["error"]["code"]) == (status, code)
    assert given.message in body["error"]["message"]


def test_the_object_serves_both_families_of_clients() -> None:
    _, body = errors.data_plane(FILES, fault(400, "invalid_type", param="purpose"))
    error = body["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert (error["target"], error["innererror"]) == ("purpose", {"code": "invalid_type"})


@pytest.mark.parametrize("path", ["/v1/files", "/finery/v1/deployments", "/worker/v1/claim", "/openai", "/healthz"])
def test_other_paths_are_not_azures(path: str) -> None:
    assert errors.dialect_of(path) is None
