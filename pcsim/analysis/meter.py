"""What is measured while a run ticks: norms, divergence from backprop, energy, convergence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.backprop import scales
from pcsim.analysis.oracle import Oracle, oracle
from pcsim.analysis.theory import SETTLED_FROM, gradient_due
from pcsim.analysis.vertex_groups import group_of, lossy_outputs
from pcsim.analysis.windows import SHRINKS, Held, Unchanged, Windows, memory, value_travel, window_of
from pcsim.engines.base import kept_by_task
from pcsim.engines.squares import row_products, squares_of
from pcsim.errors import wrong
from pcsim.graph.levels import light_cone, vertex_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.analysis.backprop import Reference
    from pcsim.analysis.vertex_groups import Group, Lossy
    from pcsim.analysis.windows import TwoWindows
    from pcsim.engines.base import Read, Task
    from pcsim.engines.ensembles import Ensemble

Array = np.ndarray


NOISE = 8
"""Roundings of a value that a step of its error may be made of: a sum of n products is off by some sqrt(n) of them.

In a window of n ticks they may add up to sqrt(n) times as many.
"""
MOST_CANCELLED = 1e18
"""Squares of an error beside the largest of backprop's, up to which a share of that has six digits."""

UNSEEN = 1 / (1 - SHRINKS)
"""A step of so many roundings of a value may shrink by less than one of them, which cannot be seen."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a run up to a tick. Per-vertex arrays are in the order of ``names``.

    ``learnt`` is the divergence of what a vertex's parameters learn from: the error now, or, for rules
    that fire once, the error as it was when they fired (infinite before).
    """

    task: Task
    names: tuple[str, ...]
    levels: Array
    cone: Array
    """First tick at which each error can differ from zero; -1 where it never can."""
    criterion: str
    tolerance: float
    tick: int
    learnt: Array
    fraction: Array
    square: Array
    """The squared norm of the backprop error."""
    arrival: Array
    energy: float
    first_energy: float
    criterion_value: float
    last_late: int
    window: int
    """Ticks that are looked at together."""
    swings: float
    """What is left around the means of vertices in a window, the greatest, beside the window before. Not known: 0."""

    @property
    def worst(self) -> float:
        """The greatest divergence of what is learnt, over the vertices that backprop reaches."""
        return float(np.max(self.learnt[self.levels >= 0], initial=0.0))

    @property
    def converged_at(self) -> int | None:
        """The first tick from which the criterion has stayed within the tolerance; None if it does not now."""
        return self.last_late + 1 if self.last_late < self.tick else None

    @cached_property
    def by_level(self) -> dict[int, float]:
        """The share of the backprop error that has arrived, by level."""
        reached = self.levels >= 0
        whole, here = (np.bincount(self.levels[reached], each[reached]) for each in (self.square, self.fraction))
        levels = np.flatnonzero(whole > 0)
        return dict(zip(levels.tolist(), (here[levels] / whole[levels]).tolist(), strict=True))


