"""How the parameters of a training follow an optimiser: by code of the session that has them, or by NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.engines.base import Descends
    from pcsim.optimisers import Optimiser, Settings, State

Array = np.ndarray


class Descent:
    """Moves parameters in place; both ways give the same bits."""

    def __init__(self, optimiser: Optimiser, settings: Settings, clip: float | None) -> None:
        self.optimiser, self.settings, self.clip = optimiser, settings, clip

    def step(
        self, mover: Descends | None, parameters: Mapping[str, Array], updates: Mapping[str, Array],
        kept: Mapping[str, State], rate: float, scale: float, number: int,
    ) -> None:  # fmt: skip
        """Move all parameters along their updates, which are multiplied by ``scale`` and then clipped.

        ``mover`` does it, where there is one and it can.
        """
        bounded = 1.0 if self.clip is not None else scale
        constants = self.optimiser.constants(rate, bounded, self.settings, number)
        learnt = {name: self._clipped(updates[name], scale) for name in parameters}
        keeps = self.optimiser.keeps
        moves = [(theta, learnt[name], *(kept[name][key] for key in keeps)) for name, theta in parameters.items()]
        if mover is not None and mover.descend(self.optimiser.formula, moves, constants):
            return
        for name, theta in parameters.items():
            self.optimiser.step(theta, learnt[name], kept[name], constants)

    def _clipped(self, u: Array, scale: float) -> Array:
        if self.clip is None:
            return u
        clipped: Array = np.clip(u * u.dtype.type(scale), -self.clip, self.clip, dtype=u.dtype)
        return clipped
