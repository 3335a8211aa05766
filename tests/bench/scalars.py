"""A random graph of scalars as one Numba loop over vertices, with a branch for each kind.

Vertices are in topological order, so that one pass in that order may overwrite each error (or value) as soon as it
is known: who feeds on it comes later and has still the old one.
"""

from __future__ import annotations

from functools import cache
from math import cos, exp, log1p, sin, tanh
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.bench.baselines import Baseline, Candidate
from pcsim.bench.family_documents import SCALAR_KINDS

if TYPE_CHECKING:
    from pcsim.engines import Task

TANH, SIGMOID, SIN, COS, SOFTPLUS, NEGATE, SQUARE, ADD, SUBTRACT, MULTIPLY = range(10)
KINDS = {name: number for number, name in enumerate(SCALAR_KINDS)}


def predict(kinds: Any, pres: Any, values: Any, mu: Any, slopes: Any) -> None:
    """Set every prediction and both slopes of every vertex: (vertices, batch) and (2 * vertices, batch)."""
    for vertex in range(len(kinds)):
        kind = kinds[vertex]
        if kind < 0:
            continue
        a, b = values[pres[vertex, 0]], values[pres[vertex, 1]]
        y, da, db = mu[vertex], slopes[2 * vertex], slopes[2 * vertex + 1]
        for n in range(len(y)):
            if kind == TANH:
                y[n] = tanh(a[n])
                da[n] = 1 - y[n] * y[n]
            elif kind == SIGMOID:
                y[n] = 1 / (1 + exp(-a[n]))
                da[n] = y[n] * (1 - y[n])
            elif kind == SIN:
                y[n] = sin(a[n])
                da[n] = cos(a[n])
            elif kind == COS:
                y[n] = cos(a[n])
                da[n] = -sin(a[n])
            elif kind == SOFTPLUS:
                y[n] = max(a[n], 0) + log1p(exp(-abs(a[n])))
                da[n] = 1 / (1 + exp(-a[n]))
            elif kind == NEGATE:
                y[n] = -a[n]
            elif kind == SQUARE:
                y[n] = a[n] * a[n]
                da[n] = 2 * a[n]
            elif kind == ADD:
                y[n] = a[n] + b[n]
            elif kind == SUBTRACT:
                y[n] = a[n] - b[n]
            elif kind == MULTIPLY:
                y[n] = a[n] * b[n]
                da[n] = b[n]
                db[n] = a[n]


def fixed(ticks: int, free: Any, starts: Any, users: Any, slopes: Any, gamma: Any, errors: Any) -> None:
    """Play ticks of fixed predictions; ``users`` are (vertex, its slot) of everyone that feeds on a vertex."""
    keep = 1 - gamma
    for _ in range(ticks):
        for place in range(len(free)):
            mine = errors[free[place]]
            for n in range(len(mine)):
                mine[n] *= keep
            for use in range(starts[place], starts[place + 1]):
                error, slope = errors[users[use] >> 1], slopes[users[use]]
                for n in range(len(mine)):
                    mine[n] += gamma * slope[n] * error[n]


def moving(
    predict: Any, ticks: int, kinds: Any, pres: Any, free: Any, starts: Any, users: Any, gamma: Any,
    values: Any, mu: Any, slopes: Any, errors: Any,
) -> None:  # fmt: skip
    """Play ticks of moving predictions."""
    for _ in range(ticks):
        predict(kinds, pres, values, mu, slopes)
        errors[:] = values - mu
        for place in range(len(free)):
            value, error = values[free[place]], errors[free[place]]
            for n in range(len(value)):
                due = -error[n]
                for use in range(starts[place], starts[place + 1]):
                    due += slopes[users[use], n] * errors[users[use] >> 1, n]
                value[n] += gamma * due


@cache
def compiled() -> tuple[Any, Any, Any]:
    """Return the three loops, compiled."""
    from numba import njit

    return njit(predict), njit(fixed), njit(moving)


