"""Steps of optimisers, compiled: the formulas of ``pcsim.optimisers``, one number of a parameter after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.engines.jit.kernels.compiled import inline, jit, load, store
from pcsim.engines.jit.kernels.records import Record, address
from pcsim.optimisers import adam, heavy_ball, nesterov, sgd

if TYPE_CHECKING:
    from collections.abc import Callable

DESCENT = Record(
    "descent",
    theta=address("the parameter"),
    u=address("what was learnt of it"),
    first=address("what is kept of it"),
    second=address("what is also kept of it"),
    constants=address("the constants of the formula"),
)

CONSTANTS = 10
"""The most constants of a formula."""

descent_at = DESCENT.one()
sgd_formula, heavy_ball_formula = inline(sgd), inline(heavy_ball)
nesterov_formula, adam_formula = inline(nesterov), inline(adam)


@jit
def descend_sgd(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Move numbers ``low`` to ``high - 1`` of a parameter."""
    own = descent_at(table, at)
    theta, u, c = own.theta, own.u, own.constants
    constants = (load(memory, c), load(memory, c + 1), load(memory, c + 2))
    for i in range(low, high):
        (moved,) = sgd_formula(load(memory, theta + i), load(memory, u + i), constants)
        store(memory, theta + i, moved)


@jit
def descend_heavy_ball(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Move numbers ``low`` to ``high - 1`` of a parameter, and their velocity."""
    own = descent_at(table, at)
    theta, u, v, c = own.theta, own.u, own.first, own.constants
    constants = (load(memory, c), load(memory, c + 1), load(memory, c + 2), load(memory, c + 3))
    for i in range(low, high):
        numbers = load(memory, theta + i), load(memory, u + i), load(memory, v + i)
        moved, fast = heavy_ball_formula(*numbers, constants)
        store(memory, theta + i, moved)
        store(memory, v + i, fast)


@jit
def descend_nesterov(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Move numbers ``low`` to ``high - 1`` of a parameter, and their velocity."""
    own = descent_at(table, at)
    theta, u, v, c = own.theta, own.u, own.first, own.constants
    constants = (load(memory, c), load(memory, c + 1), load(memory, c + 2), load(memory, c + 3))
    for i in range(low, high):
        numbers = load(memory, theta + i), load(memory, u + i), load(memory, v + i)
        moved, fast = nesterov_formula(*numbers, constants)
        store(memory, theta + i, moved)
        store(memory, v + i, fast)


@jit
def descend_adam(memory: Any, table: Any, at: int, low: int, high: int, part: int, mode: int, tick: int) -> None:
    """Move numbers ``low`` to ``high - 1`` of a parameter, and their means."""
    own = descent_at(table, at)
    theta, u, mean, square, c = own.theta, own.u, own.first, own.second, own.constants
    constants = (
        load(memory, c), load(memory, c + 1), load(memory, c + 2), load(memory, c + 3), load(memory, c + 4),
        load(memory, c + 5), load(memory, c + 6), load(memory, c + 7), load(memory, c + 8), load(memory, c + 9),
    )  # fmt: skip
    for i in range(low, high):
        numbers = load(memory, theta + i), load(memory, u + i), load(memory, mean + i), load(memory, square + i)
        moved, first, second = adam_formula(*numbers, constants)
        store(memory, theta + i, moved)
        store(memory, mean + i, first)
        store(memory, square + i, second)


DESCENTS: dict[Callable[..., Any], Any] = {
    sgd: descend_sgd,
    heavy_ball: descend_heavy_ball,
    nesterov: descend_nesterov,
    adam: descend_adam,
}
"""Kernels by formula; a formula that is not here is NumPy's."""
