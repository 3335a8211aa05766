"""The keys and values of a sweep, each tried alone before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from pcsim.documents import with_location
from pcsim.errors import InputError, Path, Problem, wrong
from pcsim.scenario.dotted_keys import override
from pcsim.scenario.graph_source import graph_source
from pcsim.scenario.partial_reading import Reading, document_of, graph_of, rule_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = "cases"
"""The key of an axis whose values are themselves overrides, ``{label: ..., key: value, ...}``."""

LABEL = "label"


def label_of(case: Any) -> str:
    """Return how a case is called; raises InputError where it is none, or has a label that is no text or number."""
    if not isinstance(case, Mapping):
        raise wrong((), f"expected a case such as {{label: slow, rule.step_size: 0.1}}, got {case!r}")
    label = case.get(LABEL)
    if isinstance(label, dict | list) or (isinstance(label, float) and not isfinite(label)):
        raise wrong(LABEL, f"expected a text or a finite number, got {label}")
    named = label is not None and label != ""
    return str(label) if named else ", ".join(f"{key}={value}" for key, value in case.items() if key != LABEL)


def sweep_problems(reading: Reading) -> list[Problem]:
    """Return what is wrong with a sweep; the values of ``cases`` are mappings of keys to values."""
    axes = reading.document.sweep if reading.document else {}
    problems = [problem for key, values in axes.items() for problem in _axis_problems(reading, key, values)]
    return [with_location(problem, reading.node) for problem in dict.fromkeys(problems)]


def sweep_remarks(reading: Reading) -> list[Problem]:
    """Return which values of a sweep repeat others; labels of cases do not count."""
    axes = reading.document.sweep if reading.document else {}
    found = []
    for key, values in axes.items():
        first: dict[str, int] = {}
        for place, value in enumerate(values):
            if (before := first.setdefault(_written(value), place)) != place:
                what = "case" if key == CASES else "value"
                message = f"is the same {what} as number {before + 1} of this list, and gives the same runs again"
                found.append(with_location(Problem(("sweep", key, place), message), reading.node))
    return found


def _written(value: Any) -> str:
    """Return a text that equal values share, with 1.0 as 1."""
    if isinstance(value, dict):
        return str(sorted((str(key), _written(each)) for key, each in value.items() if key != LABEL))
    if isinstance(value, list):
        return str(list(map(_written, value)))
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)


def _axis_problems(reading: Reading, key: str, values: list[Any]) -> Iterator[Problem]:
    path: Path = ("sweep", key)
    if not values:
        yield Problem(path, "expected a list of at least one value")
    if key == CASES:
        yield from _label_problems(path, values)
    for place, value in enumerate(values):
        if key == CASES:
            yield from _case_problems(reading, (*path, place), value)
        else:
            for problem in _cell_problems(reading, key, value):
                yield replace(problem, path=path if _is_about_key(problem) else (*path, place))


def _case_problems(reading: Reading, path: Path, case: Any) -> Iterator[Problem]:
    try:
        label_of(case)
    except InputError as error:
        yield from (problem.under(*path) for problem in error.problems)
        return
    keys = sorted((key for key in case if key != LABEL), key=lambda key: not _is_of_graph(key))
    for key in keys:  # what a case says of vertices is said of its own graph
        found = _cell_problems(reading, str(key), case[key])
        yield from (replace(problem, path=(*path, key)) for problem in found)
        if _is_of_graph(key):
            if found:
                return
            reading = _with_graph(reading, str(key), case[key])


def _is_of_graph(key: Any) -> bool:
    return str(key).partition(".")[0] == "graph"


def _with_graph(reading: Reading, key: str, value: Any) -> Reading:
    """Return a reading whose graph is another; its override is known to be right."""
    node = override(reading.node, key, value)
    known = [problem for problem in reading.problems if problem.path[:1] != ("graph",)]
    made = Reading(node, reading.folder, graph_source(node, reading.folder), problems=known)
    made.graph = graph_of(made, made.source) if made.source is not None else None
    return made


def _label_problems(path: Path, cases: list[Any]) -> Iterator[Problem]:
    """Yield which cases have the label of an earlier one and other values: their rows could not be told apart."""
    first: dict[str, tuple[int, str]] = {}
    for place, case in enumerate(cases):
        with suppress(InputError):
            label, written = label_of(case), _written(case)
            before, same = first.setdefault(label, (place, written))
            if same != written:
                at = (*path, place, LABEL) if LABEL in case else (*path, place)
                hint = "give each case a label of its own"
                yield Problem(at, f"case number {before + 1} is called {label!r} too, with other values; {hint}")


def _is_about_key(problem: Problem) -> bool:
    """Tell whether it is the key that no scenario has, not one of its values that is wrong."""
    return problem.message.startswith(("unknown key", "unknown argument", "the key"))


def _cell_problems(reading: Reading, key: str, value: Any) -> list[Problem]:
    """Return the problems that one override brings; those of the scenario itself are known."""
    section = key.split(".", maxsplit=1)[0]
    if any(problem.path[:1] == (section,) for problem in reading.problems):
        return []
    try:
        cell = Reading(override(reading.node, key, value), reading.folder, reading.source, graph=reading.graph)
        cell.document = document_of(cell)
        cell.rule = rule_of(cell)
        cell.problems += _argument_problems(cell) if section == "graph" else []
    except InputError as error:
        cell = Reading(reading.node, reading.folder, problems=list(error.problems))
    return [Problem((), problem.message) for problem in cell.problems if _from_override(problem, section)]


def _from_override(problem: Problem, section: str) -> bool:
    return problem.path[:1] in ((section,), ("args",))


def _argument_problems(cell: Reading) -> list[Problem]:
    source = graph_source(cell.node, cell.folder)
    return source.argument_problems() if source is not None else []
