"""How parameters start: every tensor drawn from a stream of its own, named by seed and parameter.

A parameter's values depend on the seed and its name alone: not on the order of the document, not on
what else the graph holds.
"""

from __future__ import annotations

from math import prod, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents.frozen_arrays import never_changes
from pcsim.errors import InputError, Problem, wrong
from pcsim.graph.array_files import read_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from pcsim.arrays import Shape
    from pcsim.graph.graph import Graph, Parameter

Generator = np.random.Generator


def stream(seed: int, *names: str) -> Generator:
    """Return the random stream of a name: equal for equal seed and names, whatever else is drawn."""
    number = int(seed)
    words = np.frombuffer(number.to_bytes(4 * max(1, -(-number.bit_length() // 32)), "little"), "<u4")
    entropy = np.concatenate([words, np.frombuffer("/".join(names).encode(), np.uint8)], dtype=np.uint32)
    # an array of words is what SeedSequence makes of [seed, *bytes] itself, at a seventh of the time
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def initialise(
    graph: Graph,
    seed: int,
    dtype: Any = np.float64,
    folder: Path | None = None,
    names: Iterable[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """Return {parameter or buffer: (*shape)}, drawn in float64 and rounded to ``dtype``.

    Parameters
    ----------
    folder : files that parameters start from are sought here (default: the working directory)
    names : those that are wanted (default: all parameters)

    Raises
    ------
    InputError
        Where values or a file do not fit.
    """
    problems: list[Problem] = []
    values = {}
    folder = folder or Path()
    starts = {**graph.buffers, **graph.parameters}
    for parameter in map(starts.__getitem__, graph.parameters if names is None else names):
        try:
            rng = stream(seed, "parameter", parameter.name)
            start = _of_synapses(graph, parameter) if parameter.init[0] == "connect" else None
            values[parameter.name] = rounded(_start(parameter, rng, folder) if start is None else start, dtype)
        except InputError as error:
            path = _path_of(graph, parameter.name)
            problems += [problem.under(*path) for problem in error.problems]
    if problems:
        raise InputError(problems)
    return values


def rounded(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return an array in a number format; raises InputError where it does not hold the numbers.

    It is a copy, unless the array never changes and has that format already.
    """
    if array.dtype != dtype or not array.flags.c_contiguous or not never_changes(array):
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    if not np.isfinite(array).all():
        raise wrong((), f"holds numbers that are not finite in {np.dtype(dtype)}")
    return array


def _path_of(graph: Graph, parameter: str) -> tuple[str, ...]:
    """Return the keys under which a document says how a parameter starts."""
    vertex, dot, slot = parameter.rpartition(".")
    own = dot and vertex in graph.vertices and (slot, parameter) in graph.vertices[vertex].params
    own = own or parameter in graph.buffers
    return ("vertices", vertex, "init", slot) if own else ("parameters", parameter, "init")


def _start(parameter: Parameter, rng: Generator, folder: Path) -> NDArray[Any]:
    kind, argument = parameter.init
    if kind in _RANDOM:
        fan_in, fan_out = _fans(parameter)
        return np.asarray(_RANDOM[kind](rng, parameter.shape, argument, fan_in, fan_out))
    values = read_array(folder / argument[0], argument[1]) if kind == "file" else argument
    return _given(parameter.shape, values)


def _of_synapses(graph: Graph, parameter: Parameter) -> NDArray[Any]:
    """Return the weights of the file that a projection's synapses are from."""
    for name in graph.uses[parameter.name]:
        vertex = graph.vertices[name]
        synapses = dict(vertex.call.attributes).get("synapses")
        if synapses is not None and synapses.weight is not None and ("weight", parameter.name) in vertex.params:
            return np.asarray(synapses.weight)
    raise wrong((), "no file that a projection's 'connect' reads holds weights for it")


def _given(shape: Shape, values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.shape not in ((), shape):
        raise wrong((), f"has shape {list(array.shape)}, expected {list(shape)}")
    return array if array.shape == shape else np.broadcast_to(array, shape)


def _fans(parameter: Parameter) -> tuple[int, int]:
    """Return fan-in and fan-out; a weight is (units, fan-in), a factor on the right of a product (fan-in, units)."""
    shape = parameter.shape
    fan_in = parameter.fan_in or prod(shape[1:] if len(shape) > 1 else shape) or 1
    return fan_in, parameter.fan_out or (prod(shape) // fan_in if len(shape) > 1 else prod(shape))


def _uniform(rng: Generator, shape: Shape, bound: float) -> Any:
    return rng.uniform(-bound, bound, shape)


def _orthogonal(rng: Generator, shape: Shape) -> Any:
    rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (prod(shape), 1)
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return (q if rows >= columns else q.T).reshape(shape)


_RANDOM: dict[str, Callable[[Generator, Shape, Any, int, int], Any]] = {
    "uniform_fan_in": lambda rng, shape, _, fan_in, __: _uniform(rng, shape, 1 / sqrt(fan_in)),
    "glorot": lambda rng, shape, _, fan_in, fan_out: _uniform(rng, shape, sqrt(6 / (fan_in + fan_out))),
    "he": lambda rng, shape, _, fan_in, __: rng.normal(0.0, sqrt(2 / fan_in), shape),
    "orthogonal": lambda rng, shape, _, __, ___: _orthogonal(rng, shape),
    "normal": lambda rng, shape, argument, _, __: rng.normal(argument[0], argument[1], shape),
    "uniform": lambda rng, shape, argument, _, __: rng.uniform(argument[0], argument[1], shape),
}
