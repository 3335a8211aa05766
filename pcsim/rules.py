"""How values and parameters move: an algorithm is a row of data, read by every engine.

No engine asks for a rule's name, nor for a firing policy's. What a row may say:

- ``moving``: predictions and Jacobians follow the values (else they stay as they were at tick 0);
- ``step_size``: gamma of ``x(t+1) = x(t) + gamma (-Pi eps + sum J^T Pi eps)`` ([M] eq. 2, [S] eq. 7);
- ``fires``: at which ticks a parameter takes what it receives, a row of ``FIRINGS``;
- ``output_variance``: k, which divides the precision of the outputs and multiplies the update ([Z] 3.3);
- ``dynamics``: what a vertex keeps from tick to tick, a row of ``DYNAMICS``; an engine says which of them it runs.

With multipliers (``alm``) a free vertex holds the constraint ``eps = 0`` by a Lagrange multiplier lambda. The augmented
Lagrangian ``L + sum of lambda eps + rho/2 eps Pi eps`` descends along x and ascends along lambda, both in a tick: ``x
+= gamma (-c + sum of J^T c)`` and ``lambda += alpha eps``, where the credit ``c = lambda + rho Pi eps`` is what a
vertex sends and its parameters take; an output sends ``Pi eps``, the slope of the loss. At rest eps is zero: values are
those of the feedforward sweep, and ``lambda = sum of J^T c`` with the loss at the end is backprop's error. On a linear
graph, away from its outputs, along each singular value s of ``I - d mu / d x``, a tick multiplies by the roots of ``z^2
- (2 - gamma rho s^2) z + 1 - gamma (rho - alpha) s^2``: stable where alpha < rho and gamma (2 rho - alpha) s^2 < 4. A
multiplier that takes the error of a tick before it is sent is the same run with rho less by alpha, so that rho 2 and
alpha 1 here are the rho 1 and alpha 1 of the paper.

With errors (``epc``) a vertex keeps e and is worth ``x = mu + e``, so that F is ``1/2 sum of e Pi e`` and the loss of
what comes out. A tick sweeps values forward and then ``g = -dL/dx`` back, and ``e += gamma (g - Pi e)``. At rest ``Pi e
= g`` at every vertex, which is where ``il`` comes to rest. F is curved by Pi and, beyond that, along as many directions
as the outputs have units, so that depth does not slow it; steps must stay below 2 over the greatest curvature.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from pcsim.errors import InputError, Problem, nearest, whole

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Firing:
    """When a parameter takes what a vertex that uses it sends: a firing policy, as a row of facts.

    Attributes
    ----------
    due : (tick, level, last) -> whether a vertex may fire at this tick. ``level`` is its level in ticks (-1 where no
        output is reached), or an array of levels, for which a mask is returned; ``last`` says that no tick follows.
    waits : of the ticks that are due, only the first counts at which the vertex's error is not exactly zero.
    applies : parameters change within the run, by the learning rate, whenever something has fired; not under a rule
        whose predictions are fixed.
    at_front : a vertex fires once, with the first error that reaches it: at the tick of its level or on arrival. On
        a levelled graph no input of it has moved by then, and what is still to be learnt does not depend on it after.
    only_last : nothing is due before the last tick.
    """

    name: str
    summary: str
    due: Callable[[int, Any, bool], Any]
    waits: bool = False
    applies: bool = False
    at_front: bool = False
    only_last: bool = False

    def __reduce__(self) -> Any:
        """Let pickle and copy keep the name of a row of ``FIRINGS``: its function cannot be written down."""
        known = FIRINGS.get(self.name) is self
        return (firing_named, (self.name,)) if known else object.__reduce_ex__(self, 2)


_FIRINGS = (
    Firing("end", "once, in the last tick", lambda _tick, _level, last: last, only_last=True),
    Firing("level", "at the tick equal to the level of the vertex that uses it ([S] eq. 16)",
           lambda tick, level, _last: level == tick, at_front=True),
    Firing("arrival", "when the error of the vertex that uses it first leaves zero",
           lambda _tick, level, _last: level >= 0, waits=True, at_front=True),
    Firing("every", "at every tick", lambda _tick, _level, _last: True, applies=True),
)  # fmt: skip

FIRINGS: dict[str, Firing] = {row.name: row for row in _FIRINGS}


def firing_named(name: str) -> Firing:
    """Return a firing policy by its name; raises KeyError where this process has none."""
    return FIRINGS[name]


DYNAMICS: dict[str, str] = {
    "values": "a value",
    "multipliers": "a value and a Lagrange multiplier",
    "errors": "an error, and sweep the whole graph in a tick",
}
"""What vertices keep from tick to tick: values move by the errors that arrive, multipliers add up errors."""


@dataclass(frozen=True)
class Rule:
    """One algorithm, as a checked row of facts.

    Attributes
    ----------
    step_size : float
        gamma, dimensionless, above 0.
    ticks : int or "levels"
        How long inference lasts; ``levels`` is 1 + the largest level of the graph.
    learning_rate : float
        Used inside a run only by rules that fire at every tick.
    levelled : bool
        The rule brings levelling by delays with it (``bp``: no vertex moves before all its error is in).
    exact_step : float or None
        The only step size for which the rule equals backprop, where there is one.
    needs : str
        A signal from outside the actor that the rule depends on; empty when it is local in time.
    dynamics : str
        What a vertex keeps, a key of ``DYNAMICS``.
    rho, multiplier_step : float
        Weight of the error in the credit, and alpha, the step size of multipliers; used where vertices keep them.
    """

    name: str
    summary: str
    moving: bool
    fires: Firing
    source: str
    step_size: float = 0.1
    ticks: int | Literal["levels"] = 100
    output_variance: float = 1.0
    learning_rate: float = 0.01
    levelled: bool = False
    exact_step: float | None = None
    needs: str = ""
    dynamics: str = "values"
    rho: float = 2.0
    multiplier_step: float = 1.0

    def __post_init__(self) -> None:
        problems = [
            Problem((key,), f"must be a finite number above 0, got {value!r}")
            for key in ("step_size", "output_variance", "learning_rate", "rho", "multiplier_step")
            if not _positive(value := getattr(self, key))
        ]
        if (ticks := _ticks(self.ticks)) is None:
            message = f"must be a whole number of at least 1, or 'levels', got {self.ticks!r}"
            problems.append(Problem(("ticks",), message))
        else:
            object.__setattr__(self, "ticks", ticks)
        if self.fires.applies and not self.moving:
            message = (
                f"{self.fires.name!r} changes parameters within the run, and predictions stay as they were at tick 0"
            )
            problems.append(Problem(("fires",), message))
        if problems:
            raise InputError(problems)

    @property
    def compares_with_backprop(self) -> bool:
        """Whether the rule's errors have the backprop errors as their limit or their value."""
        return not self.moving or self.fires.at_front or self.keeps_multipliers

    @property
    def keeps_multipliers(self) -> bool:
        """Whether free vertices have a multiplier, and send and learn from it."""
        return self.dynamics == "multipliers"

    @property
    def sweeps(self) -> bool:
        """Whether a tick is a sweep forward and one back, in which every error reaches every vertex."""
        return self.dynamics == "errors"


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0


