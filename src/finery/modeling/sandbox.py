"""Jinja for chat templates that strangers wrote: nothing runs but text work, and that within a budget.

On top of Jinja's immutable sandbox (no private attributes, no change of values) a template gets only the filters,
methods and globals that chat templates use, and each rendering has a budget of steps, text and time, so that a template
bomb ends as an error. It does not know messages or tokens; `template` does.

The dialect is the one Hugging Face templates are written in (trim_blocks, lstrip_blocks, loop controls, `generation`
blocks, `raise_exception`, `tojson` without HTML escapes). `strftime_now` is left undefined on purpose: a prompt with
today's date in it would differ between training and serving; templates fall back to a date of their own.
"""

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, cast

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_STEPS = 200_000
"""Loop turns, calls and operations of one rendering."""
MAX_TEXT_CHARACTERS = 4 << 20
"""Longest text a template may build, and most that it may put out."""
MAX_SECONDS = 2.0
"""The last resort, for work that steps don't measure; a rendering takes well under a millisecond."""
MAX_TEMPLATE_CHARACTERS = 1 << 20

_FILTERS = frozenset(
    """
    abs capitalize count d default dictsort e escape first float int items last length list lower map max min reject
    rejectattr reverse round safe select selectattr sort string title trim unique upper
    """.split()  # noqa: SIM905
)
_METHODS = frozenset(
    """
    capitalize count endswith find get index isdigit isspace items join keys lower lstrip removeprefix removesuffix
    replace rfind rsplit rstrip split splitlines startswith strip title upper values
    """.split()  # noqa: SIM905
)
_TEMPLATE_FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
_LARGEST_NUMBER = 1 << 63
_PART = 8
"""What an element of a list costs of the budget for characters."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment in which every chat template is compiled and rendered."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # constants are folded outside of any budget
            finalize=_built,
            extensions=[GenerationBlock, loopcontrols],
        )
        self.filters = {name: _measured(f) for name, f in self.filters.items() if name in _FILTERS}
        own = {"indent": _indent, "join": _join, "replace": _replace, "tojson": _tojson}
        self.filters |= own | {"finery_counted": _counted, "finery_concat": _concat, "finery_built": _built}
        self.globals = {"dict": _dict, "namespace": _namespace, "range": _range, "raise_exception": _raise_exception}

    def render_text(self, template: Template, variables: dict[str, Any]) -> str:
        """Render within a fresh budget; TemplateError if the template fails, its SecurityError past the budget."""
        token = _budget.set(_Budget())
        try:
            pieces: list[str] = []
            written = 0
            for piece in template.generate(variables):
                written += len(piece)
                if written > MAX_TEXT_CHARACTERS:
                    raise SecurityError(f"the template puts out more than {MAX_TEXT_CHARACTERS} characters")
                pieces.append(piece)
            return "".join(pieces)
        except _TEMPLATE_FAULTS as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error
        finally:
            _budget.reset(token)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise SecurityError(f"a template of {len(source)} characters is no chat template")
        tree: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """One calculation or text operation, refused before it would build too much."""
        budget = _budget.get()
        if operator == "+" and type(left) is str and type(right) is str:
            # Most of what a chat template does.
            budget.step(len(left) + len(right))
            return left + right
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if numbers and operator != "**":
            if abs(left) > _LARGEST_NUMBER or abs(right) > _LARGEST_NUMBER:
                raise SecurityError("the template calculates with numbers beyond 64 bits")
            budget.step()
        elif operator == "+":
            budget.step(_measure(left) + _measure(right))
        elif operator == "*":
            text, times = (right, left) if isinstance(left, int) else (left, right)
            budget.step(_measure(text) * max(int(times), 0))
        else:
            raise SecurityError(f"{operator} is not for chat templates")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:
        """No `str.format`: a width in it builds any length of text."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Methods of text, numbers, lists and mappings come from a short list; the rest is as Jinja says."""
        plain = isinstance(obj, str | bytes | int | float | list | tuple | dict)
        if plain and callable(value) and attr not in _METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """One call, counted; what amplifies text is measured first."""
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        size = _measure([args, kwargs])
        if isinstance(owner, str):
            size += len(owner)
            if name == "replace" and len(args) >= 2:
                size += _replaced_size(owner, str(args[0]), str(args[1]))
            elif name == "join" and args:
                args = (list(_counted(args[0])),)
                size += _measure(args[0]) + len(owner) * len(args[0])
        _budget.get().step(size)
        return super().call(context, obj, *args, **kwargs)


