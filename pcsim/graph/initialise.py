"""How parameters start: every tensor drawn from a stream of its own, named by seed and parameter.

A parameter's values depend on the seed and its name alone: not on the order of the document, not on
what else the graph holds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, nearest, wrong

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcsim.arrays import Shape
    from pcsim.graph.graph import Graph, Parameter

Generator = np.random.Generator


def stream(seed: int, *names: str) -> Generator:
    """Return the random stream of a name: equal for equal seed and names, whatever else is drawn."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *"/".join(names).encode()])))


def initialise(graph: Graph, seed: int, dtype: Any = np.float64) -> dict[str, NDArray[Any]]:
    """Return {parameter: (*shape)}, drawn in float64 and rounded to ``dtype``.

    Raises InputError where values or a file do not fit.
    """
    problems, values = [], {}
    for parameter in graph.parameters.values():
        try:
            values[parameter.name] = _start(parameter, stream(seed, "parameter", parameter.name)).astype(dtype)
        except InputError as error:
            problems += error.map(lambda problem: problem.under("parameters", parameter.name)).problems  # noqa: B023
    if problems:
        raise InputError(problems)
    return values


def _start(parameter: Parameter, rng: Generator) -> NDArray[Any]:
    kind, argument = parameter.init
    if kind in _RANDOM:
        fan_in, fan_out = _fans(parameter)
        return np.asarray(_RANDOM[kind](rng, parameter.shape, argument, fan_in, fan_out))
    return _given(parameter.shape, argument if kind == "constant" else _values(kind, argument))


def _values(kind: str, argument: Any) -> Any:
    return argument if kind == "values" else read_npz(*argument)


def _given(shape: Shape, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise wrong("init", f"expected numbers of shape {list(shape)}") from None
    if array.shape not in ((), shape):
        raise wrong("init", f"has shape {list(array.shape)}, expected {list(shape)}")
    return np.broadcast_to(array, shape)


def read_npz(file: str, key: str | None) -> NDArray[Any]:
    """Return an array of an .npz (by key) or .npy file; raises InputError if it is not there."""
    path = Path(file)
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise wrong("file", f"cannot read {path}: {error}") from None
    if isinstance(found, np.ndarray):
        return found
    with found:
        if key is None and len(found.files) == 1:
            return np.asarray(found[found.files[0]])
        if key not in found.files:
            raise wrong("key", f"{path} has no array {key!r}" + nearest(str(key), found.files))
        return np.asarray(found[key])


def _fans(parameter: Parameter) -> tuple[int, int]:
    """Return fan-in and fan-out; a weight is (units, fan-in), anything else counts its elements."""
    shape = parameter.shape
    fan_out = shape[0] if shape else 1
    return parameter.fan_in or prod(shape[1:] if len(shape) > 1 else shape) or 1, fan_out


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
