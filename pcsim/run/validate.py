"""Checks of whole files: everything that a run would refuse, without running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.documents import sorted_problems
from pcsim.errors import InputError, Problem
from pcsim.graph.synapse_table import synapse_notes
from pcsim.run.task import check, recorded
from pcsim.scenario.document_kind import kind_of
from pcsim.scenario.reader import load_graph, read_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.graph import Graph
    from pcsim.scenario.scenario import Scenario


def validate_file(path: Path) -> str:
    """Return a line that says a file is right, and one for each note; raises InputError with everything that is not."""
    if kind_of(path) == "graph":
        graph = load_graph(path)
        return "\n".join((f"{path}: ok: {graph!r}", *_notes(graph)))
    reading = read_scenario(path)
    scenario = reading.scenario()
    problems = list(reading.problems)
    if scenario is not None:
        # A section that is wrong already is reported once, not again for what follows from it.
        known = {problem.path[:1] for problem in problems}
        problems += [problem for problem in _later(scenario) if problem.path[:1] not in known]
    if problems:
        raise InputError(sorted_problems(problems))
    assert scenario is not None
    return "\n".join((f"{path}: ok: {scenario!r}", *_notes(scenario.graph)))


def _notes(graph: Graph) -> list[str]:
    return [f"note: {text}" for text in synapse_notes(graph)]


def _later(scenario: Scenario) -> list[Problem]:
    """Return the problems that show when data are loaded and probes are placed."""
    found: list[Problem] = []
    for step in (scenario.check, lambda: check(scenario, recorded(scenario))):
        try:
            step()
        except InputError as error:
            found += scenario.located(error).problems
    return found