@dataclass
class Meter:
    """Follows runs of one clock tick by tick. Per-vertex arrays hold all runs; ``rows`` says whose is which.

    Attributes
    ----------
    tasks : of each run
    rows : (runs, vertices), where each run's vertices are in the arrays, all runs in one order of vertices
    names : (vertices,), as the first run calls them
    everywhere : the divergence is recorded, so it is taken of every vertex at every tick
    window : ticks that are looked at together (``analysis/windows.py``)
    memory : ticks for which all errors must be the same to stay so
    travel : ticks after which values are the same where errors are
    value_of : how to read the value of one vertex, by its place in the layout
    """

    tasks: Sequence[Task]
    names: tuple[str, ...]
    rows: Array
    groups: Sequence[Group]
    levels: Array
    cone: Array
    criterion: str
    tolerance: float
    losses: Sequence[Lossy]
    everywhere: bool
    window: int
    memory: int
    travel: int
    value_of: Callable[[int], Read]
    norm: Array = field(init=False)
    divergence: Array = field(init=False)
    learnt: Array = field(init=False)
    fraction: Array = field(init=False)
    arrival: Array = field(init=False)
    energy: Array = field(init=False)
    first_energy: Array = field(init=False)
    criterion_value: Array = field(init=False)
    left: Array = field(init=False)
    """(runs,): how far errors are from their limits, where that is looked at, as the last two windows show it."""
    last_late: Array = field(init=False)
    swings: Array = field(init=False)
    energies: Array = field(init=False)
    """(runs, vertices): each vertex's share of the free energy."""
    changed: Array = field(init=False)
    """(ticks, runs): the relative change of free energy, at the ticks taken last."""
    apart: Array = field(init=False)
    """(ticks, runs): the sum of the changes of its vertices' shares."""
    last_changed: Array = field(init=False)
    windows: Windows = field(init=False)
    held: Held = field(init=False)
    unchanged: Unchanged = field(init=False)
    tick: int = -1
    shared: bool = False
    """Whether the share of the backprop error that each vertex has is that of the last tick already."""

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all that has been noted."""
        self.tick, self.shared = -1, False
        settles, window = self.criterion == "settled" or self.learns, self.window
        wanted = [group.wanted for group in self.groups]
        self.windows = Windows(window, wanted if settles else [])
        self.held = Held(window, len(self.rows))
        self.unchanged = Unchanged(wanted if self.finds_stationary else [], len(self.rows))
        count, runs = self.rows.size, len(self.rows)
        self.norm, self.divergence, self.fraction = np.zeros(count), np.zeros(count), np.zeros(count)
        self.learnt, self.arrival = np.full(count, np.inf), np.full(count, -1)
        self.energy, self.first_energy = np.full(runs, np.nan), np.full(runs, np.nan)
        self.energies, self.last_changed = np.full(self.rows.shape, np.nan), np.full(runs, -1)
        self.criterion_value, self.left = np.full(runs, np.inf), np.full(runs, np.inf)
        self.last_late, self.swings = np.full(runs, -1), np.zeros(runs)

    def snapshot(self) -> dict[str, Array]:
        """Return all that has been noted, by name; copies."""
        found = {key: np.array(getattr(self, key)) for key in NOTED}
        found |= {f"before/{number}": group.before.copy() for number, group in enumerate(self.groups)}
        for name, kept in (("windows", self.windows), ("unchanged", self.unchanged)):
            found |= {f"{name}/{key}": array for key, array in kept.snapshot().items()}
        return found | {
            "tick": np.array(self.tick),
            "held": self.held.values.copy(),
            "taken": np.array(self.held.taken),
        }

    def load(self, found: Mapping[str, Array]) -> None:
        """Go on from what had been noted; raises InputError where that is of another measure."""
        if missing := [key for key in (*NOTED, "tick", "held") if key not in found]:
            raise wrong("resume", f"nothing was measured before the checkpoint (no {missing[0]}); measure nothing now")
        for key in NOTED:
            setattr(self, key, np.array(found[key]))
        for number, group in enumerate(self.groups):
            group.before[...] = found[f"before/{number}"]
        self.tick = int(found["tick"])
        self.windows.load(_under("windows/", found))
        self.unchanged.load(_under("unchanged/", found))
        self.held.values, self.held.taken = np.array(found["held"]), int(found["taken"])

    def follow(self, tick: int) -> None:
        """Take the measures of a tick."""
        self.tick, self.shared = tick, False
        with np.errstate(all="ignore"):
            self._take_energies(self._energies()[self.rows][None])
            fresh = (self.arrival < 0) & (self.norm != 0)
            self.arrival[fresh] = tick
            self._take(self._firing(fresh), final=False)
            self.criterion_value = _CRITERIA[self.criterion](self)
            if self.finds_stationary:
                self._note_stationary()
            self.criterion_value = np.where(self.never_moves(), 0.0, self.criterion_value)
        if tick == 0:
            self.first_energy = self.energy
        self._note_late(tick, self.criterion_value[None])

    def _take_energies(self, energies: Array) -> Array:
        """Take each vertex's share of the free energy, (ticks, runs, vertices); return the whole, (ticks, runs)."""
        whole = energies.sum(axis=2)
        if self.criterion == "energy":
            self._take_changes(energies, whole)
        self.energies, self.energy = energies[-1], whole[-1]
        return np.asarray(whole)

    def _take_changes(self, energies: Array, whole: Array) -> None:
        """Take the relative change of the free energy at each tick, and the sum of those of its vertices' shares.

        Where the energy is zero, the changes themselves.
        """
        steps = np.diff(energies, axis=0, prepend=self.energies[None])
        size = np.where(whole != 0, np.abs(whole), 1.0)
        before = np.concatenate([self.energy[None], whole[:-1]])
        self.changed, self.apart = np.abs(whole - before) / size, np.abs(steps).sum(axis=2) / size

    def _note_late(self, first: int, value: Array) -> None:
        """Note up to which tick the criterion has not been within the tolerance; (ticks, runs) from ``first`` on.

        Where it is known only now that free energy has come to rest, it has rested since it last changed.
        """
        self.last_late = _last(~(value <= self.tolerance), first, self.last_late)
        if self.criterion == "energy" and self.window == 1:
            due = np.arange(first, first + len(value))[:, None] < self.arrived
            self.last_changed = _last(~(self.changed <= self.tolerance) | due, first, self.last_changed)
            known = (value[-1] <= self.tolerance) & ~self.never_moves()
            self.last_late = np.where(known, self.last_changed, self.last_late)

    @cached_property
    def learns(self) -> bool:
        """Whether small steps say nothing, as parameters learn at every tick: errors must be at their limits too."""
        return self.criterion in ("update", "energy") and self.tasks[0].rule.fires.applies

    @cached_property
    def finds_stationary(self) -> bool:
        """Whether errors that do not change at all are looked for: parameters that learn meanwhile change them later.

        Without delays free energy says it as well: it does not change either.
        """
        steps = self.criterion in ("settled", "update") or (self.criterion == "energy" and self.window > 1)
        return steps and not self.tasks[0].rule.fires.applies

    def _note_stationary(self) -> None:
        """Take runs as converged whose errors have been the same for so long that they stay so."""
        self.unchanged.take(self.tick, [group.error() for group in self.groups], self.rows)
        since = self.unchanged.since
        begun = np.where((since == 0) & (self.criterion == "settled"), -1, since + self.travel)
        same = self.tick - since >= self.memory
        self.criterion_value = np.where(same, 0.0, self.criterion_value)
        self.last_late = np.where(same, np.minimum(self.last_late, begun), self.last_late)

    def never_moves(self) -> Array:
        """Return which runs have no error anywhere, and began with values that fit: nothing moves, ever, (runs,)."""
        found = self.fit & (self.arrival[self.rows] < 0).all(axis=1)
        if found.any():
            self.learnt[self.rows[found]] = 0.0
        return np.asarray(found)

    @cached_property
    def limits(self) -> list[Array]:
        """The errors that vertices have in the limit, where it is known, in groups as they are read."""
        found = [np.full(group.wanted.shape, np.nan) for group in self.groups]
        for one, rows in zip(map(oracle, self.tasks), self.rows, strict=True):
            if isinstance(one, Oracle):
                errors = dict(zip(rows.tolist(), map(one.limit.error_of, self.names), strict=True))
                for there, group in zip(found, self.groups, strict=True):
                    here = range(group.rows.start, group.rows.stop)
                    for place in errors.keys() & set(here):
                        there[place - group.rows.start] = errors[place]
        return found

    @cached_property
    def limit_known(self) -> Array:
        """Which runs have a limit that is known and that they come to, (runs,)."""
        return np.array([isinstance(one, Oracle) and one.stable is True for one in map(oracle, self.tasks)])

    @cached_property
    def limit_scales(self) -> Array:
        """What distances from these are divided by, (vertices,)."""
        found = np.ones(self.rows.size)
        for one, rows in zip(map(oracle, self.tasks), self.rows, strict=True):
            if isinstance(one, Oracle):
                found[rows] = [one.limit.scales[name] for name in self.names]
        return found

    @cached_property
    def fit(self) -> Array:
        """Which runs began with values that are their predictions, (runs,)."""
        return np.array([not task.initial for task in self.tasks])

    @property
    def follows_blocks(self) -> bool:
        """Whether the norms of errors, and of how far they are from backprop's, are all that is looked at."""
        rule = self.tasks[0].rule
        plain = rule.output_variance == 1 and all(group.precision is None for group in self.groups)
        known = self.criterion == "gradient" or (self.criterion == "energy" and self.window == 1)
        known = known and not self.losses and not self.learns
        return plain and known and not rule.fires.at_front and not rule.keeps_multipliers

    def follow_block(self, first: int, squares: Array, apart: Array) -> dict[str, Array]:
        """Take the measures of ticks from ``first`` on, from what the engine noted; return them as series.

        ``squares`` and ``apart`` are (ticks, vertices), squared norms in the order of the layout.
        """
        norms, count = np.sqrt(squares), len(squares)
        scale = np.concatenate([group.scale for group in self.groups])
        with np.errstate(all="ignore"):
            divergence = np.sqrt(apart) / scale
            energy = self._take_energies(0.5 * squares[:, self.rows])
        moved = norms != 0
        fresh = (self.arrival < 0) & moved.any(axis=0)
        self.arrival[fresh] = first + moved[:, fresh].argmax(axis=0)
        value = np.where(self.never_moves(), 0.0, self._criteria(first, divergence))
        if first == 0:
            self.first_energy = energy[0]
        self._note_late(first, value)
        self.tick, self.norm[:], self.divergence[:], self.learnt[:] = (
            first + count - 1,
            norms[-1],
            divergence[-1],
            divergence[-1],
        )
        self.criterion_value = value[-1]
        self._share(squares[-1], apart[-1])
        return {"norm": norms, "divergence": divergence, "energy": energy}

    def _criteria(self, first: int, divergence: Array) -> Array:
        """Return the criterion at each tick of a block: (ticks, runs)."""
        if self.criterion == "energy":
            ticks = np.arange(first, first + len(divergence))[:, None]
            return np.where(ticks < self.arrived, np.inf, self.turning_left_out())
        learnt = np.where(self.levels >= 0, divergence, 0.0)
        value = np.asarray(np.max(learnt[:, self.rows], axis=2, initial=0.0))
        return self.when_due(value, np.arange(first, first + len(value))[:, None])

    def turning_left_out(self) -> Array:
        """Return the relative change of free energy, infinite in the first tick, and where it only seems to rest.

        Where it turns, it stands still for a moment: some vertices gain what others lose.
        """
        rests = (self.apart <= self.tolerance) | ~(self.changed <= self.tolerance)
        return np.where(rests & ~np.isnan(self.changed), self.changed, np.inf)

    def hold(self, value: Array, noise: Callable[[Meter], Array]) -> Array:
        """Return a criterion that has held for as long as anything can be on its way, (runs,).

        It need not shrink where that is too little to be seen beside roundings: ``noise`` is what they make of it.
        """
        if self.learns:
            self.look_ahead()
            value = np.where(self.left <= self.tolerance, value, np.inf)
        most, shrinks = self.held.take(value if self.tick >= self.arrived else np.full_like(value, np.inf))
        if ((most <= self.tolerance) & ~shrinks).any():
            shrinks = shrinks | (most <= noise(self))
        return np.where(shrinks, most, np.inf)

    def look_ahead(self) -> TwoWindows | None:
        """Take how far errors are from their limits; return the windows that show it, None where none ends here."""
        shown = self.windows.take([group.error() for group in self.groups], self.norm)
        if shown is None or self.tick < max(SETTLED_FROM, int(self.cone.max(initial=0))):
            return None
        if self.criterion == "update":  # which is no share of anything
            shown = replace(shown, size=np.ones_like(shown.size))
        self.left = _left(self, shown)
        return shown

    @cached_property
    def arrived(self) -> int:
        """The tick by which every vertex has an error, where it can; with delays, a window later."""
        return int(self.cone.max(initial=0)) + (self.window if self.window > 1 else 0)

    def when_due(self, value: Array, ticks: Array | int) -> Array:
        """Return the divergence, infinite at ticks at which something under way can still change what is near enough.

        value : (runs,) or (ticks, runs)
        """
        near = value <= self.tolerance
        if not near.any():
            return value
        due = np.array([gradient_due(task, self.tolerance) for task in self.tasks])
        return np.where(near & (ticks < due), np.inf, value)

    def _share(self, squares: Array, apart: Array) -> None:
        """Take how much of the backprop error each vertex has: <a, b> = (|a|^2 + |b|^2 - |a - b|^2) / 2.

        Where errors have grown so far beyond backprop's that the sum cancels, it is not known: NaN.
        """
        cancels = squares > MOST_CANCELLED * self.squares.max(initial=0.0)
        self.fraction[:] = np.where(cancels, np.nan, (squares + self.squares - apart) / 2)
        self.shared = True

    @cached_property
    def squares(self) -> Array:
        """The squared norms of the backprop errors."""
        return np.concatenate([row_products(group.wanted, group.wanted) for group in self.groups]).astype(float)

    def _energies(self) -> Array:
        """Take the norms, and return each vertex's share of the free energy."""
        energies = np.empty_like(self.norm)
        for group in self.groups:
            error = group.error()
            square = squares_of(np, error)
            self.norm[group.rows] = np.sqrt(square)
            weighted = square if group.precision is None else np.einsum("ij,ij,ij->i", error, group.precision, error)
            energies[group.rows] = 0.5 * weighted.astype(float)
        for outputs in self.losses:
            energies[outputs.rows] = outputs.energy()
        return energies

    def _firing(self, fresh: Array) -> Array | None:
        """Return which vertices' parameters learn at this tick; None for all."""
        fires = self.tasks[0].rule.fires
        if not fires.at_front:
            return None
        return fresh if fires.waits else np.asarray(fires.due(self.tick, self.levels, False))

    def _take(self, firing: Array | None, *, final: bool) -> None:
        """Take the divergence of those that fire, and how much of the backprop error they have."""
        whole = self.everywhere or (firing is None and (final or self.criterion == "gradient"))
        for group in self.groups:
            here = slice(None) if firing is None or whole else np.nonzero(firing[group.rows])[0]
            if isinstance(here, slice) and not whole:
                continue
            if isinstance(here, slice) or len(here):
                self._compare(group, here, firing, final=final)

    def _compare(self, group: Group, here: Any, firing: Array | None, *, final: bool) -> None:
        sent, wanted = group.sent(self.tasks[0].rule.output_variance)[here], group.wanted[here]
        away = np.subtract(sent, wanted, out=group.work[: len(sent)])
        found = np.sqrt(squares_of(np, away)) / group.scale[here]
        self.divergence[group.rows][here] = found
        fires = np.ones(len(wanted), bool) if firing is None else firing[group.rows][here]
        self.learnt[group.rows][here] = np.where(fires, found, self.learnt[group.rows][here])
        if final or (firing is not None and fires.any()):
            along = row_products(sent, wanted)
            self.fraction[group.rows][here] = np.where(fires, along, self.fraction[group.rows][here])

    def noises(self, values: Array, roundings: float) -> Array:
        """Return how far rounding alone moves the errors of vertices: (vertices, batch, *shape) -> (vertices,)."""
        flat = values.reshape(len(values), -1)
        return np.asarray(roundings * np.finfo(flat.dtype).eps * np.sqrt(squares_of(np, flat)))

    def all_noises(self, roundings: float) -> Array:
        """Return the same of all vertices, in the order of the layout."""
        return np.concatenate([self.noises(group.value(), roundings) for group in self.groups])

    def noise(self, place: int, roundings: float) -> float:
        """Return the same of one vertex, by its place in the layout."""
        return float(self.noises(self.value_of(place)(), roundings)[0])

    def of(self, run: int) -> Measured:
        """Return what was measured of a run up to the last tick that was followed; call it before that tick moves."""
        with np.errstate(all="ignore"):
            if not self.tasks[0].rule.fires.at_front and not self.shared:
                self._take(None, final=True)
        rows, square = self.rows[run], self.squares
        return Measured(self.tasks[run], self.names, self.levels[rows], self.cone[rows], self.criterion, self.tolerance,
                     self.tick, self.learnt[rows], self.fraction[rows], square[rows], self.arrival[rows],
                     float(self.energy[run]), float(self.first_energy[run]), float(self.criterion_value[run]),
                     int(self.last_late[run]), self.window, float(self.swings[run]))  # fmt: skip


