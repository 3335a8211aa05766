"""Steps of optimisers, compiled: the formulas of ``pcsim.optimisers``, one number of a parameter after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.engines.jit.kernels.compiled import inline, jit, load, store
from pcsim.optimisers import adam, heavy_ball, nesterov, sgd

if TYPE_CHECKING:
    from collections.abc import Callable

sgd_formula, heavy_ball_formula = inline(sgd), inline(heavy_ball)
nesterov_formula, adam_formula = inline(nesterov), inline(adam)


@jit
def sgd_step(theta: Any, u: Any, constants: Any) -> None:
    """Move a parameter."""
    for i in range(theta.size):
        (moved,) = sgd_formula(load(theta, i), load(u, i), constants)
        store(theta, i, moved)


@jit
def heavy_ball_step(theta: Any, u: Any, velocity: Any, constants: Any) -> None:
    """Move a parameter and its velocity."""
    for i in range(theta.size):
        moved, fast = heavy_ball_formula(load(theta, i), load(u, i), load(velocity, i), constants)
        store(theta, i, moved)
        store(velocity, i, fast)


@jit
def nesterov_step(theta: Any, u: Any, velocity: Any, constants: Any) -> None:
    """Move a parameter and its velocity."""
    for i in range(theta.size):
        moved, fast = nesterov_formula(load(theta, i), load(u, i), load(velocity, i), constants)
        store(theta, i, moved)
        store(velocity, i, fast)


@jit
def adam_step(theta: Any, u: Any, mean: Any, square: Any, constants: Any) -> None:
    """Move a parameter and its means."""
    for i in range(theta.size):
        moved, first, second = adam_formula(load(theta, i), load(u, i), load(mean, i), load(square, i), constants)
        store(theta, i, moved)
        store(mean, i, first)
        store(square, i, second)


STEPS: dict[Callable[..., Any], Any] = {
    sgd: sgd_step,
    heavy_ball: heavy_ball_step,
    nesterov: nesterov_step,
    adam: adam_step,
}
"""Compiled steps, by formula; a formula that is not here is NumPy's."""
