"""Closed forms: what the theory says a run will do, to be held against what it does.

Fixed predictions: along a path of h edges and error delay D in all, the share of the backprop error that
travels it arrives with the factor ``c_h(t - D)``, where ``c_0 = 1``, ``c_h(0) = 0`` and
``c_h(t+1) = (1 - gamma) c_h(t) + gamma c_{h-1}(t)``. For gamma <= 1 that is ``P(N_h <= t)``, N_h the number of
Bernoulli(gamma) trials up to the h-th success: negative binomial.

Moving predictions on a linear graph: the values relax as ``(1 - gamma lambda)^t`` along the eigenvectors
of the Hessian ``(I - J)^T Pi (I - J)`` of the free energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import Swept, backprop, rounded_to_zero, scales, sweep, weight
from pcsim.analysis.conditions import has_closed_form, why_no_modes, why_not_exact
from pcsim.analysis.windows import TwoWindows, round_trip
from pcsim.engines.base import kept_by_task
from pcsim.graph.levels import levels
from pcsim.ops import LOSSES
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pcsim.engines.base import Task
    from pcsim.graph.graph import Graph

Array = np.ndarray
Path = tuple[int, int]
"""Hops and total error delay of the paths from a vertex to an output."""

MOST_PATHS = 20_000
"""Kinds of path, over all vertices, beyond which the closed form on a DAG is not worked out."""
MOST_NUMBERS = 2_000_000
"""Vertices times ticks beyond which the theoretical divergence is not written beside the measured one."""


def arrived(hops: int, tick: Any, step_size: float) -> Any:
    """Return ``c_h(t)``, the fraction of an error that has come ``hops`` edges by each tick.

    Source: binomial sums of the recursion above; for gamma <= 1 the negative binomial distribution.
    """
    ticks = np.asarray(tick)
    if step_size <= 1:
        return _trials("cdf", ticks - hops, hops, step_size) if hops else (ticks >= 0) * 1.0
    return _last_transient(hops, ticks, step_size)[0][np.maximum(ticks, 0)] * (ticks >= 0)


def missing(hops: int, tick: Any, step_size: float) -> Any:
    """Return ``1 - c_h(t)``, without cancellation where it is small."""
    ticks = np.asarray(tick)
    if not hops:
        return 1 - arrived(hops, ticks, step_size)
    if step_size <= 1:
        return _trials("sf", ticks - hops, hops, step_size)
    return np.where(ticks < 0, 1.0, _last_transient(hops, ticks, step_size)[1][np.maximum(ticks, 0)])


SETTLED_FROM = 2
"""The first tick at which a distance from the limit can be estimated."""


def _trials(what: str, failures: Array, successes: int, chance: float) -> Any:
    """Return ``cdf`` or ``sf`` of the negative binomial distribution, as ``scipy.stats.nbinom`` does, bit for bit."""
    kernels: Any = import_module("scipy.special._ufuncs")
    if (kernel := getattr(kernels, f"_nbinom_{what}", None)) is None:
        return getattr(import_module("scipy.stats").nbinom, what)(failures, successes, chance)
    # scipy.stats calls the same kernel, and takes 0.4 s to import, a third of a small run
    inside = kernel(np.maximum(failures, 0.0), float(successes), chance)
    return np.where(failures < 0, 0.0 if what == "cdf" else 1.0, np.clip(inside, 0.0, 1.0))


def transients(hops: int, ticks: int, step_size: float) -> Iterator[tuple[Array, Array]]:
    """Yield ``c_h(t)`` and ``1 - c_h(t)`` for h = 0 .. hops, each (ticks,), for gamma > 1: no probabilities there.

    ``1 - c_h(t) = sum over k < h of C(t, k) gamma^k (1 - gamma)^(t - k)``, the binomial tail. Its terms have both
    signs; at the first ticks those of ``c_h(t) = gamma^h sum over j of C(h + j - 1, j) (1 - gamma)^j`` cancel less.
    To 12 digits, which the recursion has not: there roundings grow as errors do.
    """
    from scipy.special import gammaln

    t = np.arange(ticks)
    sign, shrinks = np.where(t % 2, -1.0, 1.0), np.log(step_size - 1)
    tail, bulk = np.zeros(ticks), np.zeros(ticks)
    yield np.ones(ticks), np.zeros(ticks)
    for h in range(1, hops + 1):
        k = h - 1
        with np.errstate(over="ignore", invalid="ignore"):
            late = np.maximum(t - k, 0)
            size = gammaln(t + 1.0) - gammaln(k + 1.0) - gammaln(late + 1.0) + k * np.log(step_size) + late * shrinks
            term = np.where(t >= k, np.exp(size), 0.0)
            tail, bulk = tail + (-1) ** k * sign * term, bulk + term
            j = t[: max(0, ticks - h)]
            early = np.exp(gammaln(h + j) - gammaln(h) - gammaln(j + 1.0) + h * np.log(step_size) + j * shrinks)
            begun = np.concatenate([np.zeros(ticks - len(j)), np.cumsum(sign[: len(j)] * early)])
            soon = np.concatenate([np.zeros(ticks - len(j)), np.cumsum(early)]) < bulk
        yield np.where(soon, begun, 1 - tail), np.where(soon, 1 - begun, tail)


def _last_transient(hops: int, ticks: Array, step_size: float) -> tuple[Array, Array]:
    """Return the last that ``transients`` yields, up to the greatest of these ticks."""
    *_, last = transients(hops, int(ticks.max(initial=0)) + 1, step_size)
    return last


def rounding_floor(task: Task) -> float:
    """Return about how far from backprop rounding keeps errors for ever, relative to them; 0 up to step size 1.

    Above 1 a rounding that alternates in sign is amplified by ``gamma / (2 - gamma)`` at every edge on its way.
    """
    return greatest_floor(task, _reached(task)) if 1 < task.rule.step_size < 2 else 0.0


def greatest_floor(task: Task, names: Iterable[str]) -> float:
    """Return the ``rounding_floor`` of a task, whose data need not be there, if an error reaches these vertices."""
    gamma, known = task.rule.step_size, paths(task.graph) or {}
    if not 1 < gamma < 2:
        return 0.0
    hops = max((hops for name in names for hops, _ in known.get(name, ())), default=0)
    with np.errstate(over="ignore"):
        return float(np.finfo(task.dtype).eps * np.float64(gamma / (2 - gamma)) ** hops)


def paths(graph: Graph) -> dict[str, set[Path]] | None:
    """Return the (hops, delay) of all paths from each vertex to an output; None if they are too many."""
    found: dict[str, set[Path]] = {}
    total = 0
    for name in reversed(graph.active):
        here = {(0, 0)} if graph.role(name) == "output" else set()
        for edge in graph.outgoing[name]:
            here |= {(hops + 1, delay + edge.error_delay) for hops, delay in found[edge.post]}
        found[name] = here
        total += len(here)
        if total > MOST_PATHS:
            return None
    return found


@kept_by_task
def path_parts(task: Task) -> dict[str, dict[Path, Array]]:
    """Return the backprop error of each vertex, split by the kind of path that it has travelled.

    {vertex: {(hops, delay): (1, batch, *shape)}}; the shares of a vertex sum to its backprop error.
    """
    with np.errstate(all="ignore"):
        return _path_parts(task, sweep(task))


def _path_parts(task: Task, local: Mapping[str, Swept]) -> dict[str, dict[Path, Array]]:
    parts: dict[str, dict[Path, Array]] = {name: {} for name in task.graph.active}
    for name, target in task.targets.items():
        error = LOSSES[task.losses[name]].error(np, local[name].mu, np.asarray(target, task.dtype)[None])
        parts[name][0, 0] = weight(local[name].vertex, error)
    for name in reversed(task.graph.active):
        edges = task.graph.incoming[name]
        for (hops, delay), part in parts[name].items():
            if any(edge.pre in parts for edge in edges):
                for edge, message in zip(edges, local[name].back(part), strict=True):
                    if edge.pre in parts:
                        key = (hops + 1, delay + edge.error_delay)
                        parts[edge.pre][key] = parts[edge.pre].get(key, 0) + message
    return parts


def fpa_errors(task: Task, ticks: int) -> dict[str, Array]:
    """Return the errors that the fixed-prediction rule has at every tick: {vertex: (tick, batch, *shape)}.

    Holds on any graph, with any delays, for precisions of 1 and 0 < step_size < 2.
    """
    t, gamma = np.arange(ticks), task.rule.step_size
    found = {}
    for name, parts in path_parts(task).items():
        shape = (ticks, task.batch, *task.graph.vertices[name].shape)
        found[name] = sum(
            (arrived(hops, t - delay, gamma).reshape(-1, *[1] * (len(shape) - 1)) * part[0]
             for (hops, delay), part in parts.items()), np.zeros(shape))  # fmt: skip
    return found


@kept_by_task
def predicted_gradient_ticks(task: Task, tolerance: float) -> int | None:
    """Return the first tick from which every vertex is within ``tolerance`` of backprop, as theory has it.

    None: the horizon comes first, or no closed form is known for this rule and graph, or rounding may keep errors
    further away (``rounding_floor``).
    """
    if task.rule.fires.at_front:
        long_enough = task.ticks >= levels(task.graph)
        return levels(task.graph) - 1 if long_enough and not why_not_exact(task) else None
    if not has_closed_form(task) or task.ticks > MOST_NUMBERS or rounding_floor(task) > tolerance:
        return None
    worst = _worst_missing(task)
    if worst is None:
        return None
    late = np.nonzero(~(worst <= tolerance))[0]
    first = int(late[-1]) + 1 if len(late) else 0
    return first if first < task.ticks else None


LATE = 20
"""Successes beyond the last edge of a path, at whose expected tick nothing to speak of is still to come."""

SLACK = 1.01
"""How much further from backprop than in exact arithmetic a run may be that is within the tolerance already."""


@kept_by_task
def gradient_due(task: Task, tolerance: float) -> int:
    """Return the first tick at which errors near backprop's may be called converged: nothing takes them away again.

    Where theory says how near they are at every tick it is the tick from which it says so; else, with delays, the tick
    at which the first errors have come over the longest path, and one round trip more. Where parameters learn at every
    tick, they leave the ones that backprop was asked about: none.
    """
    if task.rule.fires.at_front or nothing_to_learn(task):
        return 0
    if task.rule.fires.applies:
        return task.ticks
    known = not task.rule.moving and has_closed_form(task) and task.ticks <= MOST_NUMBERS
    worst = _worst_missing(task) if known and rounding_floor(task) <= tolerance else None
    if worst is not None:
        late = np.nonzero(~(worst <= SLACK * tolerance))[0]
        return int(late[-1]) + 1 if len(late) else 0
    window = round_trip(task.graph, moving=task.rule.moving)
    return levels(task.graph) - 1 + window if window > 1 else 0


@kept_by_task
def _worst_missing(task: Task) -> Array | None:
    """Return the greatest relative difference over the vertices at each tick.

    Where errors come over several kinds of path, also at ticks beyond the horizon: until the last of them have come.
    """
    found = paths(task.graph)
    if found is None:
        return None
    t, gamma = np.arange(task.ticks), task.rule.step_size
    reached = _reached(task)
    if all(len(here) <= 1 for here in found.values()):
        kinds = {path for name in reached for path in found[name]}
        series = [np.abs(missing(hops, t - delay, gamma)) for hops, delay in kinds]
    else:
        t = np.arange(min(MOST_NUMBERS, task.ticks + _all_there(found, gamma)))
        scale, every = scales(task), path_parts(task)
        series = [_missing_norm(parts, t, gamma, scale[name]) for name, parts in every.items() if parts]
    return np.asarray(np.max(series, axis=0)) if series else np.zeros(task.ticks)


def _all_there(found: Mapping[str, set[Path]], gamma: float) -> int:
    """Return ticks by which nearly all of an error has come over every path."""
    ends = (delay + (hops + LATE) / min(gamma, 2 - gamma) for here in found.values() for hops, delay in here)
    return ceil(max(ends, default=0))


@kept_by_task
def _reached(task: Task) -> list[str]:
    """Return the vertices that an error of backprop reaches: one that is zero, but for rounding, does not count."""
    nothing = rounded_to_zero(task)
    return [name for name, error in backprop(task).errors.items() if name not in nothing and error.any()]


@kept_by_task
def nothing_to_learn(task: Task) -> bool:
    """Return whether a run begins, and so stays, with no error anywhere: the predictions are the targets."""
    return not task.initial and not any(error.any() for error in backprop(task).errors.values())


def divergence_series(task: Task, names: Sequence[str], ticks: Array) -> Array | None:
    """Return the relative difference from backprop that theory gives: (vertices, ticks); None where it gives none."""
    if not task.rule.fires.only_last or not has_closed_form(task) or len(names) * len(ticks) > MOST_NUMBERS:
        return None
    known = paths(task.graph)
    if known is None:
        return None
    gamma, series = task.rule.step_size, np.full((len(names), len(ticks)), np.nan)
    parts = None if all(len(here) <= 1 for here in known.values()) else path_parts(task)
    curve = cache(lambda hops, delay: np.abs(missing(hops, ticks - delay, gamma)))
    reached, scale = set(_reached(task)), scales(task)
    for row, name in enumerate(names):
        if parts is not None and parts[name]:
            series[row] = _missing_norm(parts[name], ticks, gamma, scale[name])
        for hops, delay in known[name] if parts is None else ():
            series[row] = curve(hops, delay) if name in reached else 0.0
    return series


def _missing_norm(parts: Mapping[Path, Array], t: Array, gamma: float, scale: float) -> Array:
    """Return |sum of what is missing of each part| / scale; parts that cancel in the end need not cancel before."""
    flat = np.stack([part.ravel() for part in parts.values()]).astype(np.float64)
    left = np.stack([missing(hops, t - delay, gamma) for hops, delay in parts])
    triangle = np.linalg.qr(flat.T, mode="r") if np.isfinite(flat).all() else flat.T
    with np.errstate(all="ignore"):
        return np.asarray(np.linalg.norm(triangle @ left, axis=0) / scale)


def linear_chain_eigenvalues(weight: float, edges: int) -> Array:
    """Return the Hessian's eigenvalues of a chain ``x_l = w x_{l-1}`` with both ends clamped, ascending.

    ``1 + w^2 - 2 w cos(k pi / L)``, k = 1 .. L-1, for L edges.
    """
    k = np.arange(1, edges)
    return np.sort(1 + weight**2 - 2 * weight * np.cos(k * np.pi / edges))


@dataclass(frozen=True)
class Relaxation:
    """How standard predictive coding relaxes on a linear graph, in closed form, for every sample.

    ``deviation(t) = fixed + V (1 - gamma lambda)^t V^T (deviation(0) - fixed)``, and the errors are
    ``(I - J)`` times the deviations, those of clamped outputs included.
    """

    eigenvalues: Array
    """(free units), ascending."""
    vectors: Array
    fixed: Array
    """(free units, batch): where the free values end, as deviation from the feedforward sweep."""
    start: Array
    """(units, batch): deviations at tick 0."""
    free: Array
    """Indices of the free units."""
    coupling: Array
    """(units, units): I - J."""
    where: Mapping[str, slice]
    """Units of each vertex."""
    step_size: float

    @property
    def rate(self) -> float:
        """The factor by which the slowest mode shrinks in a tick; 1 or more: no convergence."""
        return float(np.max(np.abs(1 - self.step_size * self.eigenvalues)))

    @property
    def stable_below(self) -> float:
        """The step size from which on some mode grows: 2 / the largest eigenvalue."""
        return float(2 / self.eigenvalues[-1])

    @property
    def never_moves(self) -> bool:
        """Whether nothing moves, from tick 0 on."""
        return not self._modes.any()

    @cached_property
    def _modes(self) -> Array:
        return np.asarray(self.vectors.T @ (self.start[self.free] - self.fixed))

    def deviation(self, tick: int) -> Array:
        """Return all deviations at a tick: (units, batch)."""
        factor = (1 - self.step_size * self.eigenvalues) ** tick
        found = self.start.copy()
        found[self.free] = self.fixed + self.vectors @ (factor[:, None] * self._modes)
        return found

    def errors(self, tick: int) -> Array:
        """Return all errors at a tick: (units, batch)."""
        return np.asarray(self.coupling @ self.deviation(tick))

    def change(self, tick: int) -> float:
        """Return max |x(t) - x(t-1)| over units and samples, t >= 1: the criterion ``update``."""
        return float(np.max(np.abs(self.deviation(tick) - self.deviation(tick - 1)), initial=0.0))

    def unrest(self, tick: int) -> float:
        """Return the greatest relative distance of a vertex's error from its limit: the criterion ``settled``."""
        if tick < SETTLED_FROM:
            return float("inf")
        at = [self.errors(tick - back) for back in range(3)]
        norms = np.array([[np.linalg.norm(step[rows]) for rows in self.where.values()]
                          for step in (at[0] - at[1], at[1] - at[2], at[0])])  # fmt: skip
        return float(np.max(_unrest(*norms), initial=0.0))

    def ticks_until(self, criterion: str, tolerance: float, horizon: int, start: int = 1) -> int | None:
        """Return the first tick from which a criterion stays within a tolerance, before the horizon."""
        if not (self.start.any() or self.fixed.any()):  # at rest from tick 0 on
            return 0
        measure = self._changes if criterion == "update" else self._unrests
        with np.errstate(all="ignore"):
            late = [tick for tick, value in measure(horizon) if not value <= tolerance]
        first = max(late[-1] + 1 if late else 1, start)
        return first if first < horizon else None

    def _changes(self, horizon: int) -> Iterator[tuple[int, float]]:
        for tick, now, before, _ in self._steps(self.vectors, horizon):
            yield tick, float(np.max(np.abs(now - before), initial=0.0))

    def _unrests(self, horizon: int) -> Iterator[tuple[int, float]]:
        rest = self.start.copy()
        rest[self.free] = self.fixed
        limit = self.coupling @ rest
        for tick, now, before, earlier in self._steps(self.coupling[:, self.free] @ self.vectors, horizon):
            steps = (now - before, before - earlier, now + limit)
            norms = np.array([[np.linalg.norm(step[rows]) for rows in self.where.values()] for step in steps])
            yield tick, float(np.max(_unrest(*norms), initial=0.0)) if tick >= SETTLED_FROM else float("inf")

    def _steps(self, basis: Array, horizon: int) -> Iterator[tuple[int, Array, Array, Array]]:
        """Yield (tick, what moves now, a tick before, two before) in a basis of the modes."""
        factor = (1 - self.step_size * self.eigenvalues)[:, None]
        modes = self._modes
        earlier = before = basis @ modes
        for tick in range(1, horizon):
            modes = factor * modes
            now = basis @ modes
            yield tick, now, before, earlier
            earlier, before = before, now