def _under(place: str, found: Mapping[str, Array]) -> dict[str, Array]:
    return {key.removeprefix(place): array for key, array in found.items() if key.startswith(place)}


NOTED = ("norm", "divergence", "learnt", "fraction", "arrival", "energy", "first_energy", "criterion_value",
         "left", "last_late", "swings", "energies", "last_changed")  # fmt: skip
"""What a meter keeps from tick to tick."""


def _gradient(found: Meter) -> Array:
    learnt = np.where(found.levels >= 0, found.learnt, 0.0)
    return found.when_due(np.asarray(np.max(learnt[found.rows], axis=1, initial=0.0)), found.tick)


def _signal(found: Meter) -> Array:
    """Return 1 less the projection of an error on backprop's, as a share of that one, of the vertex with the least."""
    missing = []
    for group in found.groups:
        wanted = group.wanted.astype(np.float64)
        size = row_products(wanted, wanted)
        sent = group.sent(found.tasks[0].rule.output_variance).astype(np.float64)
        known = (size > 0) & np.isclose(np.sqrt(size), group.scale, rtol=1e-3)  # else it is rounding of zero
        missing.append(np.where(known, 1 - row_products(sent, wanted) / np.where(known, size, 1.0), 0.0))
    return found.when_due(np.asarray(np.max(np.concatenate(missing)[found.rows], axis=1, initial=0.0)), found.tick)