class GenerationBlock(Extension):
    """`{% generation %}`: marks what an assistant says. It renders its body; what is trained is found by `template`."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's body, as if the tags were not there."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Budget:
    """What one rendering may still do."""

    __slots__ = ("characters", "deadline", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.characters = 8 * MAX_TEXT_CHARACTERS
        self.deadline = time.monotonic() + MAX_SECONDS

    def step(self, size: int = 0) -> None:
        self.steps -= 1
        self.characters -= size
        if self.steps < 0 or self.characters < 0 or size > MAX_TEXT_CHARACTERS or time.monotonic() > self.deadline:
            raise SecurityError("the template does more than a chat template may (steps, text or time)")


_budget: ContextVar[_Budget] = ContextVar("template_budget")


class _Counting(NodeTransformer):
    """Rewrites a template so that loops, `~` and the building of lists and mappings go through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filter(cast(nodes.Expr, node.iter), "finery_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "finery_concat")

    def visit_List(self, node: nodes.List) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "finery_built")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "finery_built")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "finery_built") if node.ctx == "load" else node


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    budget = _budget.get()
    for value in values:
        budget.step()
        yield value


def _concat(parts: list[Any]) -> str:
    _budget.get().step(_measure(parts))
    return "".join(map(str, parts))


def _built(value: Any) -> Any:
    """Lists of lists of ... double with each step: what is built or put out is measured in depth."""
    if not isinstance(value, str):
        _budget.get().step(_measure(value))
    return value


def _measured(function: Callable[..., Any]) -> Callable[..., Any]:
    """One of Jinja's own filters, its input counted (the value comes second where the filter wants the environment)."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _budget.get().step(_measure(args[at]))
        return function(*args, **kwargs)

    return counted


# Functions rather than the classes themselves, whose attributes would be at hand.
def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _namespace(*args: Any, **kwargs: Any) -> Namespace:
    return Namespace(*args, **kwargs)


def _range(*bounds: int) -> range:
    result = range(*bounds)
    if len(result) > 10_000:
        raise SecurityError("range() is longer than 10,000")
    return result


def _join(values: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    parts = [v if attribute is None else v[attribute] for v in _counted(values)]
    _budget.get().step(_measure(parts) + len(d) * len(parts))
    return str(d).join(map(str, parts))


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    _budget.get().step(_replaced_size(str(text), str(old), str(new)))
    return str(text).replace(str(old), str(new), count)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    pad = width if isinstance(width, str) else " " * min(width, 100)
    lines = f"{text}\n".splitlines()
    _budget.get().step(sum(map(len, lines)) + len(lines) * (1 + len(pad)))
    return "\n".join(pad + line if (i or first) and (line or blank) else line for i, line in enumerate(lines))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    _budget.get().step(_measure(value))
    spaces = None if indent is None else min(indent, 16)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=spaces, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(str(message))


def _replaced_size(text: str, old: str, new: str) -> int:
    return len(text) + (text.count(old) if old else len(text) + 1) * len(new)


def _measure(value: Any) -> int:
    """Characters and parts of a value, in depth; more than MAX_TEXT_CHARACTERS is not counted to its end."""
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            total += 2 * _PART * len(item)
            stack.extend(item.values())
            stack.extend(item.keys())
        elif isinstance(item, list | tuple):
            total += _PART * len(item)
            stack.extend(item)
        elif isinstance(item, Namespace):
            total += _PART
            stack.append(object.__getattribute__(item, "_Namespace__attrs"))
        else:
            total += 1
        if total > MAX_TEXT_CHARACTERS:
            break
    return total
