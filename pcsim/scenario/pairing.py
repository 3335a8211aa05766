"""Fields of one data set that a scenario reads side by side must be of the same samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, Problem
from pcsim.scenario.data import dataset_of, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.scenario.datasets.dataset import Dataset
    from pcsim.scenario.scenario_document import ScenarioDocument


def check_pairs(document: ScenarioDocument) -> None:
    """Raise InputError where entries of one data set differ in what decides which sample is which.

    Texts and folders that differ are different data, which may well belong together.
    """
    first: dict[Any, tuple[str, dict[str, Any]]] = {}
    problems = []
    for section, name, row, given in _datasets(document):
        kept, seen = (row.name, given.get("folder"), given.get("file")), f"{section}.{name}"
        before, others = first.setdefault(kept, (seen, given))
        differs = [key for key in row.paired if given[key] != others[key]]
        if differs:
            key = differs[0]
            what = f"{key} {_said(given[key])}, and at {before} {_said(others[key])}"
            problems.append(
                Problem((section, name), f"data set {row.name!r} has {what}: samples do not belong together")
            )
    if problems:
        raise InputError(problems)


def _said(value: Any) -> str:
    return "left out" if value is None else str(value)


def _datasets(document: ScenarioDocument) -> Iterator[tuple[str, str, Dataset, dict[str, Any]]]:
    """Yield (section, vertex, row, settings) of each entry that is right by itself; others are reported elsewhere."""
    for section, sources in (("inputs", document.inputs), ("targets", document.targets)):
        for name, source in sources.items():
            if isinstance(source, dict) and "dataset" in source:
                try:
                    row, given = dataset_of(entry_of(source))
                except InputError:
                    continue
                yield section, str(name), row, given