CONSTANT = {NEGATE: (-1, 0), ADD: (1, 1), SUBTRACT: (1, -1)}
"""Slopes that never change."""


class Loop:
    """The graph as arrays."""

    def __init__(self, task: Task) -> None:
        graph, self.task = task.graph, task
        self.names = list(graph.vertices)
        self.row = row = {name: number for number, name in enumerate(self.names)}
        self.kinds = np.array([KINDS.get(graph.vertices[name].op.name, -1) for name in self.names], np.int64)
        inputs = [[row[edge.pre] for edge in graph.incoming[name]] for name in self.names]
        self.pres = np.array([(found * 2)[:2] or [0, 0] for found in inputs], np.int64)
        self.free = np.array([row[name] for name in graph.active if graph.role(name) == "free"], np.int64)
        users = [[2 * row[edge.post] + edge.slot for edge in graph.outgoing[self.names[v]]] for v in self.free]
        self.starts = np.cumsum([0, *map(len, users)])
        self.users = np.array([use for found in users for use in found], np.int64)
        self.gamma = task.dtype.type(task.rule.step_size)
        self.values, self.slopes = self._swept()

    def _swept(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the feedforward values (vertices, batch) and slopes (2 * vertices, batch)."""
        task, graph = self.task, self.task.graph
        values = np.zeros((len(self.names), task.batch), task.dtype)
        for name, value in task.inputs.items():
            values[self.row[name]] = value
        for name, vertex in graph.vertices.items():
            if vertex.op.role == "parameter":
                values[self.row[name]] = task.parameters[vertex.params[0][1]]
        slopes = np.array([CONSTANT.get(kind, (0, 0)) for kind in self.kinds.tolist()], task.dtype)
        slopes = np.repeat(slopes.reshape(-1, 1), task.batch, axis=1)
        compiled()[0](self.kinds, self.pres, values, values, slopes)  # in topological order, each feeds the next
        return values, slopes

    def by_vertex(self, errors: np.ndarray) -> dict[str, np.ndarray]:
        return {name: errors[self.row[name]].copy() for name in self.task.graph.active}

    def clamped(self) -> np.ndarray:
        """Return the values at tick 0, outputs clamped to their targets."""
        values = self.values.copy()
        for name, target in self.task.targets.items():
            values[self.row[name]] = target
        return values


def loop_fixed(task: Task) -> Candidate:
    """Errors alone move, along slopes as they were at tick 0."""
    loop, (_, run_ticks, _) = Loop(task), compiled()
    start = loop.clamped() - loop.values
    errors = start.copy()

    def run() -> None:
        run_ticks(task.ticks, loop.free, loop.starts, loop.users, loop.slopes, loop.gamma, errors)

    return Candidate(lambda: np.copyto(errors, start), run, lambda: loop.by_vertex(errors))


def loop_moving(task: Task) -> Candidate:
    """Values move, and with them predictions and slopes."""
    loop, (predicted, _, run_ticks) = Loop(task), compiled()
    start, slopes = loop.clamped(), loop.slopes.copy()
    values, mu = start.copy(), loop.values.copy()
    errors = np.zeros_like(mu)

    def run() -> None:
        args = (loop.kinds, loop.pres, loop.free, loop.starts, loop.users, loop.gamma, values, mu, slopes, errors)
        run_ticks(predicted, task.ticks, *args)

    def read() -> dict[str, np.ndarray]:
        predicted(loop.kinds, loop.pres, values, mu, slopes)
        return loop.by_vertex(values - mu)

    def reset() -> None:
        np.copyto(values, start)
        np.copyto(mu, loop.values)

    return Candidate(reset, run, read)


BASELINES = (
    Baseline("Numba loop by hand", "ticks", ("scalar-dag",), ("fpa",), loop_fixed, needs=("numba",)),
    Baseline("Numba loop by hand", "ticks", ("scalar-dag",), ("il",), loop_moving, needs=("numba",)),
)