def _update(found: Meter) -> Array:
    moved = [np.max(np.abs(group.change(group.value())), axis=1, initial=0.0) for group in found.groups]
    if found.tick == 0:
        return np.full(len(found.rows), np.inf)
    return found.hold(np.asarray(np.max(np.concatenate(moved)[found.rows], axis=1, initial=0.0)), _value_noise)


def _value_noise(found: Meter) -> Array:
    """Return how far rounding alone moves values, the greatest of each run."""
    return np.asarray(np.max(found.all_noises(UNSEEN)[found.rows], axis=1, initial=0.0))


def _limit(found: Meter) -> Array:
    """Return the greatest relative distance of a vertex's error from the limit that is solved for, (runs,).

    The greatest of a window: with delays what is under way may take errors out again. Infinite where the limit is not
    known, or is none that a run comes to.
    """
    known = found.limit_known
    if not known.any():
        return np.full(len(found.rows), np.inf)
    away = np.concatenate(
        [
            np.sqrt(squares_of(np, group.error() - there))
            for group, there in zip(found.groups, found.limits, strict=True)
        ]
    )
    value = np.where(known, np.max((away / found.limit_scales)[found.rows], axis=1, initial=0.0), np.inf)
    most = found.held.take(value)[0]
    begun = found.tick - found.window  # in a window that is within the tolerance, errors are so from its beginning on
    found.last_late = np.where(most <= found.tolerance, np.minimum(found.last_late, begun), found.last_late)
    return most


