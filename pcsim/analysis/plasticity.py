"""What every parameter update is made of: presynaptic value, postsynaptic error, slope; and where they are summed.

An update is

- **two-factor Hebbian** where each weight takes error times slope of one unit after it and the value of one before it;
- **shared** where such products are summed over sites: positions of a convolution, times of a recurrent net, rows of an
  input; a sum over places that no single synapse sees ([M] appendix A);
- **not Hebbian** where the vertex is no linear function of its parameters followed by a function of each element.

What a row of ``OPS`` says of its ``factors`` is checked: the update is built again from values and errors read at the
tick at which it was learnt, and compared with what the engine learnt.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import sweep
from pcsim.engines.operands import operands_of
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pcsim.engines.base import Session, Task
    from pcsim.graph.graph import Graph, Vertex
    from pcsim.ops.op import Factors

Array = np.ndarray
Row = dict[str, Any]

HEBBIAN, SHARED, OTHER = "two-factor Hebbian", "shared", "not Hebbian"

MOST_SYNAPSES = 1_000_000
"""Synapses of a vertex whose correlations are worked out; of more, none are."""

MOST_APART = 20_000_000
"""Numbers of one parameter's updates that are kept site by site."""


def summed_letters(factors: Factors) -> str:
    """Return the letters of the sites that an update sums over, samples left out."""
    operands, _, result = factors.equation.partition("->")
    return "".join(dict.fromkeys(letter for letter in operands if letter not in f"{result}n,"))


def sites(factors: Factors) -> int:
    """Return the number of sites at which one vertex uses the parameter."""
    extents = dict(zip(factors.equation.partition("->")[0].split(",")[0], factors.error.shape, strict=True))
    return prod(extents[letter] for letter in summed_letters(factors))


def rebuilt(factors: Factors, *, apart: bool = False) -> Array:
    """Return the update as the sum of products of its factors; ``apart``: sites first, in front, not summed."""
    post = factors.error if factors.slope is None else factors.error * factors.slope
    operands, _, result = factors.equation.partition("->")
    equation = f"{operands}->{summed_letters(factors) if apart else ''}{result}"
    return np.asarray(np.einsum(equation, post, *(() if factors.pre is None else (factors.pre,)), optimize=True))


@dataclass
class Trail:
    """What was seen of one parameter in a run."""

    update: Array
    users: dict[str, int] = field(default_factory=dict)
    """{vertex: its sites}, of those that learnt."""
    blamed: list[str] = field(default_factory=list)
    """Users that declare no factors."""
    apart: Array | None = None
    """The update of each site (sites, *shape), summed over samples, where there are several."""
    crowded: bool = False
    """Sites are too many to be kept apart."""
    correlations: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    """(tick, with the value after, with the error after)."""


@dataclass(frozen=True)
class Learner:
    """A vertex that uses parameters, and how its inputs are read at a tick."""

    vertex: Vertex
    precision: Array
    inputs: Callable[[], tuple[Array, ...]]
    value: Callable[[], Array]
    error: Callable[[], Array]
    multiplier: Callable[[], Array] | None

    def credit(self, rho: float) -> Array:
        """Return what parameters take: the weighted error, and with multipliers lambda + rho times it."""
        weighted = self.precision * self.error()
        return np.asarray(weighted if self.multiplier is None else self.multiplier() + rho * weighted)


def learners(task: Task, session: Session) -> dict[str, Learner]:
    """Return every vertex that has parameters in slots."""
    fixed = None if task.rule.moving else sweep(task)
    return {
        name: _learner(task, session, name, fixed) for name in task.graph.active if task.graph.vertices[name].params
    }


def _learner(task: Task, session: Session, name: str, fixed: Any) -> Learner:
    readers = [_input(task.graph, session, edge) for edge in task.graph.incoming[name]]

    def inputs() -> tuple[Array, ...]:
        return fixed[name].inputs if fixed is not None else tuple(read() for read in readers)

    kept = task.rule.keeps_multipliers and task.graph.role(name) == "free"
    return Learner(
        task.graph.vertices[name],
        np.asarray(precision_of(task.graph, name, task.rule), task.dtype),
        inputs,
        session.reader("value", [name]),
        session.reader("error", [name]),
        session.reader("multiplier", [name]) if kept else None,
    )


