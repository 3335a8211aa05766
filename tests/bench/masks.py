"""All units of a layered net in one dense matrix with a mask, as for arbitrary connections: every tick pays for all."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from pcsim.bench.baselines import Baseline, Candidate

if TYPE_CHECKING:
    from pcsim.engines import Task


class Mask:
    """One matrix (units, units) and one bias for inputs and layers laid end to end."""

    def __init__(self, task: Task) -> None:
        (x,), (target,) = task.inputs.values(), task.targets.values()
        self.names, self.task = task.graph.active, task
        weights = [task.parameters[f"{name}.weight"] for name in self.names]
        ends = list(accumulate([x.shape[1], *(len(weight) for weight in weights)], initial=0))
        self.places = [slice(*pair) for pair in pairwise(ends)]
        self.matrix, self.bias = np.zeros((ends[-1], ends[-1]), task.dtype), np.zeros(ends[-1], task.dtype)
        self.values = np.zeros((len(x), ends[-1]), task.dtype)
        self.values[:, self.places[0]] = x
        for name, weight, before, here in zip(self.names, weights, self.places, self.places[1:], strict=False):
            self.matrix[here, before] = weight
            self.bias[here] = task.parameters[f"{name}.bias"]
            self.values[:, here] = np.tanh(self.values[:, before] @ weight.T + self.bias[here])
        self.free = slice(self.places[1].start, self.places[-1].start)
        self.start = self.values.copy()
        self.start[:, self.places[-1]] = target

    def by_vertex(self, errors: np.ndarray) -> dict[str, np.ndarray]:
        return {name: errors[:, place].copy() for name, place in zip(self.names, self.places[1:], strict=True)}

    def predict(self, values: np.ndarray, out: np.ndarray) -> None:
        np.matmul(values, self.matrix.T, out=out)
        np.add(out, self.bias, out=out)
        np.tanh(out, out=out)


def mask_fixed(task: Task) -> Candidate:
    """Slopes as they were at tick 0."""
    mask, gamma = Mask(task), task.dtype.type(task.rule.step_size)
    start, slopes = mask.start - mask.values, 1 - mask.values**2
    errors, sent, due = start.copy(), np.empty_like(start), np.empty_like(start)
    free = errors[:, mask.free]

    def run() -> None:
        for _ in range(task.ticks):
            np.multiply(slopes, errors, out=sent)
            np.matmul(sent, mask.matrix, out=due)
            np.multiply(free, 1 - gamma, out=free)
            np.add(free, gamma * due[:, mask.free], out=free)

    return Candidate(lambda: np.copyto(errors, start), run, lambda: mask.by_vertex(errors))


def mask_moving(task: Task) -> Candidate:
    """Predictions and slopes follow the values; the inputs' own prediction counts for nothing."""
    mask, gamma = Mask(task), task.dtype.type(task.rule.step_size)
    values = mask.start.copy()
    mu, errors, sent, due = (np.empty_like(values) for _ in range(4))
    free, given = values[:, mask.free], errors[:, mask.places[0]]

    def predict() -> None:
        mask.predict(values, mu)
        np.subtract(values, mu, out=errors)
        given[...] = 0

    def run() -> None:
        for _ in range(task.ticks):
            predict()
            np.multiply(mu, mu, out=sent)
            np.subtract(1, sent, out=sent)
            np.multiply(sent, errors, out=sent)
            np.matmul(sent, mask.matrix, out=due)
            np.subtract(due, errors, out=due)
            np.add(free, gamma * due[:, mask.free], out=free)

    def read() -> dict[str, np.ndarray]:
        predict()
        return mask.by_vertex(errors)

    return Candidate(lambda: np.copyto(values, mask.start), run, read)


BASELINES = (
    Baseline("dense mask", "ticks", ("layered",), ("fpa",), mask_fixed),
    Baseline("dense mask", "ticks", ("layered",), ("il",), mask_moving),
)
