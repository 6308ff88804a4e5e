"""The `api-version` that Azure's clients send. There is one version of Finery's API: any well-formed date is taken."""

import re
from typing import Annotated

from fastapi import Query

from finery.core.errors import InvalidRequest

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|v1|preview|latest")


def check(api_version: Annotated[str, Query(alias="api-version")] = "v1") -> None:
    """Refuse what is no version. One that is missing is passed over: asking for it comes before the key is looked at.

    Raises:
        InvalidRequest: something that isn't a version.
    """
    if not _VERSION.fullmatch(api_version):
        raise InvalidRequest(
            f"api-version is {api_version!r}; it is a date such as 2024-10-21, with or without -preview.",
            code="InvalidApiVersionParameter",
            param="api-version",
        )
