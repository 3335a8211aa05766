"""Finds the vertex and the value behind a NaN or an infinity, and says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pcsim.errors import DomainError, NumberOverflowError

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph, Vertex

Values = Callable[[str], np.ndarray]
"""Returns the value of a vertex, (1, batch, *shape), as it was when the NaN or infinity came up."""

Inputs = Callable[[str], tuple[np.ndarray, ...]]
"""Returns the inputs of a vertex as they had arrived, which over a value delay is not what is sent now."""

Operands = Callable[["Vertex"], Mapping[str, np.ndarray]]
"""Returns what a vertex's op takes beside its inputs: parameters (1, *shape), buffers and draws."""


def report(
    graph: Graph, values: Values, inputs: Inputs, operands: Operands, tick: int | None, suspects: Mapping[str, str]
) -> NoReturn:
    """Raise the error that explains why ``suspects`` ({vertex: what of it}) hold no finite number.

    Raises DomainError where an op was outside its domain or its derivative is not finite, else
    NumberOverflowError for the suspect nearest the sources.
    """
    when = "in the feedforward sweep" if tick is None else f"at tick {tick}"
    with np.errstate(all="ignore"):
        for vertex in graph.vertices.values():
            if vertex.op.role == "function":
                _check_vertex(graph, vertex, inputs(vertex.name), operands(vertex), when)
    name = next(name for name in graph.vertices if name in suspects)
    overflowed(name, tick, suspects[name], values(name).dtype)


def overflowed(name: str, tick: int | None, what: str, dtype: np.dtype[Any]) -> NoReturn:
    """Raise the error that says that a quantity of a vertex left the number format."""
    when = "in the feedforward sweep" if tick is None else f"at tick {tick}"
    message = f"vertex {name!r} {when}: its {what} grew beyond {dtype}"
    raise NumberOverflowError(message)


def _check_vertex(
    graph: Graph, vertex: Vertex, inputs: tuple[np.ndarray, ...], params: Mapping[str, np.ndarray], when: str
) -> None:
    if not all(np.isfinite(array).all() for array in inputs):
        return
    op, call = vertex.op, vertex.call
    if op.domain is not None:
        place, mask = op.domain(np, call, inputs)
        if mask.any():
            bad, where = _first(inputs[place], mask)
            pre = graph.incoming[vertex.name][place].pre
            message = f"vertex {vertex.name!r} {when}: {op.domain_text}: {bad!r} (from {pre!r}, {where})"
            raise DomainError(message)
    mu, saved = op.forward(np, call, params, inputs)
    if not np.isfinite(mu).all():
        return
    for array, back in zip(inputs, op.to_inputs(np, call, params, inputs, mu, saved, np.ones_like(mu)), strict=True):
        if back is not None and not np.isfinite(back).all():
            bad, where = _first(array, ~np.isfinite(back))
            message = f"vertex {vertex.name!r} {when}: the derivative of {op.name} is not finite at {bad!r} ({where})"
            raise DomainError(message)


def _first(array: np.ndarray, mask: np.ndarray) -> tuple[float, str]:
    mask = np.broadcast_to(mask, array.shape) if mask.ndim == array.ndim else mask.reshape(array.shape)
    index = tuple(int(number[0]) for number in np.nonzero(mask))
    unit = f", unit {list(index[2:])}" if index[2:] else ""
    return float(array[index]), f"sample {index[1]}{unit}"
