"""Every error Finery raises on purpose, as one tree; it does not know HTTP (`api/errors.py` maps classes to statuses).

    FineryError
    ├── InvalidRequest        what the caller sent can't be done as sent
    │   ├── UnknownModel      no model of that name for this caller
    │   └── ContextOverflow   prompt and answer don't fit the model's context
    ├── Unauthenticated       no key, or one that isn't ours
    ├── Forbidden             the key is ours, the right is missing
    ├── NotFound              no such thing for this caller (absent and foreign look the same)
    ├── Conflict              the thing's state forbids it; a retry can't help
    │   └── Fenced            a worker wrote with a lease that is no longer its own
    ├── TooLarge              over a size limit
    ├── RateLimited           try again later
    │   ├── OverBudget        nothing is left to spend; a retry can't help
    │   └── OverQuota         the project has as much as it may
    ├── ContentFiltered       a policy blocked it
    ├── StorageFull           no space left where Finery keeps its data
    ├── CorruptArtifact       a file on disk isn't what its manifest says
    ├── NotOffered            part of OpenAI's API that this server hasn't
    └── Unavailable           a part we need (inference server, hub) isn't there now

A message names the thing, the value and the way out. `code` is for programs, `param` is the request field at fault.
"""

from collections.abc import Mapping
from typing import Any


class FineryError(Exception):
    """Base of all; `message` is shown to people, `code` to programs."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param


class InvalidRequest(FineryError):
    """What the caller sent can't be done as sent."""

    code = "invalid_request"


class BlobsMissing(InvalidRequest):
    """Bytes that are to be named aren't stored (any more); whoever has them sends them again."""

    code = "blobs_missing"


class UnknownModel(InvalidRequest):
    """No model of that name for this caller."""

    code = "model_not_found"


class ContextOverflow(InvalidRequest):
    """Prompt and answer don't fit the model's context."""

    code = "context_length_exceeded"


class Unauthenticated(FineryError):
    """No key, or one that isn't ours."""

    code = "invalid_api_key"


class Forbidden(FineryError):
    """The key is ours, the right is missing."""

    code = "forbidden"


class NotFound(FineryError):
    """No such thing for this caller; absent and foreign look the same."""

    code = "not_found"


class Conflict(FineryError):
    """The thing's state forbids it; a retry can't help."""

    code = "conflict"


class Fenced(Conflict):
    """A worker wrote with a lease that is no longer its own; it must stop."""

    code = "lease_lost"


class TooLarge(FineryError):
    """Over a size limit."""

    code = "too_large"


class RateLimited(FineryError):
    """Try again later, best after `retry_after_seconds`."""

    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, retry_after_seconds: float = 2.0
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.retry_after_seconds = retry_after_seconds


class OverBudget(RateLimited):
    """The project's budget has nothing left; a retry can't help before somebody raises it."""

    code = "insufficient_quota"


class OverQuota(RateLimited):
    """The project has as much as it may; a retry can't help before something is deleted or the quota raised."""

    code = "quota_exceeded"


class ContentFiltered(FineryError):
    """A policy blocked it; `results` are the filters that did, as Azure's `content_filter_result`."""

    code = "content_filter"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.results = dict(results or {})


class StorageFull(FineryError):
    """No space left where Finery keeps its data."""

    code = "storage_full"


class CorruptArtifact(FineryError):
    """A file on disk isn't what its manifest says."""

    code = "corrupt_artifact"


class NotOffered(FineryError):
    """Part of OpenAI's API that this server hasn't."""

    code = "not_offered"


class Unavailable(FineryError):
    """A part we need (inference server, model hub) isn't there now."""

    code = "unavailable"
