"""The measures of a run as rows of a table: each a function from what was seen to plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, isinf, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcsim.analysis.backprop import side_by_side
from pcsim.analysis.channel_traffic import channel_traffic
from pcsim.analysis.conditions import has_closed_form, why_not_closed_form
from pcsim.analysis.exactness import blame, known_beforehand
from pcsim.analysis.meter import cone_of
from pcsim.analysis.oracle import Oracle, oracle
from pcsim.analysis.theory import (
    SETTLED_FROM,
    arrived,
    gradient_due,
    nothing_to_learn,
    paths,
    predicted_gradient_ticks,
    relaxation,
    rounding_floor,
)
from pcsim.analysis.unpredicted import why_no_ticks
from pcsim.analysis.windows import SHRINKS, TRIPS
from pcsim.engines.base import kept_by_task
from pcsim.engines.squares import row_products
from pcsim.graph.crossings import why_channels
from pcsim.graph.levels import levels, vertex_levels
from pcsim.program.lower import lower

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.analysis.backprop import Reference
    from pcsim.analysis.meter import Measured
    from pcsim.engines.base import Session, Task
    from pcsim.graph.graph import Graph

Array = np.ndarray


@dataclass(frozen=True)
class Evidence:
    """What a run left to be measured."""

    task: Task
    session: Session
    meter: Measured
    reference: Reference


@dataclass(frozen=True)
class Measure:
    """One measure: what it says, and how it is taken."""

    name: str
    summary: str
    take: Callable[[Evidence], dict[str, Any]]
    source: str = ""
    backprop: bool = False
    """Whether it compares with backprop, which a cyclic graph has not."""


def _ticks_to_convergence(found: Evidence) -> dict[str, Any]:
    meter, task = found.meter, found.task
    predicted = predicted_ticks(task, meter.criterion, meter.tolerance)
    return {
        "ticks": meter.converged_at,
        "criterion": meter.criterion,
        "tolerance": meter.tolerance,
        "horizon": task.ticks,
        "predicted": predicted,
        **({"no_prediction": why_no_ticks(task, meter.criterion, meter.tolerance)} if predicted is None else {}),
    }


def predicted_ticks(task: Task, criterion: str, tolerance: float) -> int | None:
    """Return the ticks to convergence that theory has in closed form; None where it has none."""
    if nothing_to_learn(task):
        return 0
    if criterion == "gradient":
        return predicted_gradient_ticks(task, tolerance)
    if criterion == "limit":
        known = oracle(task)
        ticks = known.ticks(tolerance) if isinstance(known, Oracle) else None
        return ticks if ticks is not None and ticks < task.ticks else None
    found = relaxation(task) if criterion in ("update", "settled") else None
    if found is None:
        return None
    if found.never_moves:
        return 0 if criterion == "settled" else 1 if task.ticks > 1 else None
    cone = cone_of(task)
    reached = max((tick for tick in cone.values() if tick is not None), default=0)
    first = SETTLED_FROM if criterion == "settled" else 1
    return found.ticks_until(criterion, tolerance, task.ticks, start=max(reached, first))


def _first_arrival(found: Evidence) -> dict[str, Any]:
    cone = cone_of(found.task)
    ticks = dict(zip(found.meter.names, found.meter.arrival.tolist(), strict=True))
    return {
        "vertices": {name: {"tick": _none(ticks[name]), "light_cone": cone[name]} for name in found.task.graph.active},
        "before_light_cone": [name for name, tick in ticks.items() if tick >= 0 and tick < (cone[name] or 0)],
    }


def _none(tick: int) -> int | None:
    return None if tick < 0 else tick


class Sums(NamedTuple):
    """Sums over two arrays, float64.

    Attributes
    ----------
    got, wanted, apart : squares of each, and of their difference
    product : products of both
    most : the greatest absolute difference
    zero : the first of the arrays is zero everywhere
    """

    got: float
    wanted: float
    apart: float
    product: float
    most: float
    zero: bool

    @classmethod
    def of(cls, row: Sequence[float]) -> Sums:
        """Return the sums of a column of ``sums_of``."""
        got, wanted, apart, product, most, zero = row
        return cls(got, wanted, apart, product, most, bool(zero))

    @property
    def safe(self) -> bool:
        """Whether no square overflowed or vanished, so that the figures follow from the sums."""
        apart = self.most == 0 or LEAST < self.apart < MOST
        return apart and (self.zero or LEAST < self.got < MOST) and LEAST < self.wanted < MOST

    def credit(self) -> dict[str, float | None]:
        """Return the part of ``wanted`` that ``got`` has along it, and the cosine; None beyond the range of squares."""
        cosine = self.figures()["cosine"] if self.safe and not self.zero else None
        return {"share": _finite(self.product / self.wanted) if self.wanted > LEAST else None, "cosine": cosine}

    def figures(self) -> dict[str, float | None]:
        """Return what ``compare`` returns."""
        got, wanted, apart, product, most, zero = self
        away, length = sqrt(apart), sqrt(wanted)
        cosine = None if zero else product / (sqrt(got) * length)
        return {"relative": away / length, "cosine": cosine, "euclidean": away, "max_abs": most}


LEAST, MOST = 1e-290, 1e290
"""Squares below and above these may have lost something to the ends of float64."""


def sums_of(got: Array, wanted: Array, squares: Array) -> Array:
    """Return (6, pairs), the fields of ``Sums``, over pairs of rows; ``squares`` are those of ``wanted``, summed."""
    apart = got - wanted
    mine, away, product = (row_products(a, b) for a, b in ((got, got), (apart, apart), (got, wanted)))
    most = np.maximum(apart.max(axis=1, initial=0.0), 0.0 - apart.min(axis=1, initial=0.0))  # no -0.0
    zero = (mine == 0) & ~got.any(axis=1) if not mine.all() else np.zeros(len(mine), bool)
    return np.stack([mine, squares, away, product, most, zero])


def compared(updates: Mapping[str, Array], reference: Reference) -> tuple[dict[str, Sums], Sums]:
    """Return the sums of each parameter, and of all of them together."""
    names: list[str] = []
    columns = [np.zeros((6, 0))]
    with np.errstate(all="ignore"):
        for each, wanted, squares in reference.pieces:
            names += each
            columns.append(sums_of(side_by_side(updates, each), wanted, squares))
        table = np.concatenate(columns, axis=1)
        whole = [*table[:4].sum(axis=1).tolist(), float(table[4].max(initial=0.0)), float(table[5].all())]
    found = dict(zip(names, map(Sums.of, table.T.tolist()), strict=True))
    return {name: found[name] for name in updates}, Sums.of(whole)


def compare(got: Array, wanted: Array) -> dict[str, float | None]:
    """Return how far ``got`` is from ``wanted``: relative L2, cosine, Euclidean, greatest absolute.

    ``relative`` and ``cosine`` are None where ``wanted`` is zero and ``got`` is not.
    Source: [S] tables 1 and 3 (Euclidean).
    """
    a, b = (array.reshape(1, -1).astype(np.float64, copy=False) for array in (got, wanted))
    with np.errstate(all="ignore"):
        sums = Sums.of(sums_of(a, b, row_products(b, b))[:, 0].tolist())
    return sums.figures() if sums.safe else _compare_scaled(got, wanted)


def _compare_scaled(got: Array, wanted: Array) -> dict[str, float | None]:
    """Compare numbers whose squares may overflow or vanish, and zeros."""
    a, b = got.ravel().astype(np.float64), wanted.ravel().astype(np.float64)
    with np.errstate(over="ignore"):
        apart = a - b
    scale, length, away = _length(b), _length(a), _length(apart)
    return {
        "relative": _finite(away / scale) if scale else 0.0 if away == 0 else None,
        "cosine": float((a / length) @ (b / scale)) if length and scale else None,
        "euclidean": _finite(away),
        "max_abs": _finite(float(np.max(np.abs(apart), initial=0.0))),
    }


def _length(array: Array) -> float:
    """Return the Euclidean norm, also of numbers whose squares overflow or vanish."""
    most = float(np.max(np.abs(array), initial=0.0))
    return most * float(np.linalg.norm(array / most)) if 0 < most < np.inf else most


def _divergence(found: Evidence) -> dict[str, Any]:
    updates, wanted, meter = found.session.updates(), found.reference.gradients, found.meter
    sums, whole = compared(updates, found.reference)
    parameters = {
        name: each.figures() if each.safe else _compare_scaled(updates[name], wanted[name])
        for name, each in sums.items()
    }
    everything = whole.figures() if whole.safe else _compare_scaled(_joined(updates), _joined(wanted))
    return {
        "updates": everything if updates else None,
        "vertices": {name: _finite(value) for name, value in zip(meter.names, meter.learnt.tolist(), strict=True)},
        "parameters": parameters,
        "worst_vertex": _finite(meter.worst),
        "blame": blame(found.task.graph, found.task.rule),
    }


def _joined(arrays: Mapping[str, Array]) -> Array:
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)]) if arrays else np.zeros(0)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _energy(found: Evidence) -> dict[str, Any]:
    first, last = found.meter.first_energy, found.meter.energy
    return {"first": _finite(first), "last": _finite(last), "loss": _finite(found.reference.loss)}


@kept_by_task
def traffic_of(task: Task) -> dict[str, int]:
    """Return the bytes and messages that cross edges in one tick, by direction."""
    return lower(task.graph, task.rule).traffic(task.batch, task.dtype.itemsize)


def _traffic(found: Evidence) -> dict[str, Any]:
    task, ticks = found.task, found.meter.tick + 1
    per_tick = traffic_of(task)
    whole = {"per_tick": per_tick, "run": {key: count * ticks for key, count in per_tick.items()}}
    channels = {"channels": channel_traffic(task, found.session, ticks)} if task.graph.has_channels else {}
    return {**whole, **channels}


def _signal_fraction(found: Evidence) -> dict[str, Any]:
    measured = found.meter.by_level
    predicted = _predicted_fraction(found.task, found.meter.tick)
    reason = {"no_prediction": _why_no_fraction(found.task)}
    return {
        str(level): {"measured": _finite(value), "predicted": predicted.get(level)}
        | ({} if level in predicted else reason)
        for level, value in measured.items()
    }


@kept_by_task
def _why_no_fraction(task: Task) -> str:
    """Return why theory has no fraction for a level."""
    if reason := why_not_closed_form(task):
        return reason
    if not task.rule.fires.only_last:
        return f"under rule {task.rule.name} parameters change on the way"
    several = "errors come over paths of several lengths or delays"
    return several if paths(task.graph) is not None else "there are too many kinds of path"


@kept_by_task
def _predicted_fraction(task: Task, tick: int) -> dict[int, float]:
    """Return the fraction at each level by the closed form, where all vertices of the level share one kind of path."""
    known = paths(task.graph) if has_closed_form(task) and task.rule.fires.only_last else None
    if known is None:
        return {}
    kinds: dict[int, set[tuple[int, int]]] = {}
    for name, level in vertex_levels(task.graph).items():
        if level is not None and name in known:
            kinds.setdefault(level, set()).update(known[name])
    return {
        level: float(arrived(hops, tick - delay, task.rule.step_size))
        for level, here in kinds.items()
        if len(here) == 1
        for hops, delay in here
    }


def _late_firing(found: Evidence) -> dict[str, Any]:
    """Vertices of a rule that fires on arrival whose error was exactly zero when it should have come.

    A vertex from which no output can be reached has no error to wait for.
    """
    if not found.task.rule.fires.waits:
        return {}
    reached = vertex_levels(found.task.graph)
    cone = {name: due for name, due in cone_of(found.task).items() if reached[name] is not None}
    ticks = dict(zip(found.meter.names, found.meter.arrival.tolist(), strict=True))
    return {
        name: {"fired": _none(ticks[name]), "expected": due}
        for name, due in cone.items()
        if due is not None and ticks[name] != due
    }


def _parallel_ticks(found: Evidence) -> dict[str, Any]:
    """Count ticks on a clock on which a message crosses one edge a tick, all actors at once, first sweep included."""
    task = found.task
    ticks, sweep = found.meter.tick + 1, 0 if task.graph.cyclic else levels(task.graph)
    if getattr(found.session, "settled", False):
        return {"ticks": ticks, "sweep": sweep, "parallel_ticks": None}
    each = 2 * sweep if task.rule.sweeps else 1
    return {"ticks": ticks, "sweep": sweep, "parallel_ticks": (0 if task.rule.sweeps else sweep) + each * ticks}


def _credit(found: Evidence) -> dict[str, Any]:
    """Return how much of backprop's gradient is in each update: <update, gradient> / |gradient|^2, and the cosine."""
    sums, whole = compared(found.session.updates(), found.reference)
    return {"updates": whole.credit(), "parameters": {name: each.credit() for name, each in sums.items()}}


