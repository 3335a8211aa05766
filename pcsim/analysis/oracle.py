"""What becomes of inference, known before the run: where it ends, whether it gets there, and after how many ticks.

The limit is solved for, the dynamics are linearised there, delays and all (``linearised``), and a few ticks of the run
itself say how far from it the linear part begins. It answers ``il``; what cannot be known is said, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, isfinite, log
from typing import TYPE_CHECKING

import numpy as np

from pcsim.analysis.backprop import sweep
from pcsim.analysis.conditions import coupled
from pcsim.analysis.dynamics import dynamics_of
from pcsim.analysis.equilibrium import equilibrium
from pcsim.analysis.linearised import Linearised, NotKnownError, below
from pcsim.engines.base import gammas, kept_by_task
from pcsim.errors import InputError, RunError
from pcsim.graph.crossings import why_channels

if TYPE_CHECKING:
    from pcsim.analysis.dynamics import Dynamics
    from pcsim.engines.base import Task
    from pcsim.rules import Rule

Array = np.ndarray

EXACT = 1e-9
"""A limit is known where what moves values is at most this part of the errors that it is the difference of."""
MOST_NEWTON = 30
MOST_UNITS = 1500
"""Units of a sample beyond which the last steps to the limit are taken by products alone."""
ON_THE_CIRCLE = 1e-9
"""A distance that shrinks by less than this part of itself in a tick does not shrink."""
BEGIN = 12
"""Ticks that are run before what is left is taken as linear; with delays, two of the longest ways more."""
MOST_BEGIN = 3000
ZERO = 1e-9
"""Errors below this part of the whole graph's, in the limit, are compared on its scale."""
MOST_AHEAD = 10_000_000
"""Ticks beyond which none is predicted."""


def relaxes(rule: Rule) -> bool:
    """Return whether values relax as under ``il``, and parameters stay until the end."""
    return rule.moving and rule.fires.only_last and rule.dynamics == "values"


def why_no_oracle(task: Task) -> str:
    """Return what keeps the limit of a run from being solved for; empty where nothing does."""
    rule, graph = task.rule, task.graph
    if not relaxes(rule):
        return f"rule {rule.name} does not relax as il does"
    if graph.has_channels:
        return why_channels(graph)
    if together := coupled(graph):
        return f"{together[0]!r} couples the samples of a batch"
    if len(set(gammas(task, list(graph.active)).tolist())) > 1:
        return "vertices have different step sizes"
    return ""


@dataclass(frozen=True)
class Limit:
    """Where inference ends: values (batch, units of free vertices) and errors (batch, units of active vertices)."""

    dynamics: Dynamics
    point: Array
    errors: Array

    @cached_property
    def scales(self) -> dict[str, float]:
        """What distances from each vertex's error are divided by: its norm, or that of all errors where it is zero."""
        norms = {name: float(np.linalg.norm(self.errors[:, units])) for name, units in self.dynamics.shown.items()}
        whole = float(np.linalg.norm(self.errors)) or 1.0
        return {name: size if size > ZERO * whole else whole for name, size in norms.items()}

    @cached_property
    def gains(self) -> dict[str, float]:
        """How much of an error each vertex passes back to free vertices, |J^T g| / |g| of a random g."""
        found, history = {}, [self.point] * (self.dynamics.depth + 1)
        for name, back in self.dynamics.back.items():
            if back:
                found[name] = self.dynamics.gain(name, history)
        return found

    def error_of(self, name: str) -> Array:
        """Return the error of a vertex, all samples side by side."""
        return self.errors[:, self.dynamics.shown[name]].ravel()

    def distances(self, errors: Array) -> dict[str, float]:
        """Return how far the error of each vertex is from its limit, relative to its size."""
        away = errors - self.errors
        return {name: float(np.linalg.norm(away[:, units])) / self.scales[name]
                for name, units in self.dynamics.shown.items()}  # fmt: skip

    def distance(self, errors: Array) -> float:
        """Return the greatest of these."""
        return max(self.distances(errors).values(), default=0.0)


