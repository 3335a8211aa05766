"""Checks of whole files: everything that a run would refuse, without running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.documents import sorted_problems
from pcsim.errors import InputError, Problem
from pcsim.run.task import check, recorded
from pcsim.scenario.document_kind import kind_of
from pcsim.scenario.reader import load_graph, read_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.scenario.scenario import Scenario


def validate_file(path: Path) -> str:
    """Return a line that says a file is right; raises InputError with everything that is not."""
    if kind_of(path) == "graph":
        return f"{path}: ok: {load_graph(path)!r}"
    reading = read_scenario(path)
    scenario = reading.scenario()
    problems = list(reading.problems)
    if scenario is not None:
        # A section that is wrong already is reported once, not again for what follows from it.
        known = {problem.path[:1] for problem in problems}
        problems += [problem for problem in _later(scenario) if problem.path[:1] not in known]
    if problems:
        raise InputError(sorted_problems(problems))
    return f"{path}: ok: {scenario!r}"


def _later(scenario: Scenario) -> list[Problem]:
    """Return the problems that show when data are loaded and probes are placed."""
    found: list[Problem] = []
    for step in (scenario.check, lambda: check(scenario, recorded(scenario))):
        try:
            step()
        except InputError as error:
            found += scenario.located(error).problems
    return found
