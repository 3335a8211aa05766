"""Samples of a scenario's sources and outputs, by their number: what training is fed with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, wrong
from pcsim.scenario.data import Opened
from pcsim.scenario.datasets.dataset import at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.documents.frozen_arrays import FrozenArray
    from pcsim.scenario.datasets.dataset import Places
    from pcsim.scenario.task_data import TaskData

Array = np.ndarray

AT_ONCE = 2**20
"""So many numbers are scaled and rounded at once: what is read stays as it is in its file."""


@dataclass(frozen=True)
class Column:
    """Samples of one source or output.

    Attributes
    ----------
    take : places -> (places, *shape); raises InputError for samples that there are not
    at_hand : whether some of them are taken about as fast as they are copied, once the first are
    """

    take: Callable[[Places], Array]
    at_hand: bool


@dataclass(frozen=True)
class SampleReader:
    """Takes samples by their number, counted from each entry's ``start`` on; what it reads, it reads once.

    Sample i is the same whatever else is taken: also draws depend on seed, vertex and i alone.

    Attributes
    ----------
    data : what a scenario says of its data
    given : {"inputs" or "targets": {vertex: samples}}, which stand in for what the scenario says
    """

    data: TaskData
    given: Mapping[str, Mapping[str, FrozenArray]] = field(default_factory=dict)
    _read: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _open: dict[tuple[str, str | None], dict[str, Opened]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def available(self, split: str | None = None) -> int | None:
        """Return the fewest samples that a source or an output has; None: as many as are asked for.

        Parameters
        ----------
        split : the part of data sets, such as ``test``, in place of the one that entries say; draws are others there

        Raises
        ------
        InputError
            Where data are missing or do not fit, or have no such split.
        """
        rows = [*self._opened("inputs", split).values(), *self._opened("targets", split).values()]
        return min((row.count for row in rows if row.count is not None), default=None)

    def columns(self, section: str, split: str | None = None) -> dict[str, Column]:
        """Return {source or output: what takes its samples}; ``section`` is ``inputs`` or ``targets``.

        Raises InputError where data are missing or do not fit.
        """
        opened = self._opened(section, split)
        return {name: Column(partial(self._taken, section, name, row), row.at_hand) for name, row in opened.items()}

    def _opened(self, section: str, split: str | None) -> dict[str, Opened]:
        if (section, split) not in self._open:
            given = self.given.get(section, {})
            if given and split is not None:
                raise wrong(section, f"there is no split {split!r} of samples that are given as arrays: use start")
            found = self.data.opened(section, split, self._read, given)
            mine = {name: _of_array(values.array) for name, values in given.items()}
            self._open[section, split] = {**found, **mine}
        return self._open[section, split]

    def _taken(self, section: str, name: str, opened: Opened, places: Places) -> Array:
        try:
            found = self._rounded(name, opened, places)
        except InputError as error:
            raise error.map(lambda problem: problem.under(section, name)) from None
        if section == "targets":
            self.data.check_classes({name: found})
        return found

    def _rounded(self, name: str, opened: Opened, places: Places) -> Array:
        """Return (places, *shape) in the number format of a vertex; many samples in parts."""
        size = max(1, AT_ONCE // max(1, prod(self.data.graph.vertices[name].shape)))
        if len(places) <= size:
            return self.data.numbers(name, opened.take(places))
        first = self.data.numbers(name, opened.take(places[:size]))
        whole = np.empty((len(places), *first.shape[1:]), first.dtype)
        whole[:size] = first
        for start in range(size, len(places), size):
            whole[start : start + size] = self.data.numbers(name, opened.take(places[start : start + size]))
        return whole


def _of_array(array: Array) -> Opened:
    return Opened(len(array), lambda places: at(array, places), at_hand=True)
