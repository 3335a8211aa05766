"""Parameters, buffers and data that are given as arrays, in a file or from Python, checked against the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.documents.frozen_arrays import FrozenArray, array_of
from pcsim.engines.operands import buffer_shapes
from pcsim.errors import InputError, Problem, nearest
from pcsim.graph.array_files import read_arrays
from pcsim.graph.initialise import rounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pcsim.errors import Path as KeyPath
    from pcsim.graph.graph import Graph

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
    Formats = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


def frozen_parameters(graph: Graph, given: Any, dtype: np.dtype[Any]) -> dict[str, FrozenArray]:
    """Return {parameter or buffer: values} in a number format, that never change; values may be whatever NumPy reads.

    A buffer, which an op keeps from batch to batch, is named ``vertex.buffer``, as ``norm.running_mean``.

    Raises
    ------
    InputError
        With a problem for each unknown name, wrong shape, masked array and number that is not finite in the
        format; paths are ``parameters.NAME``.
    """
    if not isinstance(given, Mapping):
        message = f"expected {{parameter: array}}, got a {type(given).__name__}"
        raise InputError([Problem(("parameters",), message)])
    return _frozen(_checked(_formats(graph, dtype), given, lambda name: ("parameters", name), _kind(graph)))


def frozen_data(section: str, known: Formats, given: Any) -> dict[str, FrozenArray]:
    """Return {vertex: values} that never change; values may be whatever NumPy reads.

    Parameters
    ----------
    section : ``inputs`` or ``targets``
    known : of each vertex of that section, the shape with the batch, and the number format

    Raises
    ------
    InputError
        As `frozen_parameters`; paths are ``inputs.NAME`` or ``targets.NAME``.
    """
    if not isinstance(given, Mapping):
        raise InputError([Problem((section,), f"expected {{vertex: array}}, got a {type(given).__name__}")])
    kind = "input vertex" if section == "inputs" else "output"
    return _frozen(_checked(known, given, lambda name: (section, name), kind))


def _frozen(made: Arrays) -> dict[str, FrozenArray]:
    for array in made.values():
        array.setflags(write=False)  # what could be written to is a copy
    return {name: FrozenArray(array) for name, array in made.items()}


def _formats(graph: Graph, dtype: np.dtype[Any]) -> Formats:
    shapes = {**buffer_shapes(graph), **{name: parameter.shape for name, parameter in graph.parameters.items()}}
    return {name: (shape, dtype) for name, shape in shapes.items()}


def _kind(graph: Graph) -> str:
    return "parameter or buffer" if buffer_shapes(graph) else "parameter"


def parameters_of_file(graph: Graph, path: Path, dtype: np.dtype[Any]) -> Arrays:
    """Return {parameter or buffer: values} of an ``.npz`` or ``.safetensors`` file; a file may hold some of them.

    Raises
    ------
    InputError
        As `frozen_parameters`, and where the file cannot be read; paths are ``parameters.file``.
    """
    try:
        arrays = read_arrays(path)
    except InputError as error:
        raise error.map(lambda problem: problem.under("parameters")) from None
    return _checked(_formats(graph, dtype), arrays, lambda _: ("parameters", "file"), _kind(graph), f"{path}: ")


def _checked(
    known: Formats, given: Mapping[str, Any], path: Callable[[str], KeyPath], kind: str, where: str = ""
) -> Arrays:
    problems: list[Problem] = []
    made: Arrays = {}
    for name, values in given.items():
        if name not in known:
            problems.append(Problem(path(name), f"{where}there is no {kind} {name!r}{nearest(str(name), known)}"))
            continue
        try:
            made[name] = _fitting(*known[name], values)
        except (InputError, ValueError) as error:
            text = error.problems[0].message if isinstance(error, InputError) else str(error)
            problems.append(Problem(path(name), f"{where}{kind} {name!r}: {text}" if where else text))
    if problems:
        raise InputError(problems)
    return made


def _fitting(shape: tuple[int, ...], dtype: np.dtype[Any], values: Any) -> np.ndarray[Any, np.dtype[Any]]:
    array = array_of(values)
    if array.shape != shape:
        message = f"has shape {list(array.shape)}, expected {list(shape)}"
        raise ValueError(message)
    if dtype.kind == "i" and array.dtype.kind == "f" and (array != np.floor(array)).any():
        raise ValueError("expected whole numbers (format: whole)")
    return rounded(array, dtype)
