"""Every number of a run, tick by tick: recorded ones, and for the rest the run computed again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, RunError
from pcsim.graph.crossings import crossings
from pcsim.run.probes import UNITS
from pcsim.run.rerun import Rerun, rerun_of, task_again
from pcsim.trace.entries import BLOCK, entries, how_to_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcsim.engines import Task
    from pcsim.run.rerun import Key, Progress
    from pcsim.run.result import Run
    from pcsim.trace.entries import Entry

RECORDED, AGAIN, FROM = "recorded", "computed again", "computed from the above"
"""Where a number is from: the trace, the run computed again from its scenario, or the lines before it."""


MAY_DIFFER = {"float64": 1e-12, "float32": 2e-5}
"""How far engines may differ, relative to the largest number that is read of a vertex at a tick."""


@dataclass(frozen=True)
class Line:
    """One line of a ledger: numbers (batch, *shape), and where they are from; None where they are not known."""

    name: str
    numbers: np.ndarray | None
    origin: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the line as plain data."""
        numbers = None if self.numbers is None else self.numbers.tolist()
        return {"name": self.name, "numbers": numbers, "origin": self.origin, "note": self.note}


@dataclass
class Numbers:
    """Every number of a run: recorded ones, and for the rest the run computed again."""

    run: Run
    progress: Progress | None = None
    notes: dict[str, None] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """What was run."""
        return task_again(self.run)

    @cached_property
    def rerun(self) -> Rerun | None:
        """The run computed again; None where that cannot be, which is noted."""
        try:
            return rerun_of(self.run, self.progress)
        except (InputError, RunError) as error:
            self.notes[str(error)] = None
            return None

    @cached_property
    def _entries(self) -> dict[Key, tuple[Entry, int]]:
        return {
            (entry.title, name): (entry, place)
            for entry in entries(self.run.trace)
            if "tick" in entry.array.dims and entry.title.split()[-1] in (*UNITS, "message")
            for place, name in enumerate(entry.names)
        }

    @cached_property
    def _whole(self) -> dict[int, np.ndarray]:
        return {}

    def recorded(self, key: Key, tick: int) -> np.ndarray | None:
        """Return what the trace holds, (batch, *shape); None where it was not recorded."""
        entry, place = self._entries.get(key, (None, 0))
        if entry is None:
            return None
        ticks = entry.array.coords["tick"].values
        row = int(np.searchsorted(ticks, tick))
        if row == len(ticks) or ticks[row] != tick:
            return None
        if entry.array.size > BLOCK:
            return np.asarray(entry.array[row, place].values)
        if id(entry) not in self._whole:
            self._whole[id(entry)] = entry.array.values
        return np.asarray(self._whole[id(entry)][row, place])

    def at(self, tick: int, keys: Iterable[Key]) -> dict[Key, Line]:
        """Return a line for each key at a tick."""
        found: dict[Key, Line] = {}
        for key in keys:
            numbers = self.recorded(key, tick)
            if numbers is None and key[0] == "value message":
                edge = self.task.graph.edge(key[1])
                if (edge.name, "value") not in crossings(self.task.graph):
                    numbers = self.recorded(("value", edge.pre), tick - edge.value_delay)
            found[key] = Line(key[0], numbers, RECORDED)
        if missing := [key for key, line in found.items() if line.numbers is None]:
            again = self._again(tick, found)
            found |= {key: Line(key[0], again.get(key), AGAIN if key in again else _how(*key)) for key in missing}
        return found

    def _again(self, tick: int, found: Mapping[Key, Line]) -> Mapping[Key, np.ndarray]:
        """Return what the run computed again holds; what differs from what was recorded is noted."""
        if self.rerun is None:
            return {}
        try:
            again = self.rerun.read(tick, list(found))
        except RunError as error:
            self.notes[str(error)] = None
            return {}
        largest = max(float(np.max(np.abs(again[key]), initial=0.0)) for key in found)
        for (quantity, name), line in found.items():
            if line.numbers is None:
                continue
            apart = float(np.max(np.abs(line.numbers - again[quantity, name]), initial=0.0))
            if apart > MAY_DIFFER[line.numbers.dtype.name] * largest:
                self.notes[f"computed again, the {quantity} of {name} at tick {tick} differs by {apart:.1e}"] = None
        return again


def _how(quantity: str, name: str) -> str:
    return f"not known; {how_to_record(quantity.split()[-1], name)}"
