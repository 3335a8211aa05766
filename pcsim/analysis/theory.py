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
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import Swept, sweep, weight
from pcsim.engines.base import kept_by_task
from pcsim.graph.levels import levels, uneven_edges
from pcsim.ops import LOSSES
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcsim.engines.base import Task
    from pcsim.graph.graph import Graph

Array = np.ndarray
Path = tuple[int, int]
"""Hops and total error delay of the paths from a vertex to an output."""

MOST_PATHS = 20_000
"""Kinds of path, over all vertices, beyond which the closed form on a DAG is not worked out."""
MOST_NUMBERS = 2_000_000
"""Vertices times ticks beyond which the theoretical divergence is not written beside the measured one."""
MOST_UNITS = 600
"""Units beyond which the modes of a linear graph are not worked out."""
MOST_PRODUCTS = 3_000_000_000
"""Multiplications beyond which the ticks of a linear graph are not predicted."""


def arrived(hops: int, tick: Any, step_size: float) -> Any:
    """Return ``c_h(t)``, the fraction of an error that has come ``hops`` edges by each tick.

    Source: binomial sums of the recursion above; for gamma <= 1 the negative binomial distribution.
    """
    ticks = np.asarray(tick)
    if step_size <= 1:
        return _trials("cdf", ticks - hops, hops, step_size) if hops else (ticks >= 0) * 1.0
    return _transient(hops, int(ticks.max(initial=0)), step_size)[np.maximum(ticks, 0)] * (ticks >= 0)


def missing(hops: int, tick: Any, step_size: float) -> Any:
    """Return ``1 - c_h(t)``, without cancellation where it is small."""
    ticks = np.asarray(tick)
    if step_size > 1 or not hops:
        return 1 - arrived(hops, ticks, step_size)
    return _trials("sf", ticks - hops, hops, step_size)


SETTLED_FROM = 2
"""The first tick at which a distance from the limit can be estimated."""


def distance_left(moved: Array, moved_before: Array, size: Array, noise: Array | float = 0.0) -> Array:
    """Estimate how far a series still is from its limit, relative to its size.

    A series whose steps shrink by r a tick has ``step * r / (1 - r)`` to go; r is the ratio of its last two
    steps, and at most 0.9999. A step within ``noise``, what rounding alone moves, has arrived as far as the number
    format can resolve. All arguments are norms.
    """
    with np.errstate(all="ignore"):
        ratio = np.minimum(moved / moved_before, 0.9999)
        return np.where(moved <= noise, 0.0, moved / size * ratio / (1 - ratio))


def _trials(what: str, failures: Array, successes: int, chance: float) -> Any:
    """Return ``cdf`` or ``sf`` of the negative binomial distribution, as ``scipy.stats.nbinom`` does, bit for bit."""
    kernels: Any = import_module("scipy.special._ufuncs")
    if (kernel := getattr(kernels, f"_nbinom_{what}", None)) is None:
        return getattr(import_module("scipy.stats").nbinom, what)(failures, successes, chance)
    # scipy.stats calls the same kernel, and takes 0.4 s to import, a third of a small run
    inside = kernel(np.maximum(failures, 0.0), float(successes), chance)
    return np.where(failures < 0, 0.0 if what == "cdf" else 1.0, np.clip(inside, 0.0, 1.0))


def _transient(hops: int, last: int, step_size: float) -> Array:
    """Return ``c_h(0..last)`` for gamma > 1, where it is no probability: from the generating function."""
    series = np.ones(last + 1)
    for _ in range(hops):
        shifted = np.concatenate([[0.0], step_size * series[:-1]])
        series = _filter(shifted, 1 - step_size)
    return series


def _filter(inputs: Array, decay: float) -> Array:
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -decay], inputs))


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
def weighed_vertices(task: Task) -> list[str]:
    """Return the free vertices whose precision is not 1."""
    graph = task.graph
    free = (name for name in graph.active if graph.role(name) == "free")
    return [name for name in free if np.any(precision_of(graph, name, task.rule) != 1)]


def asymmetric(graph: Graph) -> list[str]:
    """Return the vertices whose error messages are no vector-Jacobian products."""
    return [name for name in graph.active if not graph.vertices[name].feedback.symmetric]


