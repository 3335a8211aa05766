"""From what a document says of a vertex to the call that its op understands."""

from __future__ import annotations

from math import prod
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.ops.attributes import MAX_ELEMENTS, MAX_RANK
from pcsim.ops.op import Call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pcsim.arrays import Shape
    from pcsim.ops.op import Op

Attributes = tuple[tuple[str, Any], ...]


def complete(op: Op, shapes: tuple[Shape, ...], raw: Mapping[str, Any]) -> Call:
    """Return the call of an op with inputs of these shapes and the attributes of a document.

    Raises
    ------
    InputError
        Everything wrong with the attributes; else what is wrong with the inputs.
    """
    return make_call(op, shapes, parse_attributes(op, raw))


def parse_attributes(op: Op, raw: Mapping[str, Any]) -> Attributes:
    """Return the attributes of an op, defaults filled in, sorted by name.

    Raises
    ------
    InputError
        With a problem for every unknown, missing or bad attribute; each path is (attribute,).
    """
    problems, good = list(unknown(op, raw)), {}
    for name in sorted(op.attributes):
        try:
            good[name] = parsed(op, name, raw)
        except ValueError as error:
            problems.append(Problem((name,), str(error)))
        except InputError as error:
            problems += [problem.under(name) for problem in error.problems]
    if problems:
        raise InputError(problems)
    return tuple(good.items())


def unknown(op: Op, raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each attribute that the op does not have."""
    for name in raw:
        if name not in op.attributes:
            hint = nearest(name, op.attributes, "pcsim list ops")
            yield Problem((name,), f"unknown attribute {name!r} of op {op.name!r}{hint}")


def parsed(op: Op, name: str, raw: Mapping[str, Any]) -> Any:
    """Return the value of one attribute, or raise ValueError with what was got and expected."""
    attribute = op.attributes[name]
    if name not in raw:
        if not attribute.required:
            return attribute.default
        message = f"op {op.name!r} needs the attribute {name!r}: {attribute.summary}"
        raise ValueError(message)
    try:
        return attribute.parse(raw[name])
    except ValueError as error:
        message = f"got {short(raw[name])}, {error}"
        raise ValueError(message) from None


def make_call(op: Op, shapes: tuple[Shape, ...], attributes: Attributes) -> Call:
    """Return the call of an op, with the shape of the vertex worked out.

    ``attributes`` come from ``parse_attributes``.

    Raises
    ------
    InputError
        Too few or too many inputs (path ``inputs``), shapes that do not fit, or an absurd size.
    """
    check_arity(op, len(shapes))
    try:
        call = Call(shapes, op.shape(Call(shapes, (), attributes)), attributes)
        check_size(op, call)
    except ValueError as error:
        raise wrong((), f"op {op.name!r}{described(shapes)}: {error}") from None
    return call


def check_arity(op: Op, count: int) -> None:
    """Refuse too few or too many inputs."""
    low, high = op.arity
    if low <= count and (high is None or count <= high):
        return
    expected = f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"
    raise wrong("inputs", f"op {op.name!r} got {count} inputs, expected {expected}")


def check_size(op: Op, call: Call) -> None:
    """Refuse a vertex or a parameter of absurd size."""
    for shape in (call.shape, *(spec.shape for spec in op.params(call).values())):
        if prod(shape) > MAX_ELEMENTS or len(shape) > MAX_RANK:
            message = f"shape {shape} is too large, expected at most 10^9 elements and {MAX_RANK} axes"
            raise ValueError(message)


def described(shapes: tuple[Shape, ...]) -> str:
    """Return the shapes of the inputs as they read in a message."""
    return f" with inputs of shape {', '.join(map(str, shapes))}" if shapes else ""
