"""Object stores on the network, by URL: S3 and what speaks as it does, Azure Blob. Knows how long to wait and what
their errors mean; knows no blobs.

Where the service is and whose keys open it is the environment's to say, under the names that AWS and Azure gave them:
`obstore` reads most, the rest is here. Nothing waits for ever: a service that stays silent for `seconds` is given up,
once more where asking again is harmless, and that is `Unavailable`, which callers may try again.
"""

import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from finery.core.errors import InvalidRequest, Unavailable

log = logging.getLogger(__name__)

KINDS = ("s3", "az")

_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_AZURE_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_AZURE_NAMES = {"AZURE_STORAGE_ACCOUNT": "account_name", "AZURE_STORAGE_KEY": "account_key"}
"""Names of Azure's command line that obstore doesn't read."""
_CONNECTION_STRING = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "BlobEndpoint": "endpoint",
    "SharedAccessSignature": "sas_key",
    "UseDevelopmentStorage": "use_emulator",
}

_CONNECT_SECONDS = 5.0
_TRICKLE = 6
"""A request that is never silent for long is given up after so many times the patience."""
_RETRIES = 4

_PLACES = {"s3": "bucket", "az": "container"}
_SET = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN too, where there is one)",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
}
_SERVICE = {
    "s3": "AWS_ENDPOINT_URL (none: AWS itself) and AWS_REGION",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ENDPOINT (none: Azure itself)",
}

_ABSENT = ("NoSuchBucket", "ContainerNotFound", "specified container does not exist")
_REFUSED = ("403 Forbidden", "401 Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_KEYLESS = (
    "Missing AccessKeyId",
    "Missing SecretAccessKey",
    "Account must be specified",
    "Invalid Access Key",
    # Without any key the client asks the cloud's machine for one.
    "token request",
    "/latest/api/token",
    "169.254.169.254",
)
_ELSEWHERE = ("PermanentRedirect", "redirect without LOCATION", "AuthorizationHeaderMalformed", "301 Moved")


def connect(url: str, seconds: float) -> ObjectStore:
    """The store at a URL; nothing is asked of it yet.

    Raises:
        InvalidRequest: no URL of a store that Finery has.
    """
    _require_plain(url)
    if not seconds > 0:
        raise InvalidRequest(f"FINERY_BLOB_SECONDS is {seconds}; it must be more than 0.")
    # Any: obstore's types know each store's own settings, we take what the URL says.
    config: Any
    config, endpoint = _azure() if url.startswith("az:") else ({}, _first_of(_S3_ENDPOINTS))
    client: Any = {
        "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, seconds)),
        "read_timeout": timedelta(seconds=seconds),
        "timeout": timedelta(seconds=seconds * _TRICKLE),
    }
    if endpoint.startswith("http://"):
        # Whoever wrote that address wants no TLS; a word more wouldn't make it safer.
        client["allow_http"] = True
    retry: Any = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=1.5 * seconds),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    try:
        store: ObjectStore = from_url(url, config=config or None, client_options=client, retry_config=retry)
    except (BaseError, ValueError) as error:
        if _is(error, _KEYLESS):
            raise InvalidRequest(_advice(error, url, with_reason=True)) from error
        raise InvalidRequest(_no_store(url, _reason(error))) from error
    return store


def probe(store: ObjectStore, place: str) -> None:
    """List, write, read and delete, which is all that Finery needs to be allowed.

    Raises:
        Unavailable: one of them isn't possible; what the store says of it, and what to do.
    """
    key = f"probe/{uuid.uuid4().hex}"
    with said_plainly(place, with_reason=True):
        next(iter(obstore.list(store, prefix="probe")), None)
        obstore.put(store, key, key.encode(), use_multipart=False)
        found = bytes(obstore.get(store, key).bytes())
        with suppress(FileNotFoundError):
            obstore.delete(store, key)
    if found != key.encode():
        raise Unavailable(
            f"The object store {place} gave back other bytes than it was given. What is between it and Finery?",
            code="store_unavailable",
        )


