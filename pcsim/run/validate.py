"""Checks of whole files: everything that a run would refuse, without running."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pcsim.documents import read, sorted_problems
from pcsim.errors import InputError, Problem, shortened
from pcsim.graph.synapse_table import synapse_notes
from pcsim.models.model_file import ENDINGS
from pcsim.run.task import check, recorded
from pcsim.scenario.document_kind import any_graph, kind_of
from pcsim.scenario.graph_source import DocumentFile, read_document
from pcsim.scenario.reader import read_graph, read_scenario

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pcsim.scenario.reader import Source
    from pcsim.scenario.scenario import Scenario


def validate(*sources: Source) -> list[Problem]:
    """Return every problem of scenarios and graphs that a run would refuse; none where all are right.

    Parameters
    ----------
    sources : paths of YAML files, or documents as mappings

    Returns
    -------
    list of Problem
        Each with its place and a remedy; its text is what ``pcsim validate`` prints.
    """
    found: list[Problem] = []
    for source in sources:
        try:
            _examined(source)
        except InputError as error:
            found += error.problems
    return found


def validate_file(path: Path) -> str:
    """Return a line that says a file is right, and one for each warning; raises InputError with everything wrong."""
    return _said(path, *_examined(path))


def _examined(source: Source) -> tuple[str, list[str]]:
    """Return what a document is and the warnings about it; raises InputError with everything wrong."""
    if isinstance(source, str | Path) and Path(source).suffix in ENDINGS:
        return repr(any_graph(Path(source))), []
    if isinstance(source, str | Path):
        source = DocumentFile(Path(source), read(source))
    if kind_of(read_document(source)[0]) == "graph":
        graph, remarks = read_graph(source)
        return repr(graph), [*shortened(remarks), *synapse_notes(graph)]
    scenario = checked(source)
    return repr(scenario), scenario.warnings()


def _said(path: Path, what: str, warnings: list[str]) -> str:
    return "\n".join([f"{path}: ok: {what}", *(f"note: {text}" for text in warnings)])


def checked(source: Source, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Return a scenario in which nothing is wrong that shows before it is run.

    Raises InputError with every problem of its documents, its data and its probes.
    """
    reading = read_scenario(source, overrides)
    scenario = reading.scenario()
    problems = list(reading.problems)
    if scenario is not None:
        # A section that is wrong already is reported once, not again for what follows from it.
        known = {problem.path[:1] for problem in problems}
        problems += [problem for problem in _later(scenario) if problem.path[:1] not in known]
    if problems or scenario is None:
        raise InputError(sorted_problems(problems))
    return scenario


def _later(scenario: Scenario) -> list[Problem]:
    """Return the problems that show when data are loaded and probes are placed."""
    found: list[Problem] = []
    for step in (scenario.check, lambda: check(scenario, recorded(scenario))):
        try:
            step()
        except InputError as error:
            found += scenario.located(error).problems
    return found
