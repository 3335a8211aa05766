"""A formula as a graph: ``tan(sqrt(theta * v0)) + sin(v0**2)`` becomes one vertex per operation.

The text is parsed by Python's own parser and never evaluated; only the syntax listed here is taken.
"""

from __future__ import annotations

import ast
import math
import re
from typing import TYPE_CHECKING, Any, cast

from pcsim.errors import InputError, Problem, nearest, wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Vertices = dict[str, dict[str, Any]]

Finding = tuple[ast.expr, str]

MAX_LENGTH = 10_000
MAX_DEPTH = 100
FUNCTIONS = {
    **dict.fromkeys(("sqrt", "square", "exp", "log", "sin", "cos", "tan", "tanh", "sigmoid", "relu"), 1),
    **dict.fromkeys(("leaky_relu", "softplus", "gelu", "silu", "identity", "negate"), 1),
    **dict.fromkeys(("softmax", "sum", "mean"), 1),
    "matmul": 2,
}
"""What a formula may call, and with how many arguments."""

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.MatMult: "matmul",
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}
_ALLOWED = "a formula has names, numbers, + - * / ** @, parentheses and calls such as sin(x)"
# A number with letters stuck to it ("2x", "0x10", "1or"): Python's parser would only warn of some.
_GLUED = re.compile(r"(?<![\w.])(?:\d[\d_.]*+|\.\d[\d_]*+)(?:e[-+]?\d+)?+[^\W\d]", re.IGNORECASE)

_STRAY = re.compile(r"[\"'\\#]")


def vertices_of_formula(formula: str, parameters: Collection[str], prefix: str = "v") -> tuple[Vertices, str]:
    """Return the vertices of a formula, as a graph document writes them, and the name of its output.

    Names become ``op: input`` vertices, or ``op: parameter`` when in ``parameters``; operations are
    named ``v1``, ``v2``, ... in the order of evaluation, skipping the formula's own names. Equal
    subexpressions appear once. Numbers combined with numbers are worked out.

    Raises
    ------
    InputError
        With every problem found, each naming its column.

    References
    ----------
    Millidge et al., "Predictive coding approximates backprop along arbitrary computation graphs",
    2022, Figure 2.

    >>> vertices_of_formula("sin(a * v1)", {"a"})[0]["v3"]
    {'op': 'sin', 'inputs': ['v2']}
    """
    tree = _parse(formula)
    if problems := list(_problems(tree, 0)):
        raise InputError([_problem(formula, node, message) for node, message in problems])
    builder = _Builder(formula, parameters, prefix, tree)
    return builder.vertices, builder.output(tree)


def _parse(formula: str) -> ast.expr:
    if not formula.strip():
        raise wrong("formula", f"is empty; {_ALLOWED}")
    if len(formula) > MAX_LENGTH:
        raise wrong("formula", f"longer than {MAX_LENGTH} characters; write vertices instead")
    if stray := _STRAY.search(formula):
        raise _wrong_at(stray.start(), f"character {stray[0]} is not allowed; {_ALLOWED}")
    if glued := _GLUED.search(formula):
        raise _wrong_at(glued.start(), f"a number is followed by a letter, {glued[0]!r}; write 2 * x for a product")
    try:
        return ast.parse(_one_line(formula), mode="eval").body
    except SyntaxError as error:
        raise _syntax_error(formula, error) from None
    except (ValueError, RecursionError, MemoryError):
        raise wrong("formula", f"not readable, or nested deeper than {MAX_DEPTH}; {_ALLOWED}") from None


def _one_line(formula: str) -> str:
    return re.sub(r"\s", " ", formula).lstrip()


def _syntax_error(formula: str, error: SyntaxError) -> InputError:
    indent = len(formula) - len(formula.lstrip())
    # Python gives offset 0 where the text ends too early.
    column = (error.offset or len(formula) - indent + 1) - 1
    return _wrong_at(column + indent, f"not a formula: {error.msg}; {_ALLOWED}")


def _wrong_at(column: int, message: str) -> InputError:
    return wrong("formula", f"column {column + 1}: {message}")


def _column(formula: str, node: ast.expr) -> int:
    # ast counts UTF-8 bytes.
    line = _one_line(formula)
    before = line.encode()[: node.col_offset].decode()
    return len(formula) - len(formula.lstrip()) + len(before)


def _problem(formula: str, node: ast.expr, message: str) -> Problem:
    return _wrong_at(_column(formula, node), message).problems[0]


def _problems(node: ast.expr, depth: int) -> Iterator[Finding]:
    """Yield what is not allowed in an expression, in order of reading."""
    if depth > MAX_DEPTH:
        yield node, f"nested deeper than {MAX_DEPTH}; write vertices instead"
    elif isinstance(node, ast.BinOp):
        yield from _operator_problems(node, depth)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        yield from _problems(node.operand, depth + 1)
    elif isinstance(node, ast.Call):
        yield from _call_problems(node, depth)
    else:
        yield from _leaf_problems(node)