def _unrest(step: Array, step_before: Array, size: Array) -> Array:
    """Return the estimated distances from the limit, (vertices,), from the norms of the last two steps."""
    return TwoWindows(step, step_before, step, step_before, size, 1).left()


@kept_by_task
def relaxation(task: Task) -> Relaxation | None:
    """Return the closed form of standard predictive coding; None where the graph is not linear or too large."""
    if why_no_modes(task):
        return None
    local = sweep(task)
    jacobian = _jacobian(task, local)
    return None if jacobian is None else _relax(task, local, jacobian)


def _offsets(task: Task) -> dict[str, slice]:
    ends = np.cumsum([0, *(prod(task.graph.vertices[name].shape) for name in task.graph.active)])
    return {name: slice(int(a), int(b)) for name, a, b in zip(task.graph.active, ends, ends[1:], strict=False)}


def _jacobian(task: Task, local: Mapping[str, Swept]) -> Array | None:
    """Return d mu / d x over all active units, the same for every sample; None if it is not."""
    where = _offsets(task)
    total = sum(part.stop - part.start for part in where.values())
    jacobian = np.zeros((total, total))
    for name in task.graph.active:
        for pre, block in _blocks(task, local[name]):
            if not np.allclose(block, block[:1], rtol=1e-12, atol=1e-14):
                return None
            jacobian[where[name], where[pre]] += block[0]
    return jacobian if _is_linear(task, local) else None