@contextmanager
def said_plainly(place: str, *, with_reason: bool = False) -> Iterator[None]:
    """What a store's client says, in our words; its own too `with_reason`, where the operator reads it.

    That an object isn't there passes as `FileNotFoundError`; that its bucket isn't doesn't.

    Raises:
        Unavailable: the store doesn't answer, or refuses.
    """
    try:
        yield
    except FileNotFoundError as error:
        if not _is(error, _ABSENT):
            raise
        raise Unavailable(_advice(error, place, with_reason), code="store_unavailable") from error
    except BaseError as error:
        log.warning("the object store %s: %s", place, _reason(error))
        raise Unavailable(_advice(error, place, with_reason), code="store_unavailable") from error


def _require_plain(url: str) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidRequest(
            "FINERY_BLOB_URL holds more than a place. Keys belong into the environment, as "
            f"{_SET['s3']}; or {_SET['az']}."
        )
    if parts.scheme not in KINDS or not parts.netloc:
        raise InvalidRequest(_no_store(url, "another kind of address"))
    if {".", ".."} & set(parts.path.split("/")):
        raise InvalidRequest(_no_store(url, "a way up in it"))


def _azure() -> tuple[dict[str, str], str]:
    """What obstore doesn't read itself, and where the service is."""
    config = {key: os.environ[name] for name, key in _AZURE_NAMES.items() if os.environ.get(name)}
    for part in os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"):
        name, _, value = part.partition("=")
        if name in _CONNECTION_STRING:
            config[_CONNECTION_STRING[name]] = value
    endpoint = config.get("endpoint") or _first_of(_AZURE_ENDPOINTS)
    emulated = config.get("use_emulator") or os.environ.get("AZURE_STORAGE_USE_EMULATOR", "")
    if emulated.lower() in ("true", "1"):
        # The emulator speaks no TLS, unless it is told to.
        endpoint = endpoint or os.environ.get("AZURITE_BLOB_STORAGE_URL", "http://")
    return config, endpoint


def _first_of(names: tuple[str, ...]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _advice(error: Exception, place: str, with_reason: bool) -> str:
    """What is wrong and what to do about it."""
    kind = "az" if place.startswith("az:") else "s3"
    name = urlsplit(place).netloc
    reason = f" It said: {_reason(error)}" if with_reason else ""
    if _is(error, _ABSENT):
        return (
            f"FINERY_BLOB_URL is {place}, but there is no {_PLACES[kind]} {name!r}. Make it (Finery makes none), or "
            f"correct the name, or {_SERVICE[kind]}." + reason
        )
    if _is(error, _KEYLESS):
        return f"The object store {place} can't be asked without a key that is one. Set {_SET[kind]}." + reason
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or _is(error, _REFUSED):
        return (
            f"The object store {place} refuses Finery's key. Look at {_SET[kind]}; the key must be allowed to list, "
            f"read, write and delete below {place}." + reason
        )
    if _is(error, _ELSEWHERE):
        return f"The {_PLACES[kind]} {name!r} is in another region. Set AWS_REGION to it." + reason
    return (
        f"The object store {place} doesn't answer. Look whether it runs and FINERY_BLOB_URL leads to it, with "
        f"{_SERVICE[kind]}." + reason
    )


def _no_store(url: str, reason: str) -> str:
    return (
        f"FINERY_BLOB_URL is {url!r}, which is no object store ({reason}). It may be file:///folder, "
        "s3://bucket/prefix or az://container/prefix."
    )


def _is(error: Exception, signs: tuple[str, ...]) -> bool:
    text = str(error)
    return any(sign in text for sign in signs)


def _reason(error: Exception) -> str:
    """The first line of what a library says, without the signatures that addresses may carry."""
    return re.sub(r"\?\S*", "", str(error).splitlines()[0])[:300] if str(error) else type(error).__name__