def slowest(found: Oracle) -> tuple[str, ...]:
    """Return the vertices that hold half of the slowest mode, the largest first; none where it is not worked out."""
    near = found.linearised
    if not near.dense or not near.dynamics.size:
        return ()
    values, vectors = np.linalg.eig(near.companion(found.task.rule.step_size, near.samples))
    sample, mode = np.unravel_index(np.abs(values).argmax(), values.shape)
    shares = np.abs(vectors[sample, : near.dynamics.size, mode]) ** 2
    by_name = {name: float(shares[units].sum()) for name, units in near.dynamics.where.items()}
    order = sorted(by_name, key=lambda name: -by_name[name])
    summed = np.cumsum([by_name[name] for name in order])
    return tuple(order[: int(np.searchsorted(summed, 0.5 * summed[-1])) + 1])


def steepest_without_delays(found: Oracle) -> float | None:
    """Return the step size that would be stable were there no delays."""
    near = found.linearised
    if not near.written or not near.dynamics.size:
        return None
    whole = sum((force[near.samples] for force, _ in near.slopes.values()), np.zeros(1))
    return below(np.linalg.eigvals(-whole))


def limit_size(found: Oracle) -> tuple[str, float]:
    """Return the vertex whose value is largest beside its error in the limit, and how many times as large it is."""
    dynamics, limit = found.limit.dynamics, found.limit
    sizes = {
        name: float(np.linalg.norm(limit.point[:, units])) / limit.scales[name]
        for name, units in dynamics.where.items()
    }
    name = max(sizes, key=lambda one: sizes[one], default="")
    return name, sizes.get(name, 0.0)


def limit_from(dynamics: Dynamics, start: Array) -> Limit | None:
    """Return the limit that Newton's method reaches from some values; None where it reaches none."""
    point = start
    for _ in range(MOST_NEWTON):
        history = [point] * (dynamics.depth + 1)
        force, errors = dynamics.force(history)
        size = float(np.abs(errors).max(initial=0.0))
        if not isfinite(size):
            return None
        if float(np.abs(force).max(initial=0.0)) <= EXACT * max(size, np.finfo(float).tiny):
            return Limit(dynamics, point, errors)
        step = _newton(dynamics, point, force)
        if step is None:
            return None
        point = _lower(dynamics, point, force, step)
    return None


def _lower(dynamics: Dynamics, point: Array, force: Array, step: Array) -> Array:
    """Return the point a step further, each sample halving its own until what moves it is less."""
    before, rate = np.linalg.norm(force, axis=1), np.ones(len(point))
    for _ in range(12):
        there = point + rate[:, None] * step
        after = np.linalg.norm(dynamics.force([there] * (dynamics.depth + 1))[0], axis=1)
        worse = ~(after < before) & (before > 0)
        if not worse.any():
            break
        rate = np.where(worse, rate / 2, rate)
    return np.asarray(there)


def _newton(dynamics: Dynamics, point: Array, force: Array) -> Array | None:
    near = Linearised(dynamics, point)
    if dynamics.size <= MOST_UNITS and near.written:
        slope = sum((pair[0] for pair in near.slopes.values()), np.zeros((dynamics.size, dynamics.size)))
        try:
            return np.asarray(np.linalg.solve(-slope, force[:, :, None])[:, :, 0])
        except np.linalg.LinAlgError:
            return None
    from scipy.sparse.linalg import LinearOperator, gmres

    def product(flat: Array) -> Array:
        way = flat.reshape(force.shape)
        return -dynamics.along(point, np.broadcast_to(way, (dynamics.depth + 1, *way.shape))).ravel()

    step, failed = gmres(
        LinearOperator((force.size,) * 2, matvec=product, dtype=float), force.ravel(), rtol=1e-6, maxiter=20
    )
    return None if failed < 0 else step.reshape(force.shape)