def _operator_problems(node: ast.BinOp, depth: int) -> Iterator[Finding]:
    yield from _problems(node.left, depth + 1)
    if type(node.op) not in _BINARY:
        yield node, f"operator {type(node.op).__name__} is not allowed; {_ALLOWED}"
    yield from _problems(node.right, depth + 1)


def _call_problems(node: ast.Call, depth: int) -> Iterator[Finding]:
    if not isinstance(node.func, ast.Name):
        yield node.func, f"only ops can be called; {_ALLOWED}"
        return
    name, given = node.func.id, len(node.args)
    if name not in FUNCTIONS:
        yield node, f"unknown op {name!r}{nearest(name, FUNCTIONS, 'pcsim list ops')}"
    elif node.keywords or given != FUNCTIONS[name]:
        yield node, f"{name} takes {FUNCTIONS[name]} unnamed argument(s), got {given + len(node.keywords)}"
    for argument in node.args:
        yield from _problems(argument, depth + 1)


def _leaf_problems(node: ast.expr) -> Iterator[Finding]:
    if isinstance(node, ast.Name):
        if node.id in FUNCTIONS:
            yield node, f"{node.id!r} is an op; call it, {node.id}(x), or choose another name"
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if not _is_finite(cast("float", node.value)):
            yield node, "the number is too large"
    else:
        kind = type(node.value if isinstance(node, ast.Constant) else node).__name__
        yield node, f"{kind} is not allowed; {_ALLOWED}"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


class _Builder:
    """Collects vertices, giving equal operations one name."""

    def __init__(self, formula: str, parameters: Collection[str], prefix: str, tree: ast.expr) -> None:
        self.formula = formula
        self.parameters = parameters
        self.prefix = prefix
        self.taken = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        self.number = 0
        self.vertices: Vertices = {}
        self.names: dict[tuple[Any, ...], str] = {}

    def output(self, tree: ast.expr) -> str:
        """Return the name of the whole; a lone name gets a vertex of its own."""
        name = self.name(tree)
        return self.vertex("identity", [name]) if name in self.taken else name

    def name(self, node: ast.expr) -> str:
        """Return the name of the vertex that computes an expression."""
        if (number := self.constant(node)) is not None:
            return self.vertex("constant", [], value=number)
        if isinstance(node, ast.Name):
            return self.leaf(node.id)
        if isinstance(node, ast.Call):
            return self.vertex(cast("ast.Name", node.func).id, [self.name(a) for a in node.args])
        if isinstance(node, ast.BinOp):
            return self.binary(node)
        return self.sign(cast("ast.UnaryOp", node))

    def sign(self, node: ast.UnaryOp) -> str:
        inner = self.name(node.operand)
        return self.vertex("negate", [inner]) if isinstance(node.op, ast.USub) else inner

    def binary(self, node: ast.BinOp) -> str:
        exponent = self.constant(node.right) if isinstance(node.op, ast.Pow) else None
        if exponent == 2:
            return self.vertex("square", [self.name(node.left)])
        if exponent is not None:
            return self.vertex("power", [self.name(node.left)], exponent=exponent)
        return self.vertex(_BINARY[type(node.op)], [self.name(node.left), self.name(node.right)])

    def leaf(self, name: str) -> str:
        entry = {"op": "parameter"} if name in self.parameters else {"op": "input", "shape": []}
        self.vertices.setdefault(name, entry)
        return name

    def vertex(self, op: str, inputs: list[str], **attributes: float) -> str:
        """Return the name of the vertex of an operation, making it when it is new."""
        key = (op, *inputs, *attributes.items())
        if key not in self.names:
            self.names[key] = name = self.fresh()
            self.vertices[name] = {"op": op, **attributes, **({"inputs": inputs} if inputs else {})}
        return self.names[key]

    def fresh(self) -> str:
        self.number += 1
        name = f"{self.prefix}{self.number}"
        return self.fresh() if name in self.taken else name

    def constant(self, node: ast.expr) -> float | None:
        """Return the number that an expression of numbers alone stands for, else None."""
        if isinstance(node, ast.Constant):
            return cast("float", node.value)
        if isinstance(node, ast.UnaryOp):
            inner = self.constant(node.operand)
            return inner if inner is None or isinstance(node.op, ast.UAdd) else -inner
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = self.constant(node.left), self.constant(node.right)
            return None if left is None or right is None else self.worked_out(node, left, right)
        return None

    def worked_out(self, node: ast.BinOp, left: float, right: float) -> float:
        try:
            # In floats: whole-number powers could grow without bound.
            result = _ARITHMETIC[type(node.op)](float(left), float(right))
        except ArithmeticError as error:
            raise _wrong_at(_column(self.formula, node), f"numbers cannot be worked out: {error}") from None
        if isinstance(result, complex) or not math.isfinite(result):
            raise _wrong_at(_column(self.formula, node), f"numbers cannot be worked out: they give {result}")
        return float(result)
