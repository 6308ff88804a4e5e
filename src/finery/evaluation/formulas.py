"""The formula of a multi grader, such as `0.7 * accuracy + 0.3 * min(style, 0.5)`. Numbers and names, nothing else.

The functions are OpenAI's: min, max, abs, floor, ceil, exp, sqrt, log. `^` is a power, as there.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from finery.core.errors import InvalidRequest

MAX_CHARACTERS = 2000

_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_OPERATORS: dict[type[Any], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class FormulaError(InvalidRequest):
    """A formula that can't be computed."""

    code = "formula_parse_error"


def compute(formula: str, values: Mapping[str, float]) -> float:
    """The formula's value.

    Raises:
        FormulaError: no formula, an unknown name, or no number comes of it.
    """
    try:
        result = float(_value(_parse(formula), values))
    except (ArithmeticError, ValueError, TypeError) as error:
        raise FormulaError(f"The formula {formula!r} can't be computed: {error}.") from None
    if not math.isfinite(result):
        raise FormulaError(f"The formula {formula!r} gives no finite number.")
    return result


def names_in(formula: str) -> set[str]:
    """Every name the formula uses that is no function.

    Raises:
        FormulaError: it is none.
    """
    return {node.id for node in ast.walk(_parse(formula)) if isinstance(node, ast.Name)} - set(_FUNCTIONS)


def _parse(formula: str) -> ast.expr:
    if len(formula) > MAX_CHARACTERS:
        raise FormulaError(f"The formula has {len(formula)} characters; at most {MAX_CHARACTERS} are read.")
    try:
        return ast.parse(formula.replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FormulaError(f"{formula!r} is no formula; write something like 0.5 * first + 0.5 * second.") from None


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id not in values:
            raise FormulaError(f"The formula names {node.id!r}; the graders are: {', '.join(values) or 'none'}.")
        return values[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand, values))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id)
        if function is not None:
            return function(*(_value(argument, values) for argument in node.args))
    raise FormulaError(f"A formula has numbers, names, + - * / ^ and {', '.join(_FUNCTIONS)}; nothing else.")