MEASURES = {
    row.name: row
    for row in (
        Measure("ticks_to_convergence", "first tick from which the criterion stays within the tolerance, beside theory",
                _ticks_to_convergence, "negative binomial ticks; linear modes"),
        Measure("first_arrival", "first tick at which each error is not exactly zero, beside the light cone",
                _first_arrival, "[Z] theorem 1"),
        Measure("divergence", "relative L2, cosine, Euclidean and greatest difference from backprop", _divergence,
                "[S] tables 1 and 3", backprop=True),
        Measure("energy", "free energy at the first and the last tick, and the loss", _energy, "[M] eq. 1; [S] eq. 6"),
        Measure("traffic", "messages and bytes that crossed edges, by direction", _traffic),
        Measure("signal_fraction", "share of the backprop error that has arrived, by level, beside theory",
                _signal_fraction, "negative binomial", backprop=True),
        Measure("late_firing", "vertices that fired later than their error was due (rules that fire on arrival)",
                _late_firing, "[So]"),
        Measure("parallel_ticks", "ticks on a clock on which a message crosses an edge in one, sweeps counted in full",
                _parallel_ticks, "[Z] eq. 3.27-3.36, with one tick for each call"),
        Measure("credit", "share of backprop's gradient in what each parameter learnt, and the cosine", _credit,
                "projection on the gradient", backprop=True),
    )
}  # fmt: skip