def _settled(found: Meter) -> Array:
    """Return the greatest relative distance of a vertex's error from its limit, estimated from its last two windows."""
    if (shown := found.look_ahead()) is not None:
        begun = found.tick - shown.window  # in a window that is found at rest, what comes is so from its beginning on
        found.last_late = np.where(found.left <= found.tolerance, np.minimum(found.last_late, begun), found.last_late)
    return found.left


def _left(found: Meter, shown: TwoWindows) -> Array:
    """Return the greatest distance from the limit of each run, (runs,)."""
    swing, swing_before = (each[found.rows].max(axis=1) for each in (shown.spread, shown.spread_before))
    found.swings = np.where(np.isinf(swing), np.inf, swing / swing_before)  # squares of numbers may be infinite
    left = shown.left()[found.rows]
    furthest = found.rows[np.arange(len(left)), left.argmax(axis=1)]
    roundings = NOISE * shown.window**0.5
    if (shown.spread[furthest] > [found.noise(int(place), roundings) for place in furthest]).all():
        return np.asarray(left.max(axis=1))  # so that no other noise could change it
    return np.asarray(np.max(shown.left(found.all_noises(roundings))[found.rows], axis=1, initial=0.0))


def _energy(found: Meter) -> Array:
    """Return the relative change of the free energy in this tick; infinite in the first."""
    return found.hold(found.turning_left_out()[-1], _energy_noise)