def _ticks(value: Any) -> int | Literal["levels"] | None:
    """Return the length of a run; None where a value is none."""
    if isinstance(value, str):
        return "levels" if value == "levels" else None
    with suppress(ValueError):
        return count if (count := whole(value)) >= 1 else None
    return None


_ROWS = (
    Rule("il", "standard predictive coding: predictions follow the values, learn at the end",
         moving=True, fires=FIRINGS["end"], source="[WB]; [Z] eq. 3.10"),
    Rule("fpa", "fixed predictions: Jacobians as in the feedforward sweep, learn at the end",
         moving=False, fires=FIRINGS["end"], source="[M] algorithm 1; [Z] eq. 3.23"),
    Rule("zil", "zero-divergence inference learning: a parameter learns at the tick equal to its level",
         moving=True, fires=FIRINGS["level"], step_size=1.0, ticks="levels", exact_step=1.0,
         needs="the tick number, compared with the level", source="[S] algorithm 3, eq. 16"),
    Rule("fa-zil", "fully autonomous zil: a parameter learns when its vertex's error first leaves zero",
         moving=True, fires=FIRINGS["arrival"], step_size=1.0, ticks="levels", exact_step=1.0, source="[So]"),
    Rule("bp", "reverse-mode backprop on the clock: one vertex after the other, by level",
         moving=False, fires=FIRINGS["level"], step_size=1.0, ticks="levels", levelled=True, exact_step=1.0,
         needs="the tick number, compared with the level", source="[S] eq. 2-4"),
    Rule("incremental", "standard predictive coding whose parameters learn at every tick",
         moving=True, fires=FIRINGS["every"], source="incremental predictive coding, Salvatori et al. 2024"),
    Rule("il-variance", "standard predictive coding with output variance k and the learning rate times k",
         moving=True, fires=FIRINGS["end"], output_variance=100.0, source="[WB]; [Z] section 3.3, case 2"),
    Rule("epc", "predictive coding in errors: vertices keep errors, each tick sweeps forward and back",
         moving=True, fires=FIRINGS["end"], step_size=0.5, ticks=8, dynamics="errors",
         needs="an order of all vertices: a tick is a sweep there and back", source="ePC, arXiv 2505.20137"),
    Rule("alm", "augmented Lagrangian: a multiplier at each vertex adds up its error and becomes backprop's",
         moving=True, fires=FIRINGS["end"], step_size=0.25, ticks=300, dynamics="multipliers",
         source="PC-ALM, arXiv 2605.31022"),
)  # fmt: skip

RULES: dict[str, Rule] = {row.name: row for row in _ROWS}

OF_MULTIPLIERS = ("rho", "multiplier_step")

SETTINGS = ("step_size", "ticks", "output_variance", "learning_rate", *OF_MULTIPLIERS)
"""What a scenario may change in a row."""


def rule(name: str, **settings: Any) -> Rule:
    """Return a row of ``RULES`` with some of its ``SETTINGS`` changed.

    Raises InputError for an unknown name or setting, or a value outside its range.
    """
    if name not in RULES:
        raise InputError([Problem(("name",), f"unknown rule {name!r}" + nearest(name, RULES, "pcsim list rules"))])
    row = RULES[name]
    problems = [
        Problem((key,), f"unknown setting {key!r}" + nearest(key, SETTINGS)) for key in settings if key not in SETTINGS
    ] + [
        Problem((key,), f"rule {name!r} keeps no multipliers; leave it out, or take a rule that does: alm")
        for key in settings
        if key in OF_MULTIPLIERS and not row.keeps_multipliers
    ]
    if problems:
        raise InputError(problems)
    return replace(row, **settings)