def _blocks(task: Task, local: Swept) -> Iterator[tuple[str, Array]]:
    """Yield (input vertex, (batch, units, input units)) for each input that has units."""
    size = prod(local.vertex.shape)
    edges = task.graph.incoming[local.vertex.name]
    rows: list[tuple[Array, ...]] = []
    for unit in range(size):
        g = np.zeros((1, task.batch, size), task.dtype)
        g[..., unit] = 1
        rows.append(local.back(g.reshape(local.mu.shape)))
    for place, edge in enumerate(edges):
        if task.graph.vertices[edge.pre].op.role == "function":
            yield edge.pre, np.stack([row[place].reshape(task.batch, -1) for row in rows], axis=1)


def _is_linear(task: Task, local: Mapping[str, Swept]) -> bool:
    """Compare each vertex's Jacobian at the feedforward point and at another one."""
    rng = np.random.default_rng(0)
    for part in local.values():
        edges = task.graph.incoming[part.vertex.name]
        inputs = tuple(
            x + rng.normal(size=x.shape) if task.graph.vertices[edge.pre].op.role == "function" else x
            for edge, x in zip(edges, part.inputs, strict=True)
        )
        mu, saved = part.vertex.op.forward(np, part.vertex.call, part.params, inputs)
        there = Swept(part.vertex, part.params, inputs, np.broadcast_to(mu, part.mu.shape), saved)
        g = rng.normal(size=part.mu.shape)
        same = zip(edges, part.back(g), there.back(g), strict=True)
        if not all(np.allclose(a, b, rtol=1e-10) for edge, a, b in same if task.graph.role(edge.pre) == "free"):
            return False
    return True


def _relax(task: Task, local: Mapping[str, Swept], jacobian: Array) -> Relaxation:
    where, graph = _offsets(task), task.graph
    rows = (np.broadcast_to(precision_of(graph, name, task.rule), graph.vertices[name].shape) for name in graph.active)
    precision = np.concatenate([row.ravel() for row in rows])
    free = np.concatenate([np.arange(p.start, p.stop) for name, p in where.items() if graph.role(name) == "free"])
    clamped = np.setdiff1d(np.arange(len(precision)), free)
    start = np.zeros((len(precision), task.batch))
    for name in graph.active:
        target = task.targets.get(name, task.initial.get(name))
        if target is not None:
            start[where[name]] = (np.asarray(target, float) - local[name].mu[0]).reshape(task.batch, -1).T
    a = np.eye(len(precision)) - jacobian
    hessian = a.T @ (precision[:, None] * a)
    values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)])
    fixed = -np.linalg.solve(hessian[np.ix_(free, free)], hessian[np.ix_(free, clamped)] @ start[clamped])
    return Relaxation(values, vectors, fixed, start, free, a, where, task.rule.step_size)