def _energy_noise(found: Meter) -> Array:
    """Return by how much rounding of values alone changes the free energy of each run, relative to it."""
    norm, noise = found.norm[found.rows], found.all_noises(UNSEEN)[found.rows]
    slope = np.where(norm > 0, np.maximum(norm, 2 * found.energies / norm), 0.0)  # precisions weigh errors
    return np.asarray(np.sum(slope * noise, axis=1) / np.where(found.energy != 0, np.abs(found.energy), 1.0))


def _last(which: Array, first: int, before: Array) -> Array:
    """Return the last tick at which something was so, (ticks, runs) from ``first`` on; ``before`` where at none."""
    last = first + len(which) - 1 - which[::-1].argmax(axis=0)
    return np.where(which.any(axis=0), last, before)


_CRITERIA: dict[str, Callable[[Meter], Array]] = {
    "gradient": _gradient,
    "signal": _signal,
    "update": _update,
    "settled": _settled,
    "limit": _limit,
    "energy": _energy,
}


@kept_by_task
def cone_of(task: Task) -> dict[str, int | None]:
    """Return the first tick at which each error can differ from zero; None for never.

    A run that starts elsewhere than in the feedforward sweep has errors from tick 0 on.
    """
    if task.initial:
        return dict.fromkeys(task.graph.active, 0)
    cone = light_cone(task.graph, moving=task.rule.moving, learning=task.rule.fires.applies)
    return {name: tick and 1 for name, tick in cone.items()} if task.rule.sweeps else cone


