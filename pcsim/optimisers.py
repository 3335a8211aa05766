"""How parameters follow what was learnt: a table of optimisers, each one a formula for a number of a parameter.

An optimiser is given u, what the rule learnt of a batch (``session.updates()``), and a scale, such as 1 over the
samples. Its direction is d = scale u - decay theta (adamw: theta itself shrinks). A formula holds for a number as for
arrays of them: NumPy takes whole arrays, compiled code one number after the other, with the same bits. Constants are of
the number format of the parameters. The rows of torch.optim with these names do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

Array = np.ndarray
State = dict[str, Array]
"""What an optimiser keeps of one parameter from step to step: {name: array of its shape}."""

Settings = Mapping[str, float]


@dataclass(frozen=True)
class Setting:
    """A number that an optimiser takes: its default, and the half-open range that it lies in."""

    default: float
    summary: str
    low: float = 0.0
    high: float = float("inf")


RATE = Setting(0.01, "learning rate: what a step is multiplied by")
DECAY = Setting(0.0, "weight decay: the descent direction loses so much of the parameter")
BETAS = {
    "beta1": Setting(0.9, "share of the mean direction that is kept", high=1.0),
    "beta2": Setting(0.999, "share of the mean square that is kept", high=1.0),
    "epsilon": Setting(1e-8, "added to the root of the mean square"),
}


Formula = Callable[..., tuple[Any, ...]]
"""(theta, u, what is kept ..., constants) -> (theta, what is kept ...)."""


@dataclass(frozen=True)
class Optimiser:
    """One optimiser, as a row of facts.

    Attributes
    ----------
    formula : what becomes of a number of a parameter, and of what is kept of it
    constants : (rate, scale, settings, number of the step from 1 on) -> what the formula takes beside arrays
    settings : what it takes, by name
    keeps : the names of what it keeps of each parameter from step to step
    """

    name: str
    summary: str
    formula: Formula
    constants: Callable[[float, float, Settings, int], tuple[float, ...]]
    keeps: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""

    def begin(self, theta: Array) -> State:
        """Return the state of a parameter before the first step."""
        return {name: np.zeros_like(theta) for name in self.keeps}

    def step(self, theta: Array, u: Array, state: State, constants: tuple[float, ...]) -> None:
        """Move a parameter, and what is kept of it, in place."""
        typed = tuple(theta.dtype.type(constant) for constant in constants)
        arrays = [theta, *(state[name] for name in self.keeps)]
        for array, value in zip(arrays, self.formula(theta, u, *arrays[1:], typed), strict=True):
            array[...] = value


def sgd(theta: Any, u: Any, constants: Any) -> tuple[Any, ...]:
    """Theta + rate d."""
    rate, scale, decay = constants
    return (theta + rate * (scale * u - decay * theta),)


def heavy_ball(theta: Any, u: Any, velocity: Any, constants: Any) -> tuple[Any, ...]:
    """V <- momentum v + d; theta + rate v (Polyak 1964)."""
    rate, scale, decay, momentum = constants
    moved = momentum * velocity + (scale * u - decay * theta)
    return theta + rate * moved, moved


def nesterov(theta: Any, u: Any, velocity: Any, constants: Any) -> tuple[Any, ...]:
    """V <- momentum v + d; theta + rate (d + momentum v) (Sutskever et al. 2013)."""
    rate, scale, decay, momentum = constants
    direction = scale * u - decay * theta
    moved = momentum * velocity + direction
    return theta + rate * (direction + momentum * moved), moved


def adam(theta: Any, u: Any, mean: Any, square: Any, constants: Any) -> tuple[Any, ...]:
    """Theta + rate m' / (sqrt(v') + epsilon): m' and v' are the means of d and of its square, without their bias.

    First theta is multiplied by ``shrink``, which is 1 but for adamw (Loshchilov & Hutter 2019).
    """
    rate, scale, decay, shrink, beta1, rest1, beta2, rest2, root, epsilon = constants
    direction = scale * u - decay * theta
    first, second = beta1 * mean + rest1 * direction, beta2 * square + rest2 * (direction * direction)
    return shrink * theta + rate * (first / (np.sqrt(second) / root + epsilon)), first, second


def _plain(rate: float, scale: float, settings: Settings, _number: int) -> tuple[float, ...]:
    return rate, scale, settings["weight_decay"]


def _with_momentum(rate: float, scale: float, settings: Settings, number: int) -> tuple[float, ...]:
    return *_plain(rate, scale, settings, number), settings["momentum"]


def _adaptive(rate: float, scale: float, settings: Settings, number: int, *, apart: bool = False) -> tuple[float, ...]:
    beta1, beta2, decay = settings["beta1"], settings["beta2"], settings["weight_decay"]
    own, shrink = (0.0, 1 - rate * decay) if apart else (decay, 1.0)
    corrected, root = rate / (1 - beta1**number), (1 - beta2**number) ** 0.5
    return corrected, scale, own, shrink, beta1, 1 - beta1, beta2, 1 - beta2, root, settings["epsilon"]


MOMENTUM = Setting(0.9, "share of the velocity that is kept", high=1.0)
_MOVING = {"rate": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}
_SLOW = Setting(1e-3, RATE.summary)
_APART = Setting(0.01, "weight decay: parameters shrink by the rate times this")

_ROWS = (
    Optimiser("sgd", "gradient descent", sgd, _plain,
              settings={"rate": RATE, "weight_decay": DECAY}, source="Robbins & Monro 1951"),
    Optimiser("momentum", "gradient descent with momentum", heavy_ball, _with_momentum, ("velocity",), _MOVING,
              "Polyak 1964"),
    Optimiser("nesterov", "gradient descent with Nesterov's momentum", nesterov, _with_momentum, ("velocity",), _MOVING,
              "Sutskever et al. 2013"),
    Optimiser("adam", "steps of the mean direction over the root mean square", adam, _adaptive, ("mean", "square"),
              {"rate": _SLOW, **BETAS, "weight_decay": DECAY}, "Kingma & Ba 2015"),
    Optimiser("adamw", "adam, with weight decay apart from the direction", adam, partial(_adaptive, apart=True),
              ("mean", "square"), {"rate": _SLOW, **BETAS, "weight_decay": _APART}, "Loshchilov & Hutter 2019"),
)  # fmt: skip

OPTIMISERS: dict[str, Optimiser] = {row.name: row for row in _ROWS}
