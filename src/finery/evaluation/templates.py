"""`{{ item.x }}` and `{{ sample.output_text }}` in graders and prompts, as OpenAI's evals have them.

A variable is a path of names and places (`sample.choices[0].message.content`); nothing is computed, so nothing can be
run. It does not know what `item` and `sample` hold.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from finery.core.errors import InvalidRequest

_VARIABLE = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_PATH = re.compile(r"""[A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[\d+\]|\[(?:"[^"\]]*"|'[^'\]]*')\])*""")
_STEP = re.compile(r"""([A-Za-z_]\w*)|\[(\d+)\]|\["([^"\]]*)"\]|\['([^'\]]*)'\]""")


class UnknownVariable(InvalidRequest):
    """A template names something that isn't there."""

    code = "invalid_variable"


def render(text: str, names: Mapping[str, Any]) -> str:
    """The text with every variable replaced; what is no text comes as JSON.

    Raises:
        UnknownVariable: a path that isn't there, or that is none.
    """
    return _VARIABLE.sub(lambda match: _as_text(resolve(match[1], names)), text)


def resolve(path: str, names: Mapping[str, Any]) -> Any:
    """What a path such as `item.label` leads to.

    Raises:
        UnknownVariable: it leads nowhere.
    """
    if not _PATH.fullmatch(path):
        raise UnknownVariable(f"{{{{ {path} }}}} is no variable; write {{{{ item.name }}}} or {{{{ sample.name }}}}.")
    value: Any = names
    for name, place, *quoted in _STEP.findall(path):
        try:
            value = value[int(place)] if place else value[name or quoted[0] or quoted[1]]
        except (KeyError, IndexError, TypeError):
            there = ", ".join(map(str, value)) if isinstance(value, Mapping) else "nothing with names"
            raise UnknownVariable(f"{{{{ {path} }}}} is not there: at {name or place!r} there is {there}.") from None
    return value


def variables(text: str) -> list[str]:
    """The paths that a template names, in order."""
    return [str(path) for path in _VARIABLE.findall(text)]


def check(text: str, roots: frozenset[str] = frozenset({"item", "sample"})) -> None:
    """Refuse a template that could never be rendered.

    Raises:
        UnknownVariable: a variable that is no path, or begins with a name there never is.
    """
    for path in variables(text):
        root = re.split(r"[.\[]", path)[0]
        if not _PATH.fullmatch(path) or root not in roots:
            raise UnknownVariable(f"{{{{ {path} }}}} is no variable; one begins with {' or '.join(sorted(roots))}.")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