def measures_of(graph: Graph) -> list[str]:
    """Return the measures that a graph can have."""
    return [row.name for row in MEASURES.values() if not (row.backprop and graph.cyclic)]


_STILL = {
    "signal": "a vertex is still without {} of backprop's error",
    "limit": "an error is still {} times its size away from its limit",
    "settled": "an error is still an estimated {} times its size away from its limit",
    "update": "a value still changes by {} a tick",
    "energy": "the free energy still changes by {} of itself a tick",
}


def _share(value: float) -> str:
    return f"{value:.1%}" if abs(value) < 100 else f"{_read_out(value)} times"


def _read_out(value: float) -> str:
    """Return a number of two digits as people write it: 0.0012, 3.4, 2,400; beyond a million as 2.4e+06."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if 100 <= abs(rounded) < 1e6 else f"{rounded:g}"


def _under_converged(found: Evidence) -> str | None:
    task, meter = found.task, found.meter
    if getattr(found.session, "settled", False):
        return None
    if not task.rule.compares_with_backprop:
        if meter.converged_at is not None or meter.criterion == "gradient":
            return None
        return f"under-converged: {_unrest_now(task, meter)} (tolerance {meter.tolerance:g})"
    if meter.worst <= meter.tolerance:
        due = gradient_due(task, meter.tolerance)
        text = f"under-converged: near backprop for now, but what is still on its way can change that until tick {due}"
        return text if meter.tick < due else None
    worst = _read_out(meter.worst)
    away = f"under-converged: the error still differs from backprop by {worst} (tolerance {meter.tolerance:g})"
    if task.rule.step_size >= 2 and not task.rule.fires.at_front:
        return f"{away}; from step size 2 on errors grow without bound"
    return away + _arrived_so_far(meter) + _below_floor(task, meter)


def _unrest_now(task: Task, meter: Measured) -> str:
    """Return how far a run is from rest, and why, as far as that can be known."""
    if meter.criterion == "limit" and not isfinite(meter.criterion_value):
        return why_no_ticks(task, meter.criterion, meter.tolerance)
    if meter.window > 1 and meter.tick < 3 * meter.window:
        return (
            f"nothing is known of where it ends: with these delays that takes {3 * meter.window} ticks, three times "
            f"{TRIPS} round trips of the slowest edge"
        )
    still = _STILL[meter.criterion].format(_read_out(meter.criterion_value))
    what = still if isfinite(meter.criterion_value) else "no limit is in sight"
    if task.rule.fires.applies and meter.criterion != "settled":
        what += "; parameters learn at every tick: small steps may grow again until errors are at their limits"
    if meter.window == 1 or not meter.swings >= SHRINKS:
        return what
    return f"{what}; it oscillates or grows: step size {task.rule.step_size:g} may be too large for these delays"


def _below_floor(task: Task, meter: Measured) -> str:
    """Return that rounding keeps errors further from backprop than the tolerance; empty where it does not."""
    floor = rounding_floor(task) if has_closed_form(task) else 0.0
    return "" if floor <= meter.tolerance else (
        f"; above step size 1 roundings grow on their way, here perhaps to {floor:.1g}: no more ticks bring it nearer"
    )  # fmt: skip


def _arrived_so_far(meter: Measured) -> str:
    low = {
        level: value
        for level, value in meter.by_level.items()
        if isfinite(value) and not abs(value - 1) <= max(meter.tolerance, 1e-9)
    }
    depths = ", ".join(f"level {level}: {_share(value)}" for level, value in list(low.items())[:8])
    return f"; of the error there arrived, at {depths}{', ...' if len(low) > 8 else ''}" if depths else ""


def _frozen(found: Evidence) -> str | None:
    frozen = found.session.frozen()
    if not frozen:
        return None
    first, tick = next(iter(frozen.items()))
    who = f"vertex {first!r} (tick {tick})" + (f" and {len(frozen) - 1} more, each" if len(frozen) > 1 else "")
    what = "left the range of numbers after it had fired, and was frozen"
    return f"{who} {what}; no update learnt when it was due depends on it"


def _fired_late(found: Evidence) -> str | None:
    if nothing_to_learn(found.task):
        return None
    late = list(_late_firing(found))
    return f"fired late, with an error exactly zero when it was due: {', '.join(late[:5])}" if late else None


def _crossing_channels(found: Evidence) -> str | None:
    rule, reason = found.task.rule, why_channels(found.task.graph)
    follows = reason and rule.compares_with_backprop and not rule.keeps_multipliers
    return f"rule {rule.name} follows backprop where every message is delivered, and {reason}" if follows else None


def _beyond_format(found: Evidence) -> str | None:
    energies = (found.meter.first_energy, found.meter.energy, found.reference.loss)
    what = "squares of errors are beyond float64: energy and norms are left out where they would be infinite"
    return f"{what}; errors and updates do not depend on them" if any(map(isinf, energies)) else None


WARNINGS = (_frozen, _fired_late, _crossing_channels, _beyond_format)


def warnings(found: Evidence) -> list[str]:
    """Return what a reader should know before using the result, in sentences."""
    known = known_beforehand(found.task.graph, found.task.rule, found.meter.tick)
    seen = (row(found) for row in WARNINGS)
    return [said for said in (_under_converged(found), *known, *seen) if said is not None]
