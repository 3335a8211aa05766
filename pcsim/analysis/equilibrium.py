"""Where inference comes to rest, solved for and not waited for.

Under standard predictive coding and in error coordinates alike, the equilibrium is where the free energy
``F(e) = 1/2 sum of e Pi e + L(x(e))`` has no slope. As a function of the errors it is curved by ``Pi`` everywhere, and
beyond that along no more directions than a sample's outputs have units: on a linear graph its Hessian is
``Pi + J^T Pi J`` with ``J = d output / d e``. A quasi-Newton method that remembers a few dozen directions (L-BFGS, each
sample by itself) therefore solves a linear graph in about as many sweeps as there are outputs, however deep it is and
however long ``il`` would take, and a curved one in some more. It begins at e = 0, the feedforward sweep, where its
first direction is backprop's error. A curved graph may have several equilibria; this one is downhill from there.

Delays change when an error arrives, not where it all ends, and are left out of account.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pcsim.analysis.conditions import asymmetric, coupled
from pcsim.engines.sweeps import SweepSession
from pcsim.errors import InputError, NumberOverflowError, Problem, RunError, wrong
from pcsim.graph.crossings import why_channels
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pcsim.engines.base import Session, Task
    from pcsim.engines.state import State

Array = np.ndarray
Slopes = tuple[Array, Array, Array]
"""F of each sample (samples,), dF/de (samples, numbers), and the size of what dF/de is a difference of (samples,)."""

REMEMBERED = 24
"""Directions that are remembered."""
MOST_STEPS = 2000
MOST_HALVINGS = 40
ROUNDINGS = 64
"""Roundings of what a slope is the difference of that may be left of it."""
NEAR = 1e4
"""So many times as much is still taken for rest, where no step brings it lower."""


def equilibrium(task: Task) -> Session:
    """Return a session of one tick, at equilibrium; raises InputError where none is solved for, with every reason."""
    if problems := list(_objections(task)):
        raise InputError(problems)
    return EquilibriumSession(task)


def _objections(task: Task) -> Iterator[Problem]:
    rule, here = task.rule, "equilibrium"
    if not rule.moving or not rule.fires.only_last or rule.keeps_multipliers:
        yield Problem(
            ("solve",), f"{here} needs predictions that move, and updates at the end: il, epc; got {rule.name!r}"
        )
    if task.graph.has_channels:
        yield Problem(("solve",), f"{here} has every message delivered; here {why_channels(task.graph)}")
    if kept := asymmetric(task.graph):
        yield Problem(("solve",), f"{here} needs symmetric feedback; {kept[0]!r} has another")
    for name, loss in task.losses.items():
        precision = np.asarray(task.graph.vertices[name].precision)
        if not LOSSES[loss].clamps and np.ptp(precision) > 0:
            yield Problem(("solve",), f"{here} needs one precision for all units of {name!r}, whose loss is {loss}")


class EquilibriumSession(SweepSession):
    """A run of one tick, in which everything is at rest."""

    name = "equilibrium"
    settled = True

    def predict(self, tick: int) -> None:
        """Go to where inference comes to rest; raises RunError where there is none in sight."""
        self.tick = tick
        with np.errstate(all="ignore"):
            flat = self._solved(tick)
            self._put(flat)
            self.forward(tick)

    def move(self) -> None:
        """Stay."""
        self.next_tick = self.tick + 1

    def snapshot(self) -> State:
        """Refuse: one tick is the whole run."""
        raise wrong("state", "a run that is solved for is one tick, with no state to go on from")

    def _solved(self, tick: int) -> Array:
        together = bool(coupled(self.graph))
        search = Search(lambda flat: self._slopes(flat, tick), self._flat(self.errors), together)
        scale = self._flat({name: np.broadcast_to(self.precision[name], self.errors[name].shape) for name in self.free})
        errors, left = search.run(scale)
        if not left <= NEAR * ROUNDINGS * np.finfo(self.task.dtype).eps:
            what = f"after {search.steps} steps errors still differ by {left:.1g} of themselves from what comes back"
            message = f"no equilibrium was found: {what}; simulate, or take smaller weights"
            raise RunError(message)
        return errors

    def _slopes(self, flat: Array, tick: int) -> Slopes:
        self._put(flat)
        try:
            self.forward(tick)
        except NumberOverflowError:
            return np.full(len(flat), np.inf), np.full_like(flat, np.inf), np.ones(len(flat))
        self.back()
        weighted = {name: self.weighted(name) for name in self.free}
        own, received = self._flat(weighted), self._flat(self.received)
        energy = 0.5 * np.sum(own * flat, axis=1) + self._loss()
        return energy, own - received, np.maximum(np.abs(own), np.abs(received)).max(axis=1, initial=0.0)

    def _loss(self) -> Array:
        """Return the loss of each sample, weighted, (samples,)."""
        total = np.zeros(self.task.batch)
        for name, target in self.task.targets.items():
            row, error = LOSSES[self.task.losses[name]], self.errors[name]
            if row.clamps:
                total = total + 0.5 * np.sum((self.weighted(name) * error).reshape(self.task.batch, -1), axis=1)
            else:
                wanted = np.asarray(target, self.task.dtype)[None]
                total = total + float(self.precision[name].flat[0]) * row.value(np, self.local[name].mu, wanted)[0]
        return total

    def _flat(self, arrays: dict[str, Array]) -> Array:
        """Return what free vertices have, side by side: (samples, numbers)."""
        parts = [arrays[name].reshape(self.task.batch, -1) for name in self.free]
        return np.concatenate([np.zeros((self.task.batch, 0), self.task.dtype), *parts], axis=1)

    def _put(self, flat: Array) -> None:
        start = 0
        for name in self.free:
            shape = self.errors[name].shape
            size = int(np.prod(shape[2:]))
            self.errors[name] = flat[:, start : start + size].reshape(shape)
            start += size


@dataclass
class Search:
    """L-BFGS on many samples side by side, each with directions and steps of its own.

    ``together``: the samples are one problem, since some op couples them.
    """

    slopes: Callable[[Array], Slopes]
    point: Array
    together: bool = False
    pairs: list[tuple[Array, Array, Array]] = field(default_factory=list)
    """Steps, changes of slope (samples, numbers), and 1 over their product (samples,)."""
    steps: int = 0

    def run(self, scale: Array) -> tuple[Array, float]:
        """Return the equilibrium, and what is left of the slope there, relative to what it is the difference of.

        ``scale`` is the curvature that every direction has at least, (samples, numbers).
        """
        eps = ROUNDINGS * float(np.finfo(self.point.dtype).eps)
        energy, slope, size = self._seen(self.point)
        left = self._left(slope, size)
        stopped = plain = np.zeros(len(left), bool)
        while self.steps < MOST_STEPS and (moving := (left > eps) & ~stopped).any():
            direction = np.where(moving[:, None], self._direction(slope, scale, plain), 0)
            step, seen = self._searched(direction, energy, slope)
            failed = moving & ~step.any(axis=1)
            stopped, plain = stopped | (failed & plain), failed
            self._remember(step, seen[1] - slope)
            self.point = self.point + step
            (energy, slope, size), self.steps = seen, self.steps + 1
            left = self._left(slope, size)
        return self.point, float(left.max(initial=0.0))

    def _direction(self, slope: Array, scale: Array, plain: Array) -> Array:
        """Return where to go: against the slope, by what is known of the curvature, but where a step so failed."""
        direction = -self._newton(slope, scale)
        plain = plain | (self._dot(direction, slope) >= 0)
        return np.where(plain[:, None], -slope / scale, direction)

    def _seen(self, point: Array) -> Slopes:
        energy, slope, size = self.slopes(point)
        if self.together:
            energy, size = np.full_like(energy, energy.sum()), np.full_like(size, size.max(initial=0.0))
        return energy, slope, size

    def _dot(self, a: Array, b: Array) -> Array:
        product = np.einsum("ij,ij->i", a, b)
        return np.full_like(product, product.sum()) if self.together else product

    def _left(self, slope: Array, size: Array) -> Array:
        most = np.abs(slope).max(axis=1, initial=0.0)
        most = np.full_like(most, most.max(initial=0.0)) if self.together else most
        return np.asarray(np.where(size > 0, most / np.where(size > 0, size, 1), most))

    def _newton(self, slope: Array, scale: Array) -> Array:
        """Return the slope times the inverse curvature, as far as it is known."""
        kept = []
        for step, change, inverse in reversed(self.pairs):
            share = inverse * self._dot(step, slope)
            slope = slope - share[:, None] * change
            kept.append(share)
        slope = slope / scale
        for (step, change, inverse), share in zip(self.pairs, reversed(kept), strict=True):
            slope = slope + (share - inverse * self._dot(change, slope))[:, None] * step
        return slope

    def _searched(self, direction: Array, energy: Array, slope: Array) -> tuple[Array, Slopes]:
        """Return steps that lower each sample's energy, halved until they do, and what is seen after them.

        Where that is less than a few roundings of the energy, steps that make the slope less steep.
        """
        descent, rate = self._dot(direction, slope), np.ones(len(energy), direction.dtype)
        unseen = -descent <= 1e3 * np.finfo(direction.dtype).eps * np.abs(energy)
        steepness = self._dot(slope, slope)
        for _ in range(MOST_HALVINGS):
            step = rate[:, None] * direction
            seen = self._seen(self.point + step)
            lower = seen[0] <= energy + 1e-4 * rate * descent
            taken = np.where(unseen, self._dot(seen[1], seen[1]) < steepness, lower) | (descent == 0)
            if taken.all():
                return step, seen
            rate = np.where(taken, rate, rate / 2)
        rate = np.where(taken, rate, 0)
        step = rate[:, None] * direction
        return step, self._seen(self.point + step)

    def _remember(self, step: Array, change: Array) -> None:
        product = self._dot(step, change)
        good = product > np.finfo(step.dtype).eps * self._dot(change, change)
        self.pairs.append((step, change, np.where(good, 1 / np.where(good, product, 1), 0)))
        del self.pairs[:-REMEMBERED]