@dataclass(frozen=True)
class Oracle:
    """What is known of a run before it runs.

    Attributes
    ----------
    begun : values of the first ticks, the newest first, and the tick that they are from
    """

    task: Task
    limit: Limit
    begun: tuple[list[Array], int]

    @cached_property
    def linearised(self) -> Linearised:
        """The dynamics at the limit."""
        return Linearised(self.limit.dynamics, self.limit.point)

    @cached_property
    def leading(self) -> Array | None:
        """The eigenvalues of a tick, the largest first; None where they were not found."""
        try:
            return self.linearised.leading(self.task.rule.step_size)
        except NotKnownError:
            return None

    @property
    def radius(self) -> float | None:
        """The factor by which the distance from the limit changes in a tick, in the end."""
        return None if self.leading is None else float(np.abs(self.leading[0]))

    @property
    def stable(self) -> bool | None:
        """Whether small distances from the limit shrink; None where that cannot be known."""
        if self.stable_below is not None and self.task.rule.step_size < self.stable_below:
            return True
        return None if self.radius is None else self.radius < 1 - ON_THE_CIRCLE

    @property
    def period(self) -> float | None:
        """Ticks in which the slowest mode swings once there and back; None where it does not swing."""
        if self.leading is None:
            return None
        angle = float(abs(np.angle(self.leading[0])))
        return 2 * np.pi / angle if angle > 1e-6 else None

    @cached_property
    def stable_below(self) -> float | None:
        """The largest stable step size; None where that cannot be known."""
        try:
            found = self.linearised.stable_below
        except NotKnownError:
            return None
        return found if isfinite(found) else None

    @cached_property
    def fastest(self) -> tuple[float, float] | None:
        """The step size at which the distance shrinks fastest, and its factor a tick."""
        try:
            return None if self.stable_below is None else self.linearised.fastest(self.stable_below)
        except NotKnownError:
            return None

    def ticks(self, tolerance: float) -> int | None:
        """Return the tick from which every error is within a tolerance of its limit, relative to its size.

        None where it never is, or that cannot be known.
        """
        if not self.stable:
            return None
        return _ticks(self, tolerance)


def _ticks(oracle: Oracle, tolerance: float) -> int | None:
    dynamics, (history, tick) = oracle.limit.dynamics, oracle.begun
    seen = [oracle.limit.distance(dynamics.force(history[back:], tick - back)[1]) for back in range(_shown(oracle))]
    if not all(map(isfinite, seen)):
        return None
    if not dynamics.size or max(seen) == 0:
        return 0
    if not oracle.linearised.dense:
        return _by_slowest(oracle, seen[0], tick, tolerance)
    found = _Series(oracle, tolerance).last_outside()
    if found is None:
        return None
    return tick + found + 1 if found >= 0 else _last_outside(oracle, tolerance)


def _shown(oracle: Oracle) -> int:
    """Return for how many of the ticks that were run errors can still be worked out from the values that are kept."""
    history, _ = oracle.begun
    return max(1, len(history) - oracle.limit.dynamics.depth)


def _last_outside(oracle: Oracle, tolerance: float) -> int:
    """Return the first tick from which errors stay within a tolerance, where the ticks that were run reach that far."""
    history, tick = oracle.begun
    for back in range(1, tick + 1):
        if oracle.limit.distance(oracle.limit.dynamics.force(history[back:], tick - back)[1]) > tolerance:
            return tick - back + 1
    return 0


def _by_slowest(oracle: Oracle, distance: float, tick: int, tolerance: float) -> int | None:
    """Return the ticks that the slowest mode takes from where the run begins to be linear."""
    assert oracle.radius is not None
    ahead = log(distance / tolerance) / -log(oracle.radius) if distance > tolerance else 0
    return tick + ceil(ahead) if ahead < MOST_AHEAD else None


class _Series:
    """How far errors are from their limit at ticks to come, by powers of the companion matrix."""

    WINDOW = 16
    """Ticks that must all be within a tolerance, and more with delays: modes that swing leave it again."""

    def __init__(self, oracle: Oracle, tolerance: float) -> None:
        near, (history, _) = oracle.linearised, oracle.begun
        self.near, self.limit, self.tolerance = near, oracle.limit, tolerance
        self.once = near.companion(oracle.task.rule.step_size, near.samples)
        self.window = max(self.WINDOW, 2 * near.depth)
        parts = [history[min(late, len(history) - 1)] - near.point for late in range(near.depth + 1)]
        self.start = np.concatenate(parts, axis=1)

    def last_outside(self) -> int | None:
        """Return the last tick to come at which some error is beyond the tolerance; -1: none, None: too far ahead."""
        if self.within(self.start):
            return -1
        powers = [self.once]
        while not self.within(self.passed(self.start, powers[-1])):
            powers.append(powers[-1] @ powers[-1])
            if 2 ** len(powers) > MOST_AHEAD:
                return None
        state, tick = self.start, 0
        for place in reversed(range(len(powers))):
            later = self.passed(state, powers[place])
            if not self.within(later):
                state, tick = later, tick + 2**place
        return tick

    def passed(self, state: Array, matrices: Array) -> Array:
        """Return the deviations of all samples, each passed through the matrix of its kind."""
        return np.asarray(np.einsum("bij,bj->bi", matrices[self.near.kinds], state))

    def within(self, state: Array) -> bool:
        """Return whether all errors are within the tolerance for a while."""
        size, shown = self.near.dynamics.size, self.limit.dynamics.shown
        for _ in range(self.window):
            errors = np.zeros_like(self.limit.errors)
            for late, (_, slope) in self.near.slopes.items():
                errors += np.einsum("bui,bi->bu", slope, state[:, size * late : size * (late + 1)])
            if any(np.linalg.norm(errors[:, units]) > self.tolerance * self.limit.scales[name]
                   for name, units in shown.items()):  # fmt: skip
                return False
            state = self.passed(state, self.once)
        return True


