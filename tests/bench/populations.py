"""The SciPy CSR products that a tick of a sparse projection needs, with one wide matrix for all delays.

Only the products are timed; what they compute is checked by a whole scan that uses the same matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix

from pcsim.bench.baselines import Baseline, Candidate

if TYPE_CHECKING:
    from pcsim.engines import Task


@dataclass(frozen=True)
class Projection:
    """x -> p = tanh(x) -> q = tanh(W p), p read late by as many ticks as each synapse says.

    forth (neurons, delays * neurons), back its transpose, both CSR; x and target (neurons,).
    """

    forth: Any
    back: Any
    delays: tuple[int, ...]
    x: np.ndarray
    target: np.ndarray
    step_size: float
    ticks: int

    def scan(self, *, moving: bool) -> dict[str, np.ndarray]:
        """Return the errors as of tick ``ticks``."""
        start, count = np.tanh(self.x), len(self.delays)
        value, fed = start.copy(), [start] * (self.delays[-1] + 1)
        sent = [np.zeros(count * len(value), value.dtype)] * (self.delays[-1] + 1)
        first = mu = np.tanh(self.forth @ np.tile(start, count))
        for tick in range(self.ticks + 1):
            fed = [value.copy(), *fed[:-1]]
            if moving:
                mu = np.tanh(self.forth @ np.concatenate([fed[delay] for delay in self.delays]))
            errors = {"p": value - start, "q": self.target - (mu if moving else first)}
            sent = [self.back @ ((1 - mu * mu) * errors["q"]), *sent[:-1]]
            due = sum(sent[delay].reshape(count, -1)[place] for place, delay in enumerate(self.delays))
            if tick < self.ticks:
                value += value.dtype.type(self.step_size) * (due - errors["p"])
        return {name: error[None] for name, error in errors.items()}


def projection_of(task: Task) -> Projection:
    """Return the matrices of a task on one projection, for a batch of 1."""
    synapses = task.graph.vertices["q"].call["synapses"]
    where = (synapses.post, synapses.columns)
    forth = csr_matrix((task.parameters["q.weight"], where), shape=(synapses.units, synapses.width))
    (x,), (target,) = task.inputs.values(), task.targets.values()
    return Projection(forth, forth.T.tocsr(), synapses.delays, x[0], target[0], task.rule.step_size, task.ticks)


def products_fixed(task: Task) -> Candidate:
    """One product with the transpose a tick."""
    found = projection_of(task)
    errors = (found.target - np.tanh(found.forth @ np.tile(np.tanh(found.x), len(found.delays)))).astype(found.x.dtype)

    def run() -> None:
        for _ in range(found.ticks):
            found.back @ errors

    return Candidate(lambda: None, run, lambda: found.scan(moving=False))


def products_moving(task: Task) -> Candidate:
    """One product with the matrix and one with its transpose a tick."""
    found = projection_of(task)
    values = np.tile(np.tanh(found.x), len(found.delays))
    errors = (found.target - np.tanh(found.forth @ values)).astype(found.x.dtype)

    def run() -> None:
        for _ in range(found.ticks):
            found.forth @ values
            found.back @ errors

    return Candidate(lambda: None, run, lambda: found.scan(moving=True))


BASELINES = (
    Baseline("SciPy CSR products", "ticks", ("population",), ("fpa",), products_fixed),
    Baseline("SciPy CSR products", "ticks", ("population",), ("il",), products_moving),
)
