"""How parameters start: every tensor drawn from a stream of its own, named by seed and parameter.

A parameter's values depend on the seed and its name alone: not on the order of the document, not on
what else the graph holds.
"""

from __future__ import annotations

import zlib
from math import prod, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from pcsim.errors import InputError, Problem, nearest, wrong

if TYPE_CHECKING:
    from collections.abc import Callable

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


def initialise(graph: Graph, seed: int, dtype: Any = np.float64, folder: Path | None = None) -> dict[str, NDArray[Any]]:
    """Return {parameter: (*shape)}, drawn in float64 and rounded to ``dtype``.

    Files that parameters start from are sought in ``folder`` (default: the working directory).
    Raises InputError where values or a file do not fit.
    """
    problems: list[Problem] = []
    values = {}
    folder = folder or Path()
    for parameter in graph.parameters.values():
        try:
            rng = stream(seed, "parameter", parameter.name)
            start = _of_synapses(graph, parameter) if parameter.init[0] == "connect" else None
            values[parameter.name] = rounded(_start(parameter, rng, folder) if start is None else start, dtype)
        except InputError as error:
            place = _place(graph, parameter.name)
            problems += [problem.under(*place) for problem in error.problems]
    if problems:
        raise InputError(problems)
    return values


def rounded(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return an array in a number format; raises InputError where it does not hold the numbers."""
    with np.errstate(over="ignore"):
        found = array.astype(dtype)
    if not np.isfinite(found).all():
        raise wrong((), f"holds numbers that are not finite in {np.dtype(dtype)}")
    return found


def _place(graph: Graph, parameter: str) -> tuple[str, ...]:
    """Return where a document says how a parameter starts."""
    vertex, dot, slot = parameter.rpartition(".")
    own = dot and vertex in graph.vertices and (slot, parameter) in graph.vertices[vertex].params
    return ("vertices", vertex, "init", slot) if own else ("parameters", parameter, "init")


def _start(parameter: Parameter, rng: Generator, folder: Path) -> NDArray[Any]:
    kind, argument = parameter.init
    if kind in _RANDOM:
        fan_in, fan_out = _fans(parameter)
        return np.asarray(_RANDOM[kind](rng, parameter.shape, argument, fan_in, fan_out))
    values = read_npz(folder / argument[0], argument[1]) if kind == "file" else argument
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
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise wrong((), f"expected numbers of shape {list(shape)}") from None
    if array.shape not in ((), shape):
        raise wrong((), f"has shape {list(array.shape)}, expected {list(shape)}")
    return np.broadcast_to(array, shape)


def read_npz(file: str | Path, key: str | None) -> NDArray[Any]:
    """Return an array of numbers of an .npz (by key) or .npy file; raises InputError if there is none."""
    path = Path(file)
    try:
        array = _array(path, key)
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise wrong("file", f"cannot read {path}: {_reason(error)}") from None
    if array.dtype.kind not in "biuf":
        raise wrong("file", f"{path} holds {array.dtype}, expected numbers")
    return array


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if "pickle" in str(error):
        return "it holds Python objects, expected plain numbers (saved with numpy.savez)"
    return str(error)


def _array(path: Path, key: str | None) -> NDArray[Any]:
    # Opened here, for numpy leaves a broken file open.
    with path.open("rb") as stream:
        found = np.load(stream, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        if key is None and len(found.files) == 1:
            key = found.files[0]
        if key is None:
            raise wrong("key", f"{path} holds {', '.join(found.files)}: say which with 'key'")
        if key not in found.files:
            raise wrong("key", f"{path} has no array {key!r}" + nearest(key, found.files))
        return np.asarray(found[key])


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
