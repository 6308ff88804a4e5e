"""Identifiers and model names. Knows no storage; ids are random, so that they can't be guessed or counted."""

import re
import secrets
import string

from finery.core.errors import InvalidRequest

_ALPHABET = string.ascii_letters + string.digits
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CHECKPOINT = re.compile(r"(?P<model>.+):ckpt-step-(?P<step>\d+)")


def new_id(prefix: str) -> str:
    """A fresh identifier such as `file-…`, with 24 random letters and digits (142 bits)."""
    return prefix + _random(24)


def model_name(base_model: str, project: str, suffix: str | None) -> str:
    """The name of a new tuned model: `ft:<base>:<project>:<suffix>:<id>`, the suffix empty where none was given."""
    return f"ft:{base_model}:{project}:{suffix or ''}:{_random(8)}"


def checkpoint_name(model: str, step: int) -> str:
    """The name under which a job's checkpoint can be deployed."""
    return f"{model}:ckpt-step-{step}"


def split_checkpoint_name(name: str) -> tuple[str, int] | None:
    """Model and step of a checkpoint's name, or None where the name isn't one."""
    match = _CHECKPOINT.fullmatch(name)
    return (match["model"], int(match["step"])) if match else None


def check_suffix(suffix: str | None) -> str | None:
    """Refuse a suffix that couldn't stand in a model name.

    Raises:
        InvalidRequest: not 1 to 64 letters, digits, dots, dashes or underscores.
    """
    if suffix is None or _SUFFIX.fullmatch(suffix):
        return suffix
    raise InvalidRequest(
        f"The suffix {suffix!r} can't be part of a model name: use 1 to 64 letters, digits, '.', '_' or '-'.",
        param="suffix",
    )


def check_name(name: str, *, what: str, param: str = "name") -> str:
    """Refuse a name that couldn't stand in an address.

    Raises:
        InvalidRequest: not 1 to 64 letters, digits, dots, dashes or underscores, beginning with a letter or digit.
    """
    if _NAME.fullmatch(name):
        return name
    raise InvalidRequest(
        f"{name!r} can't be the name of {what}: use 1 to 64 letters, digits, '.', '_' or '-', "
        "beginning with a letter or a digit.",
        param=param,
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
