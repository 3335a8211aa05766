"""The parts of a vertex in a document, checked one by one: attributes, initialisers, feedback, precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from pcsim.documents.frozen_arrays import FrozenArray, as_lists
from pcsim.errors import InputError, Path, Problem, nearest, wrong
from pcsim.graph.array_files import read_array
from pcsim.graph.graph_document import InitEntry, VertexEntry
from pcsim.graph.problems import problems_of
from pcsim.ops import FEEDBACKS, OPS, parse_attributes
from pcsim.ops.attributes import MAX_RANK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path as FilePath

    from pcsim.arrays import Shape
    from pcsim.ops.op import Call, Feedback, Op

NUMBER_FORMATS = {"float": "floating-point numbers", "whole": "whole numbers (format: whole)"}
"""How messages name number formats."""

_PLAIN = frozenset({bool, int, float, str, type(None)})
"""Types whose text says all about them, unlike their equality (1 == True, 0.0 == -0.0)."""


def text_of(given: Mapping[str, Any]) -> str | None:
    """Return attributes as text that differs wherever they do; None where that is long."""
    plain = all(type(value) in _PLAIN or _is_plain_list(value) for value in given.values())
    return repr(given) if plain else None


def _is_plain_list(value: Any) -> bool:
    return type(value) is list and len(value) <= MAX_RANK and all(type(item) in _PLAIN for item in value)


def checked_attributes(op: Op, given: Mapping[str, Any], folder: FilePath) -> tuple[tuple[str, Any], ...]:
    """Return the attributes of an op, those that stand in files of a folder among them.

    A slip in another key of a vertex gets its hint too.
    """
    arrays = {key for key, attribute in op.attributes.items() if attribute.array}
    known = {key: _read(key, value, folder) if key in arrays else as_lists(value) for key, value in given.items()}
    try:
        return parse_attributes(op, known)
    except InputError as error:
        found = [_hinted(op, problem) for problem in error.problems]
        slips = "".join(problem.message for problem in found)
        # A key that is misspelt is not also missing.
        raise InputError(
            p for p in found if p.path[-1] in given or f"did you mean {p.path[-1]!r}?" not in slips
        ) from None


def _read(key: str, given: Any, folder: FilePath) -> Any:
    """Return an array of a file where one is named, else what is given."""
    if not isinstance(given, Mapping) or not {"file"} <= set(given) <= {"file", "key"}:
        return given
    try:
        return FrozenArray(read_array(folder / str(given["file"]), given.get("key")))
    except InputError as error:
        raise error.map(lambda problem: problem.under(key)) from None


def _hinted(op: Op, problem: Problem) -> Problem:
    if not problem.message.startswith("unknown attribute"):
        return problem
    hint = nearest(str(problem.path[-1]), [*op.attributes, *VertexEntry.model_fields], "pcsim list ops")
    return replace(problem, message=f"unknown key {problem.path[-1]!r} of op {op.name!r}{hint}")


def check_slots(op: Op, legal: Mapping[str, Iterable[str]], given: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse slots that an op does not have; ``legal`` are those that each key of a vertex may name."""
    problems = [
        Problem((key, slot), f"op {op.name!r} has no parameter {slot!r}" + nearest(slot, legal[key]))
        for key, slots in given.items()
        for slot in slots
        if slot not in legal[key]
    ]
    if problems:
        raise InputError(problems)


def init_row(path: Path, given: Any) -> tuple[str, Any]:
    """Return an initialiser as (kind, argument); raises InputError."""
    try:
        return InitEntry.model_validate(given).row()
    except ValidationError as error:
        raise InputError(problem.under(*path) for problem in problems_of(error, InitEntry, given)) from None


def check_values(init: tuple[str, Any], shape: Shape, path: Path = ("init",)) -> None:
    """Refuse values in place that do not fill a parameter."""
    if init[0] == "values" and (given := init[1].array.shape) not in ((), shape):
        message = f"has shape {list(given)}, expected one number or shape {list(shape)}"
        raise wrong((*path, "values"), message)


def _numbers(values: Any, path: Path) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise wrong(path, "expected finite numbers, lists of equal lengths")
    return array.astype(float)


def feedback_of(entry: VertexEntry, call: Call) -> Feedback:
    """Return with which operands the error messages of a vertex are computed; raises InputError."""
    if entry.feedback not in FEEDBACKS:
        raise wrong(("feedback",), f"unknown feedback {entry.feedback!r}" + nearest(entry.feedback, FEEDBACKS))
    found = FEEDBACKS[entry.feedback]
    if found.own and not found.weights(OPS[entry.op], call):
        hint = f"op {entry.op!r} has no weights, parameters of two axes or more, that feedback could replace"
        raise wrong(("feedback",), f"{hint}: leave {entry.feedback!r} out here")
    if not found.slopes and "activation" not in OPS[entry.op].attributes:
        hint = f"op {entry.op!r} has no activation whose slope could be left out"
        raise wrong(("feedback",), f"{hint}: leave {entry.feedback!r} out here")
    return found


def precision_of(entry: VertexEntry, call: Call) -> float | tuple[Any, ...]:
    """Return the precision of a vertex, one number or nested tuples of its shape; raises InputError."""
    if isinstance(entry.precision, float) and 0 < entry.precision < inf:
        return entry.precision
    values = _numbers(entry.precision, ("precision",))
    if not np.all(values > 0):
        raise wrong("precision", "a precision is a finite number above 0")
    if values.ndim == 0:
        return float(values)
    if values.shape != call.shape:
        raise wrong("precision", f"has shape {list(values.shape)}, expected one number or shape {list(call.shape)}")
    made: tuple[Any, ...] = _as_tuples(values.tolist())
    return made


def _as_tuples(values: Any) -> Any:
    return tuple(map(_as_tuples, values)) if isinstance(values, list) else values
