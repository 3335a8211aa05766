"""Vertices whose errors are measured together: those of one shape, and outputs with one loss."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcsim.ops import LOSSES
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.arrays import Shape
    from pcsim.engines.base import Read, Session, Task

Array = np.ndarray


@dataclass
class Group:
    """Vertices of one shape, read together. Arrays are (vertices, batch * units)."""

    read: Read
    value: Read
    wanted: Array
    """The backprop error."""
    scale: Array
    """(vertices,): what differences are divided by (``backprop.scales``)."""
    precision: Array | None
    rows: slice
    before: Array
    """The error, or the value, at the tick before."""
    work: Array
    """Room for a difference."""
    credit: Read | None = None
    """Reads what parameters learn from, where it is more than the error times its precision."""

    def error(self) -> Array:
        """Return the errors of this tick."""
        return self.read().reshape(self.wanted.shape)

    def sent(self, variance: float) -> Array:
        """Return what parameters learn from: the credit, or errors times their precision and the output variance."""
        if self.credit is not None:
            return self.credit().reshape(self.wanted.shape)
        sent = self.error() if self.precision is None else self.precision * self.error()
        return sent if variance == 1 else variance * sent

    def change(self, now: Array) -> Array:
        """Return how far each number is from the tick before, and remember it for the next."""
        now = now.reshape(self.wanted.shape)
        np.subtract(now, self.before, out=self.work)
        self.before[...] = now
        return self.work


@dataclass(frozen=True)
class Lossy:
    """Outputs of one shape with a loss other than squared error: their energy is the weighted loss."""

    loss: str
    rows: Array
    target: Array
    prediction: Read
    weight: Array
    """(outputs,): the mean precision of each."""

    def energy(self) -> Array:
        """Return the weighted loss of each output, summed over the batch."""
        loss = LOSSES[self.loss].value(np, self.prediction(), self.target)
        return np.asarray(self.weight * np.sum(loss.reshape(len(self.weight), -1), axis=1, dtype=float))


def lossy_outputs(task: Task, session: Session, places: Mapping[str, int]) -> list[Lossy]:
    """Return the outputs with a loss other than squared error, by loss and shape."""
    groups: dict[tuple[str, Shape], list[str]] = defaultdict(list)
    for name, loss in task.losses.items():
        if not LOSSES[loss].clamps:
            groups[loss, task.graph.vertices[name].shape].append(name)
    return [
        Lossy(
            loss,
            np.array([places[name] for name in names]),
            np.stack([np.asarray(task.targets[name], task.dtype) for name in names]),
            session.reader("prediction", names),
            np.array([float(np.mean(precision_of(task.graph, name, task.rule))) for name in names]),
        )
        for (loss, _), names in groups.items()
    ]


def group_of(
    task: Task,
    session: Session,
    errors: Mapping[str, Array],
    names: tuple[str, ...],
    start: int,
    scale: Mapping[str, float],
) -> Group:
    """Return the group of vertices of one shape, whose rows begin at ``start``.

    ``errors`` and ``scale`` are the backprop errors and what differences are divided by, by vertex of the session.
    """
    wanted = np.stack([errors[name].ravel() for name in names])
    rows = slice(start, start + len(names))
    given = [precision_of(task.graph, name, task.rule) * np.ones(task.graph.vertices[name].shape) for name in names]
    unit = all((one == 1).all() for one in given)
    precision = None if unit else np.stack([np.tile(one.ravel(), task.batch) for one in given]).astype(task.dtype)
    return Group(session.reader("error", names), session.reader("value", names), wanted,
                 np.array([scale[name] for name in names]), precision, rows,
                 np.zeros_like(wanted), np.empty_like(wanted),
                 session.reader("credit", names) if task.rule.keeps_multipliers else None)  # fmt: skip
