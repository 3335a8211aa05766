"""How the parameters of a training follow an optimiser: by NumPy, or compiled where the compiled engine runs anyway."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.optimisers import Optimiser, Settings, State

Array = np.ndarray


class Descent:
    """Moves parameters in place; both ways give the same bits."""

    def __init__(self, optimiser: Optimiser, settings: Settings, clip: float | None, *, compiled: bool) -> None:
        self.optimiser, self.settings, self.clip = optimiser, settings, clip
        self.compiled: Callable[..., Any] | None = None
        if compiled:
            self.compiled = import_module("pcsim.engines.jit.kernels.descent").STEPS.get(optimiser.formula)

    def step(
        self, parameters: Mapping[str, Array], updates: Mapping[str, Array], kept: Mapping[str, State],
        rate: float, scale: float, number: int,
    ) -> None:  # fmt: skip
        """Move all parameters along their updates, which are multiplied by ``scale`` and then clipped."""
        bounded = 1.0 if self.clip is not None else scale
        constants = self.optimiser.constants(rate, bounded, self.settings, number)
        for name, theta in parameters.items():
            u = updates[name]
            if self.clip is not None:
                u = np.clip(u * u.dtype.type(scale), -self.clip, self.clip, dtype=u.dtype)
            if self.compiled is None or not (theta.flags.c_contiguous and u.flags.c_contiguous):
                self.optimiser.step(theta, u, kept[name], constants)
            else:
                typed = tuple(theta.dtype.type(constant) for constant in constants)
                self.compiled(theta, u, *(kept[name][key] for key in self.optimiser.keeps), typed)
