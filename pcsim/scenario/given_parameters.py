"""Parameters and buffers that are given as arrays, in a file or from Python, checked against the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pcsim.documents.frozen_arrays import FrozenArray, array_of
from pcsim.engines.operands import buffer_shapes
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
    made = _checked(graph, given, dtype, lambda name: ("parameters", name))
    for array in made.values():
        array.setflags(write=False)  # what could be written to is a copy
    return {name: FrozenArray(array) for name, array in made.items()}


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
    return _checked(graph, arrays, dtype, lambda _: ("parameters", "file"), f"{path}: ")


def _checked(
    graph: Graph, given: Mapping[str, Any], dtype: np.dtype[Any], path: Callable[[str], KeyPath], where: str = ""
) -> Arrays:
    problems: list[Problem] = []
    made: Arrays = {}
    buffers = buffer_shapes(graph)
    shapes = {**buffers, **{name: parameter.shape for name, parameter in graph.parameters.items()}}
    for name, values in given.items():
        if name not in shapes:
            kind = "parameter or buffer" if buffers else "parameter"
            problems.append(Problem(path(name), f"{where}there is no {kind} {name!r}{nearest(str(name), shapes)}"))
            continue
        try:
            made[name] = _fitting(shapes[name], values, dtype)
        except (InputError, ValueError) as error:
            text = error.problems[0].message if isinstance(error, InputError) else str(error)
            kind = "parameter" if name in graph.parameters else "buffer"
            problems.append(Problem(path(name), f"{where}{kind} {name!r}: {text}" if where else text))
    if problems:
        raise InputError(problems)
    return made


def _fitting(shape: tuple[int, ...], values: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    array = array_of(values)
    if array.shape != shape:
        message = f"has shape {list(array.shape)}, expected {list(shape)}"
        raise ValueError(message)
    return rounded(array, dtype)