def start_meter(
    ensemble: Ensemble, references: Sequence[Reference], criterion: str, tolerance: float, *, everywhere: bool
) -> Meter:
    """Return what follows runs; ``criterion`` is a row of ``CRITERIA``."""
    tasks, task, session = ensemble.tasks, ensemble.task, ensemble.clock
    layouts = session.layout()
    order = [name for layout in layouts for name in layout]
    places = {name: place for place, name in enumerate(order)}
    rows = np.array([[places[name] for name in names.values()] for names in ensemble.names], np.intp)
    rows = rows[:, np.argsort(rows[0], kind="stable")]
    wanted = {
        ensemble.names[k][name]: error for k, found in enumerate(references) for name, error in found.errors.items()
    }
    scale = {ensemble.names[k][name]: size for k, each in enumerate(tasks) for name, size in scales(each).items()}
    groups, start = [], 0
    for layout in layouts:
        groups.append(group_of(task, session, wanted, layout, start, scale))
        start += len(layout)
    names = tuple(sorted(ensemble.names[0], key=lambda name: places[ensemble.names[0][name]]))
    found, cone = vertex_levels(tasks[0].graph), cone_of(tasks[0])
    levels, first = np.empty(len(places), int), np.empty(len(places), int)
    for here in rows:
        levels[here] = [-1 if (level := found[name]) is None else level for name in names]
        first[here] = [-1 if (tick := cone[name]) is None else tick for name in names]
    losses = lossy_outputs(task, session, places)
    window = max(window_of(each.graph, moving=each.rule.moving) for each in tasks)
    moving = task.rule.moving
    kept = max(memory(each.graph, moving=moving) for each in tasks)
    travel = max(value_travel(each.graph, moving=moving) for each in tasks)
    value_of = cache(lambda place: session.reader("value", [order[place]]))
    return Meter(tasks, names, rows, groups, levels, first, criterion, tolerance, losses, everywhere, window,
                 kept, travel, value_of)  # fmt: skip
