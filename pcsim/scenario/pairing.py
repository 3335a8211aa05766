"""Fields of one data set that a scenario reads side by side must be of the same samples."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, Problem
from pcsim.scenario.data import dataset_of, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.scenario.datasets.dataset import Dataset
    from pcsim.scenario.scenario_document import DataEntry, ScenarioDocument


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


def order_remarks(document: ScenarioDocument) -> Iterator[Problem]:
    """Yield a remark for each target in another order than all inputs from the same data: legal, and often a slip."""
    orders: dict[Any, set[tuple[int, bool]]] = {}
    for _, entry in _entries(document.inputs):
        orders.setdefault(_source(entry), set()).add((entry.start, entry.shuffle))
    for name, entry in _entries(document.targets):
        mine, others = (entry.start, entry.shuffle), orders.get(_source(entry), set())
        if others and mine not in others:
            what = f"has start {mine[0]}, shuffle {str(mine[1]).lower()}, as no input from the same data has"
            yield Problem(("targets", name), f"{what}: it is of other samples than theirs")


def _entries(sources: dict[str, Any]) -> Iterator[tuple[str, DataEntry]]:
    """Yield (vertex, entry) of those that are right and name a file or a data set."""
    for name, source in sources.items():
        if isinstance(source, dict) and {"file", "dataset"} & set(source):
            try:
                yield str(name), entry_of(source)
            except InputError:
                continue


def _source(entry: DataEntry) -> tuple[Any, ...]:
    return entry.dataset, entry.file, entry.own_keys.get("folder")


def _said(value: Any) -> str:
    return "left out" if value is None else str(value)


def _datasets(document: ScenarioDocument) -> Iterator[tuple[str, str, Dataset, dict[str, Any]]]:
    """Yield (section, vertex, row, settings) of each entry that is right by itself; others are reported elsewhere."""
    for section, sources in (("inputs", document.inputs), ("targets", document.targets)):
        for name, entry in _entries(sources):
            if entry.dataset is not None:
                with suppress(InputError):
                    yield section, name, *dataset_of(entry)