@dataclass(frozen=True)
class NoLimit:
    """Why nothing is known of where a run ends, in a few words.

    Attributes
    ----------
    kink : the vertex at whose kink values go to and fro for ever: no limit is there to be known
    """

    reason: str
    kink: str | None = None


KINK_TICKS, KINK_STEP, CROSSINGS, JUMP = 600, 0.05, 8, 0.1
"""Ticks, and their step size, in which kinks are sought; how often one is crossed, how much a slope jumps there."""


def _descended(dynamics: Dynamics) -> list[Array]:
    """Return the values of a run of small steps without delays."""
    points = [begun_at(dynamics)]
    for _ in range(KINK_TICKS):
        points.append(points[-1] + KINK_STEP * dynamics.force([points[-1]] * (dynamics.depth + 1))[0])
    return points


def _kink(dynamics: Dynamics) -> str | None:
    """Return the vertex whose slope jumps again and again late in a run of small steps without delays."""
    late = np.array(_descended(dynamics)[KINK_TICKS // 2 :])
    if not np.isfinite(late).all():
        return None
    jumps = {name: dynamics.slope_changes(name, late) for name, back in dynamics.back.items() if back}
    often = {name: int((change > JUMP).sum(axis=0).max(initial=0)) for name, change in jumps.items()}
    worst = max(often, key=lambda name: often[name], default=None)
    return worst if worst is not None and often[worst] >= CROSSINGS else None


@kept_by_task
def oracle(task: Task) -> Oracle | NoLimit:
    """Return what is known of a run before it runs; where nothing is, why."""
    if reason := why_no_oracle(task):
        return NoLimit(reason)
    dynamics = dynamics_of(task)
    with np.errstate(all="ignore"):
        limit = _limit_of(task, dynamics)
        if limit is None:
            if kink := _kink(dynamics):
                return NoLimit(f"values go to and fro over a kink of {kink!r}", kink)
            return NoLimit("no limit was found that inference could end in")
        return Oracle(task, limit, _begin(task, dynamics))


def _limit_of(task: Task, dynamics: Dynamics) -> Limit | None:
    """Return the limit downhill from the feedforward sweep, or else the one that Newton's method finds."""
    if task.graph.cyclic:
        return limit_from(dynamics, begun_at(dynamics)) or limit_from(dynamics, _descended(dynamics)[-1])
    if not dynamics.size:
        return limit_from(dynamics, np.zeros((task.batch, 0)))
    try:
        session = equilibrium(replace(dynamics.task, initial={}))
        session.predict(0)
        start = dynamics.flat({name: session.reader("value", [name])()[0] for name in dynamics.where})
    except (InputError, RunError):
        start = begun_at(dynamics)
    return limit_from(dynamics, start)


def begun_at(dynamics: Dynamics) -> Array:
    """Return the values at tick 0: those of the feedforward sweep, or what the run is given: (batch, units)."""
    found = sweep(dynamics.task)
    values = {name: found[name].mu[0] for name in dynamics.where}
    return dynamics.flat(values | dict(dynamics.task.initial))


def _begin(task: Task, dynamics: Dynamics) -> tuple[list[Array], int]:
    """Run the first ticks; return the values, the newest first, and the tick that they are from."""
    start = begun_at(dynamics)
    before = (
        start if not task.initial or task.graph.cyclic else begun_at(type(dynamics)(replace(dynamics.task, initial={})))
    )
    history, step_size = [start] + [before] * (dynamics.depth + 1), task.rule.step_size
    ticks = min(BEGIN + 2 * dynamics.depth, MOST_BEGIN, task.ticks)
    for tick in range(ticks):
        move, _ = dynamics.force(history, tick)
        history = [history[0] + step_size * move, *history]
    return history, ticks
