"""Reads scenarios and graphs from files or mappings; every mistake found, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.documents import located, plain, sorted_problems
from pcsim.errors import InputError, Problem
from pcsim.graph.build import graph_from
from pcsim.scenario.axes import sweep_problems, sweep_remarks
from pcsim.scenario.dotted_keys import override
from pcsim.scenario.file_paths import rebased
from pcsim.scenario.graph_source import DocumentFile, GraphSource, Source, graph_source, read_document
from pcsim.scenario.partial_reading import Reading, check_names, cycle_problems_of, document_of, graph_of, rule_of

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph
    from pcsim.scenario.scenario import Scenario

__all__ = ["Reading", "Source", "load", "load_graph", "override", "read_graph", "read_scenario"]

Values = Mapping[str, Any]


def load(source: Source, overrides: Values | None = None, *, folder: str | Path | None = None) -> Scenario:
    """Read a scenario.

    Parameters
    ----------
    source : path of a YAML file, or the document as a mapping
    overrides : {dotted key: value}, such as ``{"graph.depth": 16, "rule.step_size": 0.5}``
    folder : files named in the scenario are sought here; default: the folder of its own file, or the working folder

    Raises
    ------
    InputError
        With every problem found, each with file, line and column.
    """
    reading = read_scenario(source, overrides, folder)
    scenario = reading.scenario()
    if reading.problems or scenario is None:
        raise InputError(sorted_problems(reading.problems))
    return scenario


def load_graph(source: Source, args: Values | None = None) -> Graph:
    """Read a graph document; ``args`` replace the defaults of its arguments."""
    return read_graph(source, args)[0]


def read_graph(source: Source, args: Values | None = None) -> tuple[Graph, list[Problem]]:
    """Read a graph document as `load_graph` does; return it with remarks on what may be a slip."""
    node, folder = read_document(source)
    found: list[Problem] = []
    document = rebased(GraphSource(node, args or {}, folder, inline=False).expanded(found), str(folder))
    try:
        return graph_from(plain(document)), sorted_problems(found)
    except InputError as error:
        raise InputError(sorted_problems(located(error, document).problems)) from None


def read_scenario(source: Source, overrides: Values | None = None, files_in: str | Path | None = None) -> Reading:
    """Read as much of a scenario as is right, and note everything that is not.

    Raises InputError where there is no document at all.
    """
    node, folder = read_document(source)
    folder = folder if files_in is None else Path(files_in)
    reading = Reading(node, folder, origin=(DocumentFile(folder / "document", node), dict(overrides or {})))
    for key, value in (overrides or {}).items():
        reading.node = reading.attempt(lambda: override(reading.node, key, value)) or reading.node  # noqa: B023
    reading.source = reading.attempt(lambda: graph_source(reading.node, folder))
    if reading.source is not None:
        reading.graph = graph_of(reading, reading.source)
    reading.document = document_of(reading)
    reading.rule = reading.attempt(lambda: rule_of(reading))
    check_names(reading)
    reading.problems += cycle_problems_of(reading)
    reading.problems += sweep_problems(reading)
    reading.remarks += sweep_remarks(reading)
    return reading
