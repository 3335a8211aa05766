"""What to expect of inference before it is run, and what to change: plain sentences with figures.

>>> import pcsim
>>> document = {"graph": {"vertices": {"x": {"op": "input", "shape": []},
...                                    "h": {"op": "weighted_sum", "inputs": ["x"]},
...                                    "y": {"op": "weighted_sum", "inputs": [{"from": "h", "delay": {"value": 3}}]}},
...                       "outputs": ["y"]},
...             "inputs": {"x": 1.0}, "targets": {"y": 2.0}, "rule": {"name": "il", "step_size": 0.9, "ticks": 200}}
>>> pcsim.advise(document).verdict
'converges'
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.conditions import why_not_closed_form, why_not_exact
from pcsim.analysis.oracle import Oracle, limit_size, oracle, relaxes, slowest, steepest_without_delays
from pcsim.analysis.theory import predicted_gradient_ticks, rounding_floor
from pcsim.engines.base import with_changes
from pcsim.errors import wrong
from pcsim.graph.levels import levels
from pcsim.run.evaluation import criterion_of
from pcsim.scenario.reader import load
from pcsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pcsim.engines.base import Task
    from pcsim.scenario.reader import Source

CONVERGES, NEVER, UNKNOWN = "converges", "does not converge", "not known"

MARGIN = 20
"""Of the predicted ticks one in so many is advised on top: the linear forecast may be a few short."""
SATURATED = 1e-3
"""A vertex that passes back less than this part of an error is saturated."""
SOONER = 0.8
"""Another step size is advised where it takes less than this part of the ticks."""
SLOWED = 1.05
"""Delays are spoken of where without them step sizes could be so many times as large."""
LONG = 1_000_000
"""Ticks up to which a tick is predicted where errors follow a closed form."""


@dataclass(frozen=True)
class Advice:
    """What is known of a run before it runs.

    Attributes
    ----------
    verdict : ``converges``, ``does not converge`` or ``not known``
    ticks : first tick from which every error is within the tolerance of its limit, however long the run is
    horizon : ticks of the run
    factor : what the distance from the limit is multiplied by in a tick, in the end
    period : ticks in which the slowest mode swings there and back
    stable_below : the step size from which on it does not converge
    fastest_step, fastest_ticks : the step size at which it converges fastest, and the ticks that this takes
    slowest : the vertices in which what vanishes last is largest
    says : all of this in sentences, and what to change
    """

    rule: str
    step_size: float
    tolerance: float
    horizon: int
    verdict: str
    ticks: int | None = None
    factor: float | None = None
    period: float | None = None
    stable_below: float | None = None
    fastest_step: float | None = None
    fastest_ticks: int | None = None
    slowest: tuple[str, ...] = ()
    says: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.rule}, step size {self.step_size:g}: {self.verdict}", *self.says])

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def advise(source: Scenario | Source, overrides: Mapping[str, Any] | None = None) -> Advice:
    """Tell, before a run, whether it converges, after how many ticks, why not, and what to change.

    Parameters
    ----------
    source, overrides : a Scenario, or what ``pcsim.load`` takes; for these {dotted key: value}

    Raises
    ------
    InputError
        If the scenario is wrong, or nothing is known of its rule.
    """
    scenario = source if isinstance(source, Scenario) else load(source, overrides)
    task, tolerance = scenario.task(), criterion_of(scenario)[1]
    if not task.rule.moving:
        return _of_fixed(task, tolerance)
    if task.rule.fires.at_front:
        return _of_front(task, tolerance)
    if not relaxes(task.rule):
        known = "il, il-variance, fpa, zil, fa-zil, bp"
        raise scenario.located(
            wrong(("rule", "name"), f"nothing is known of how {task.rule.name} converges; take {known}")
        )
    return _of_moving(task, tolerance)


def _advice(task: Task, tolerance: float, verdict: str, **known: Any) -> Advice:
    return Advice(task.rule.name, task.rule.step_size, tolerance, task.ticks, verdict, **known)


def _of_fixed(task: Task, tolerance: float) -> Advice:
    """Return what the closed form of fixed predictions says."""
    if task.rule.fires.at_front:
        return _of_front(task, tolerance)
    step_size, floor = task.rule.step_size, rounding_floor(task)
    if step_size >= 2:
        says = f"errors grow without bound from step size 2 on, and it is {step_size:g}: take rule.step_size=1"
        return _advice(task, tolerance, NEVER, stable_below=2.0, fastest_step=1.0, says=(says,))
    if reason := why_not_closed_form(task):
        return _advice(task, tolerance, UNKNOWN, stable_below=2.0, says=(f"no closed form holds: {reason}",))
    at_one = predicted_gradient_ticks(with_changes(task, _at(task, 1.0, LONG)), tolerance)
    known = {"stable_below": 2.0, "fastest_step": 1.0, "fastest_ticks": at_one}
    if floor > tolerance:
        grown = f"above step size 1 roundings grow at every edge, here to {floor:.1g}"
        advised = f"{grown}: take rule.step_size=1, which takes {at_one} ticks"
        return _advice(task, tolerance, NEVER, says=(advised,), **known)
    ticks = predicted_gradient_ticks(with_changes(task, _at(task, step_size, LONG)), tolerance)
    said = [*_when(task, ticks, tolerance, "backprop's")]
    if ticks is not None and at_one is not None and at_one < SOONER * ticks:
        said.append(f"at step size 1 it takes {at_one} ticks: rule.step_size=1")
    return _advice(task, tolerance, UNKNOWN if ticks is None else CONVERGES, ticks=ticks, says=tuple(said), **known)


def _at(task: Task, step_size: float, ticks: int) -> dict[str, Any]:
    return {"rule": replace(task.rule, step_size=step_size), "ticks": ticks}


def _of_front(task: Task, tolerance: float) -> Advice:
    """Return what is known of rules that learn as the first errors come."""
    ticks = levels(task.graph)
    known = {"fastest_step": task.rule.exact_step, "fastest_ticks": ticks - 1}
    if reason := why_not_exact(task):
        says = f"what is learnt is not backprop's: {reason}"
        return _advice(task, tolerance, NEVER, says=(says,), **known)
    says = f"what is learnt is backprop's, at tick {ticks - 1}: it takes as many ticks as the graph has levels"
    return _advice(task, tolerance, CONVERGES, ticks=ticks - 1, says=(says,), **known)


def _of_moving(task: Task, tolerance: float) -> Advice:
    """Return what the dynamics at the limit say."""
    found = oracle(task)
    if not isinstance(found, Oracle):
        if found.kink is None:
            return _advice(task, tolerance, UNKNOWN, says=(f"it cannot be known: {found.reason}",))
        why = (
            f"{found.reason}: on one side errors push its input down, on the other predictions pull it up, so that it "
            "comes to no end at any step size; a smaller step only makes the swing smaller"
        )
        change = f"take a smooth function for {found.kink!r}, such as softplus or gelu in place of relu"
        return _advice(task, tolerance, NEVER, says=(why, change))
    ticks, fastest = found.ticks(tolerance), found.fastest
    sooner = oracle(with_changes(task, _at(task, fastest[0], task.ticks))) if fastest else None
    return _advice(
        task, tolerance, {True: CONVERGES, False: NEVER, None: UNKNOWN}[found.stable], ticks=ticks,
        factor=found.radius, period=found.period, stable_below=found.stable_below,
        fastest_step=fastest[0] if fastest else None,
        fastest_ticks=sooner.ticks(tolerance) if isinstance(sooner, Oracle) else None, slowest=slowest(found),
        says=tuple(_sentences(task, found, tolerance, sooner if isinstance(sooner, Oracle) else None)),
    )  # fmt: skip


def _sentences(task: Task, found: Oracle, tolerance: float, sooner: Oracle | None) -> Iterator[str]:
    if found.stable:
        yield from _when(task, found.ticks(tolerance), tolerance, "its limit")
    for say in SAYS:
        if text := say(found, tolerance):
            yield text
    yield from _better(found, tolerance, sooner)


def _when(task: Task, ticks: int | None, tolerance: float, limit: str) -> Iterator[str]:
    if ticks is None:
        yield f"no tick is known from which every error is within {tolerance:g} of {limit}"
        return
    yield f"every error is within {tolerance:g} of {limit} from tick {ticks:,} on"
    if ticks >= task.ticks:
        yield f"the run ends before, after {task.ticks:,} ticks: take rule.ticks={ticks + ticks // MARGIN + 1}"


def _why_not(found: Oracle, _tolerance: float) -> str | None:
    if found.stable is not False:
        return None
    step_size, factor = found.task.rule.step_size, found.radius
    grows = "does not shrink" if factor is None or factor < 1 + 1e-6 else f"grows by a factor of {factor:.6g} in a tick"
    swing = f", swinging there and back in {found.period:.3g} ticks" if found.period else ""
    text = f"near its limit the distance {grows} at step size {step_size:g}{swing}"
    bounded = "; where functions bend or saturate it ends in an oscillation that never ends"
    return text + bounded


def _delays(found: Oracle, _tolerance: float) -> str | None:
    without, depth = steepest_without_delays(found), found.linearised.depth
    if not depth or found.stable_below is None or without is None:
        return None
    times = without / found.stable_below
    if times < SLOWED:
        return None
    return (
        f"delays of up to {depth} ticks there and back keep stable step sizes below {found.stable_below:.4g}; "
        f"without delays they would be below {without:.4g}, {times:.2g} times as large"
    )


def _late_values(found: Oracle, _tolerance: float) -> str | None:
    depth, ticks = found.linearised.depth, found.task.ticks
    if depth < ticks:
        return None
    way = f"the longest way of a value to an error and back takes {depth} ticks"
    return f"{way}: after {ticks} what it changes has not come yet"


def _floor(found: Oracle, tolerance: float) -> str | None:
    eps = float(np.finfo(found.task.dtype).eps)
    name, times = limit_size(found)
    if eps * times <= tolerance:
        return None
    return (
        f"the error of {name!r} is {1 / times:.1g} of its value: in {found.task.dtype} rounding keeps it about "
        f"{eps * times:.1g} of itself from its limit, beyond the tolerance; take dtype=float64 or a larger tolerance"
    )


def _saturated(found: Oracle, _tolerance: float) -> str | None:
    dim = {name: share for name, share in found.limit.gains.items() if share < SATURATED}
    if not dim:
        return None
    name = min(dim, key=lambda one: dim[one])
    passes = f"{name!r} is saturated: it passes back {dim[name]:.1g} of its error"
    return f"{passes}, and next to nothing reaches what lies before it"


def _slowest(found: Oracle, _tolerance: float) -> str | None:
    names = slowest(found)
    return f"what vanishes last lies in {', '.join(names)}" if names and found.stable else None


SAYS: tuple[Callable[[Oracle, float], str | None], ...] = (
    _why_not,
    _delays,
    _late_values,
    _floor,
    _saturated,
    _slowest,
)
"""What may be said of a run; each says nothing where it is not so."""


def _better(found: Oracle, tolerance: float, sooner: Oracle | None) -> Iterator[str]:
    below = found.stable_below
    if below is None or not isfinite(below):
        return
    now, then = found.ticks(tolerance), sooner.ticks(tolerance) if sooner else None
    yield f"step sizes below {below:.4g} are stable"
    if sooner is not None and then is not None and (now is None or then < SOONER * now):
        yield f"fastest is rule.step_size={sooner.task.rule.step_size:.4g}, which takes {then:,} ticks"
