"""How parameters follow what was learnt: a table of optimisers, each one a step in place.

An optimiser is given the descent direction u, what the rule learnt of a batch (``session.updates()``, divided by the
number of samples where the mean is asked for). With weight decay the direction is u - decay theta (adamw: theta itself
shrinks). All arithmetic is in the number format of the parameters, as that of the rows of torch.optim with these names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

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


@dataclass(frozen=True)
class Optimiser:
    """One optimiser, as a row of facts.

    Attributes
    ----------
    settings : what it takes, by name
    keeps : the names of what it keeps of each parameter from step to step
    step : (theta, u, state, rate, settings, number of the step from 1 on) moves theta, state and u in place
    """

    name: str
    summary: str
    step: Callable[[Array, Array, State, float, Settings, int], None]
    keeps: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""

    def begin(self, theta: Array) -> State:
        """Return the state of a parameter before the first step."""
        return {name: np.zeros_like(theta) for name in self.keeps}


def decayed(theta: Array, u: Array, settings: Settings) -> None:
    """Let the descent direction lose ``weight_decay`` theta."""
    if settings["weight_decay"]:
        u -= u.dtype.type(settings["weight_decay"]) * theta


def descend(theta: Array, u: Array, state: State, rate: float, settings: Settings, number: int) -> None:
    """Theta += rate u."""
    decayed(theta, u, settings)
    u *= u.dtype.type(rate)
    theta += u


def heavy_ball(theta: Array, u: Array, state: State, rate: float, settings: Settings, number: int) -> None:
    """V <- momentum v + u; theta += rate v (Polyak 1964)."""
    decayed(theta, u, settings)
    velocity = state["velocity"]
    velocity *= u.dtype.type(settings["momentum"])
    velocity += u
    theta += u.dtype.type(rate) * velocity


def nesterov(theta: Array, u: Array, state: State, rate: float, settings: Settings, number: int) -> None:
    """V <- momentum v + u; theta += rate (u + momentum v) (Sutskever et al. 2013)."""
    decayed(theta, u, settings)
    velocity, momentum = state["velocity"], u.dtype.type(settings["momentum"])
    velocity *= momentum
    velocity += u
    u += momentum * velocity
    u *= u.dtype.type(rate)
    theta += u


def adam(theta: Array, u: Array, state: State, rate: float, settings: Settings, number: int) -> None:
    """Theta += rate m' / (sqrt(v') + epsilon), m' and v' the means of u and u^2 without their bias."""
    decayed(theta, u, settings)
    _adam(theta, u, state, rate, settings, number)


def adamw(theta: Array, u: Array, state: State, rate: float, settings: Settings, number: int) -> None:
    """Theta loses rate weight_decay theta, then as adam without decay (Loshchilov & Hutter 2019)."""
    if settings["weight_decay"]:
        theta *= u.dtype.type(1 - rate * settings["weight_decay"])
    _adam(theta, u, state, rate, settings, number)


def _adam(theta: Array, u: Array, state: State, rate: float, settings: Settings, number: int) -> None:
    kind, (beta1, beta2) = u.dtype.type, (settings["beta1"], settings["beta2"])
    mean, square = state["mean"], state["square"]
    mean *= kind(beta1)
    mean += kind(1 - beta1) * u
    square *= kind(beta2)
    np.square(u, out=u)
    u *= kind(1 - beta2)
    square += u
    np.sqrt(square, out=u)
    u /= kind((1 - beta2**number) ** 0.5)
    u += kind(settings["epsilon"])
    np.divide(mean, u, out=u)
    u *= kind(rate / (1 - beta1**number))
    theta += u


MOMENTUM = Setting(0.9, "share of the velocity that is kept", high=1.0)

_ROWS = (
    Optimiser("sgd", "gradient descent", descend,
              settings={"rate": RATE, "weight_decay": DECAY}, source="Robbins & Monro 1951"),
    Optimiser("momentum", "gradient descent with momentum", heavy_ball, ("velocity",),
              {"rate": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}, "Polyak 1964"),
    Optimiser("nesterov", "gradient descent with Nesterov's momentum", nesterov, ("velocity",),
              {"rate": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}, "Sutskever et al. 2013"),
    Optimiser("adam", "steps of the mean direction over the root mean square", adam, ("mean", "square"),
              {"rate": Setting(1e-3, RATE.summary), **BETAS, "weight_decay": DECAY}, "Kingma & Ba 2015"),
    Optimiser("adamw", "adam, with weight decay apart from the direction", adamw, ("mean", "square"),
              {"rate": Setting(1e-3, RATE.summary), **BETAS, "weight_decay": Setting(0.01, "weight decay: parameters "
               "shrink by rate times this")}, "Loshchilov & Hutter 2019"),
)  # fmt: skip

OPTIMISERS: dict[str, Optimiser] = {row.name: row for row in _ROWS}
