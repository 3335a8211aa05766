"""Parameters that are given as arrays, in a file or from Python, checked against the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pcsim.documents.frozen_arrays import FrozenArray, array_of
from pcsim.errors import InputError, Problem, nearest
from pcsim.graph.array_files import read_arrays
from pcsim.graph.initialise import rounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    from pcsim.errors import Path as KeyPath
    from pcsim.graph.graph import Graph

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def frozen_parameters(graph: Graph, given: Any, dtype: np.dtype[Any]) -> dict[str, FrozenArray]:
    """Return {parameter: values} in a number format, that never change; values may be whatever NumPy reads.

    Raises
    ------
    InputError
        With a problem for each unknown name, wrong shape, masked array and number that is not finite in the
        format; paths are ``parameters.NAME``.
    """
    if not isinstance(given, Mapping):
        message = f"expected {{parameter: array}}, got a {type(given).__name__}"
        raise InputError([Problem(("parameters",), message)])
    made = _checked(graph, given, dtype, lambda name: ("parameters", name))
    for array in made.values():
        array.setflags(write=False)  # what could be written to is a copy
    return {name: FrozenArray(array) for name, array in made.items()}


def parameters_of_file(graph: Graph, path: Path, dtype: np.dtype[Any]) -> Arrays:
    """Return {parameter: values} of an ``.npz`` or ``.safetensors`` file; a file may hold some of the parameters.

    Raises
    ------
    InputError
        As `frozen_parameters`, and where the file cannot be read; paths are ``parameters.file``.
    """
    try:
        arrays = read_arrays(path)
    except InputError as error:
        raise error.map(lambda problem: problem.under("parameters")) from None
    return _checked(graph, arrays, dtype, lambda _: ("parameters", "file"), f"{path}: ")


def _checked(
    graph: Graph, given: Mapping[str, Any], dtype: np.dtype[Any], path: Callable[[str], KeyPath], where: str = ""
) -> Arrays:
    problems: list[Problem] = []
    made: Arrays = {}
    for name, values in given.items():
        if name not in graph.parameters:
            message = f"{where}there is no parameter {name!r}{nearest(str(name), graph.parameters)}"
            problems.append(Problem(path(name), message))
            continue
        try:
            made[name] = _fitting(graph.parameters[name].shape, values, dtype)
        except (InputError, ValueError) as error:
            text = error.problems[0].message if isinstance(error, InputError) else str(error)
            problems.append(Problem(path(name), f"{where}parameter {name!r}: {text}" if where else text))
    if problems:
        raise InputError(problems)
    return made


def _fitting(shape: tuple[int, ...], values: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    array = array_of(values)
    if array.shape != shape:
        message = f"has shape {list(array.shape)}, expected {list(shape)}"
        raise ValueError(message)
    return rounded(array, dtype)
