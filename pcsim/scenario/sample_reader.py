"""Samples of a scenario's sources and outputs, by their number: what training is fed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.scenario.data import DATASETS, entry_of

if TYPE_CHECKING:
    from pcsim.scenario.scenario import Scenario

Array = np.ndarray


@dataclass
class SampleReader:
    """Loads as many samples as have been asked for, counted from each entry's ``start`` on."""

    scenario: Scenario
    loaded: Scenario | None = None

    def available(self, split: str | None = None) -> int | None:
        """Return how many samples there are; None: as many as are asked for."""
        if split is not None:
            raise wrong(("train",), f"there is no split {split!r}: say where samples start")
        document = self.scenario.document
        entries = [entry_of(source) for source in (*document.inputs.values(), *document.targets.values())]
        known = [DATASETS[entry.dataset].samples - entry.start for entry in entries if entry.dataset in DATASETS]
        return min(known, default=None)

    def inputs(self, places: Any, _split: str | None = None) -> dict[str, Array]:
        """Return {source: (places, *shape)}."""
        return {name: array[places] for name, array in self._upto(places).inputs().items()}

    def targets(self, places: Any, _split: str | None = None) -> dict[str, Array]:
        """Return {output: (places, *shape)}."""
        return {name: array[places] for name, array in self._upto(places).targets().items()}

    def _upto(self, places: Any) -> Scenario:
        end = int(np.max(places)) + 1
        if self.loaded is None or self.loaded.document.batch < end:
            self.loaded = self.scenario.sized(end)
        return self.loaded