def _input(graph: Graph, session: Session, edge: Any) -> Callable[[], Array]:
    """Return what reads the value that came over an edge; in a sweep it is read where it is."""
    if graph.role(edge.pre) == "parameter":
        parameter = graph.vertices[edge.pre].params[0][1]
        return lambda: np.asarray(session.parameters(copy=False)[parameter])[None, None]
    if graph.role(edge.pre) == "source" or session.task.rule.sweeps:
        return session.reader("value", [edge.pre])
    return session.reader("value message", [edge.name])


def follow(task: Task, session: Session, *, every: int | None = None) -> dict[str, Trail]:
    """Run a session to its end and return what each parameter's update was made of.

    Parameters
    ----------
    task : made with ``keep_values``, so that values under way can be read
    every : correlations are worked out at every so many ticks; default: at twenty, about
    """
    found = {name: Trail(np.zeros(value.shape)) for name, value in task.parameters.items()}
    _blame(task.graph, found)
    users, operands = learners(task, session), operands_of(task)
    with np.errstate(all="ignore"):
        for tick in range(task.ticks):
            session.predict(tick)
            session.send(tick)
            session.deliver(tick)
            _learn(_Seen(task, session, users, operands, {}), found, tick, every or max(1, task.ticks // 20))
            session.move()
    return found


@dataclass(frozen=True)
class _Seen:
    """What can be read in one tick, and the factors that were worked out in it."""

    task: Task
    session: Session
    users: Mapping[str, Learner]
    operands: Mapping[str, Mapping[str, Array]]
    kept: dict[str, dict[str, Factors]]

    def factors(self, name: str) -> dict[str, Factors] | None:
        """Return {slot: factors} of a vertex at this tick; None where its op declares none."""
        vertex, held = self.users[name].vertex, self.session.parameters(copy=False)
        if vertex.op.factors is None or name in self.kept:
            return self.kept.get(name)
        params = {slot: np.asarray(held[key])[None] for slot, key in vertex.params} | dict(self.operands.get(name, {}))
        user = self.users[name]
        made = vertex.op.factors(np, vertex.call, params, user.inputs(), user.credit(self.task.rule.rho))
        self.kept[name] = {slot: _kept(one) for slot, one in made.items()}
        return self.kept[name]


def _learn(seen: _Seen, found: Mapping[str, Trail], tick: int, every: int) -> None:
    """Let parameters learn, and keep what was learnt from; before they do where they change within the run."""
    if tick % every == 0 or seen.task.rule.fires.applies:
        for name in seen.users:
            seen.factors(name)
    if tick % every == 0:
        _correlate(found, seen.users, seen.kept, tick)
    seen.session.learn(tick, last=tick == seen.task.ticks - 1)
    for name, at in seen.session.fired().items():
        if at == tick and name in seen.users and (factors := seen.factors(name)) is not None:
            _take(seen.task, found, seen.users[name].vertex, factors)


def _blame(graph: Graph, found: Mapping[str, Trail]) -> None:
    """Note which users of each parameter have no factors: their op declares none, or takes it as an input."""
    for name, trail in found.items():
        trail.blamed += [
            user for user in graph.uses[name]
            if graph.vertices[user].op.factors is None or name not in dict(graph.vertices[user].params).values()
        ]  # fmt: skip


def _kept(factors: Factors) -> Factors:
    """Return the factors as copies: what a session lends is written over."""
    parts = {key: np.array(part) for key in ("error", "slope", "pre") if (part := getattr(factors, key)) is not None}
    return type(factors)(factors.equation, **parts)


def _take(task: Task, found: Mapping[str, Trail], vertex: Vertex, factors: Mapping[str, Factors]) -> None:
    """Add what a vertex that has fired gives to its parameters."""
    for slot, parameter in vertex.params:
        trail, one = found[parameter], factors[slot]
        update = task.rule.output_variance * rebuilt(one)
        trail.update = trail.update + update.reshape(trail.update.shape)
        trail.users[vertex.name] = sites(one)
        _keep_apart(trail, rebuilt(one, apart=True) if sites(one) > 1 else update, sites(one))


def _keep_apart(trail: Trail, parts: Array, count: int) -> None:
    """Keep the update of each site, summed over samples, as long as they are few enough."""
    held = 0 if trail.apart is None else trail.apart.size
    if held + parts.size > MOST_APART:
        trail.apart, trail.crowded = None, True
    elif not trail.crowded:
        new = parts.reshape(count, *trail.update.shape)
        trail.apart = new if trail.apart is None else np.concatenate([trail.apart, new])


# -- correlations ------------------------------------------------------------------------------------------


def _correlate(found: Mapping[str, Trail], users: Mapping[str, Learner], kept: Mapping[str, Any], tick: int) -> None:
    """Note how values before and after, and values before and errors after, go together over samples and sites."""
    sums: dict[str, list[tuple[float | None, float | None]]] = defaultdict(list)
    for name, by_slot in kept.items():
        vertex, value = users[name].vertex, users[name].value()
        for slot, parameter in vertex.params:
            if (one := by_slot[slot]).pre is not None:
                after = value.reshape(one.error.shape) if value.size == one.error.size else None
                sums[parameter].append((_together(one, after), _together(one, one.error)))
    for parameter, pairs in sums.items():
        means = [_mean(column) for column in zip(*pairs, strict=True)]
        found[parameter].correlations.append((tick, means[0], means[1]))


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _together(factors: Factors, after: Array | None) -> float | None:
    """Return the root mean square over synapses of Pearson's correlation, over samples and sites."""
    if after is None or factors.pre is None:
        return None
    operands, _, result = factors.equation.partition("->")
    first, second = operands.split(",")
    extents = dict(zip(first + second, after.shape + factors.pre.shape, strict=True))
    over = "n" + summed_letters(factors)
    if prod(extents[letter] for letter in over) < 3 or prod(extents[letter] for letter in result) > MOST_SYNAPSES:
        return None
    a, b = _standard(after, first, over), _standard(factors.pre, second, over)
    return float(np.sqrt(np.mean(np.square(np.einsum(f"{operands}->{result}", a, b, optimize=True)))))


def _standard(x: Array, letters: str, over: str) -> Array:
    """Return x less its mean, by its norm, along samples and sites."""
    axes = tuple(k for k, letter in enumerate(letters) if letter in over)
    centred = x - x.mean(axis=axes, keepdims=True)
    norms = np.sqrt(np.square(centred).sum(axis=axes, keepdims=True))
    return np.asarray(np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0))


# -- what is told ------------------------------------------------------------------------------------------


def rows_of(trails: Mapping[str, Trail], learnt: Mapping[str, Array]) -> Iterator[Row]:
    """Yield a row for each parameter: its class, sites, what it was built from, and how far that is from what it is."""
    for name, trail in trails.items():
        update = np.asarray(learnt[name])
        row: Row = {"parameter": name, "numbers": update.size, "users": len(trail.users) or None,
                    "sites": sum(trail.users.values()) or None}  # fmt: skip
        yield row | _class(trail) | _difference(trail, update) | _agreement(trail)


def _class(trail: Trail) -> Row:
    if trail.blamed:
        return {"plasticity": OTHER, "why": f"{trail.blamed[0]} is not linear in it, or takes it as an input"}
    if len(trail.users) > 1 or sum(trail.users.values()) > 1:
        return {"plasticity": SHARED, "why": _why_shared(trail)}
    return {"plasticity": HEBBIAN, "why": "presynaptic value times postsynaptic error and slope"}


def _why_shared(trail: Trail) -> str:
    most = max(trail.users.values())
    over = [f"{len(trail.users):,} vertices"] * (len(trail.users) > 1) + [f"{most:,} positions of each"] * (most > 1)
    return f"summed over {' and '.join(over)}"


def _difference(trail: Trail, update: Array) -> Row:
    """Return the largest difference between the update and what its factors make, relative to its largest number."""
    if trail.blamed:
        return {"difference": None}
    size = float(np.abs(update).max(initial=0.0))
    apart = float(np.abs(update - trail.update).max(initial=0.0))
    return {"difference": apart / size if size else apart}


def _agreement(trail: Trail) -> Row:
    """Return how the update of each site goes with their sum: the mean cosine, and the size of both."""
    if trail.blamed or trail.apart is None or len(trail.apart) < 2:
        return {"site_cosine": None, "unshared_norm": None, "shared_norm": None}
    parts = trail.apart.reshape(len(trail.apart), -1)
    total = parts.sum(axis=0)
    norms, whole = np.linalg.norm(parts, axis=1), float(np.linalg.norm(total))
    known = norms > 0
    cosine = float(np.mean(parts[known] @ total / (norms[known] * whole))) if whole and known.any() else None
    return {"site_cosine": cosine, "unshared_norm": float(np.linalg.norm(parts)), "shared_norm": whole}