def coupled(graph: Graph) -> list[str]:
    """Return the vertices at which the samples of a batch are coupled (batch statistics)."""
    vertices = (graph.vertices[name] for name in graph.active)
    return [vertex.name for vertex in vertices if vertex.op.couples(vertex.call)]


def has_closed_form(task: Task) -> bool:
    """Return whether the fixed-prediction closed form holds for this task."""
    rule = task.rule
    unit = all(np.all(precision_of(task.graph, name, rule) == 1) for name in task.graph.active)
    plain = unit and not task.initial and not asymmetric(task.graph)
    return not rule.moving and rule.step_size < 2 and plain


@kept_by_task
def predicted_gradient_ticks(task: Task, tolerance: float) -> int | None:
    """Return the first tick from which every vertex is within ``tolerance`` of backprop, as theory has it.

    None: the horizon comes first, or no closed form is known for this rule and graph.
    """
    if task.rule.fires.at_front:
        levelled = not uneven_edges(task.graph)
        exact = task.rule.step_size == task.rule.exact_step and levelled and not task.initial
        exact = exact and not weighed_vertices(task) and not asymmetric(task.graph)
        return levels(task.graph) - 1 if exact and task.ticks >= levels(task.graph) else None
    if not has_closed_form(task) or task.ticks > MOST_NUMBERS:
        return None
    worst = _worst_missing(task)
    if worst is None:
        return None
    late = np.nonzero(~(worst <= tolerance))[0]
    first = int(late[-1]) + 1 if len(late) else 0
    return first if first < task.ticks else None


def _worst_missing(task: Task) -> Array | None:
    """Return the greatest relative difference over the vertices at each tick."""
    found = paths(task.graph)
    if found is None:
        return None
    t, gamma = np.arange(task.ticks), task.rule.step_size
    if all(len(here) <= 1 for here in found.values()):
        kinds = {path for here in found.values() for path in here}
        return np.asarray(np.max([np.abs(missing(hops, t - delay, gamma)) for hops, delay in kinds], axis=0))
    return np.asarray(np.max([_missing_norm(parts, t, gamma) for parts in path_parts(task).values() if parts], axis=0))


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
    for row, name in enumerate(names):
        if parts is not None and parts[name]:
            series[row] = _missing_norm(parts[name], ticks, gamma)
        for hops, delay in known[name] if parts is None else ():
            series[row] = curve(hops, delay)
    return series


def _missing_norm(parts: Mapping[Path, Array], t: Array, gamma: float) -> Array:
    """Return |sum of what is missing of each part| / |sum of parts|, through the parts' inner products."""
    flat = np.stack([part.ravel() for part in parts.values()]).astype(np.float64)
    gram = flat @ flat.T
    left = np.stack([missing(hops, t - delay, gamma) for hops, delay in parts])
    whole = gram.sum()
    return np.sqrt(np.maximum(np.einsum("at,ab,bt->t", left, gram, left), 0) / whole) if whole > 0 else np.zeros(len(t))


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
        return float(np.max(distance_left(*norms), initial=0.0))

    def ticks_until(self, criterion: str, tolerance: float, horizon: int, start: int = 1) -> int | None:
        """Return the first tick from which a criterion stays within a tolerance, before the horizon."""
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
            yield tick, float(np.max(distance_left(*norms), initial=0.0)) if tick >= SETTLED_FROM else float("inf")

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


@kept_by_task
def relaxation(task: Task) -> Relaxation | None:
    """Return the closed form of standard predictive coding; None where the graph is not linear or too large."""
    units = sum(prod(task.graph.vertices[name].shape) for name in task.graph.active)
    rule = task.rule
    if all(task.graph.role(name) == "output" for name in task.graph.active):
        return None
    if units**2 * task.batch * task.ticks > MOST_PRODUCTS:
        return None
    clamped = all(LOSSES[loss].clamps for loss in task.losses.values())
    late = any(edge.value_delay or edge.error_delay for edge in task.graph.edges)
    apart = not coupled(task.graph) and not asymmetric(task.graph)
    if not rule.moving or not rule.fires.only_last or units > MOST_UNITS or late or not clamped or not apart:
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
