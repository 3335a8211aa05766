"""What baselines take from a task on a chain of layers: stacks of weights, data, and the feedforward values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pcsim.engines import Task


@dataclass(frozen=True)
class Layers:
    """A chain x -> h1 -> ... -> hL of layers tanh(W x + b), all of one width.

    weights (L, units, fan-in), biases (L, 1, units), x and target (batch, units).
    """

    names: tuple[str, ...]
    weights: np.ndarray
    biases: np.ndarray
    x: np.ndarray
    target: np.ndarray
    step_size: float
    ticks: int

    @cached_property
    def values(self) -> np.ndarray:
        """Return the feedforward values of the source and of all layers, (L + 1, batch, units)."""
        values = [self.x]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            values.append(np.tanh(values[-1] @ weight.T + bias))
        return np.stack(values)

    def by_vertex(self, errors: np.ndarray) -> dict[str, np.ndarray]:
        """Return {vertex: (batch, units)} of a stack (L, batch, units)."""
        return dict(zip(self.names, np.array(errors), strict=True))

    def by_parameter(self, weights: list[np.ndarray], biases: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return {parameter: update}."""
        pairs = zip(self.names, weights, biases, strict=True)
        return {
            f"{name}.{slot}": np.array(value) for name, *both in pairs for slot, value in zip(SLOTS, both, strict=True)
        }


SLOTS = ("weight", "bias")


def layers_of(task: Task) -> Layers:
    """Return the layers of a task on a chain."""
    names = tuple(task.graph.active)
    weights, biases = (np.stack([task.parameters[f"{name}.{slot}"] for name in names]) for slot in SLOTS)
    (x,), (target,) = task.inputs.values(), task.targets.values()
    data = x.copy(), target.copy()  # PyTorch takes no array that cannot be written to
    return Layers(names, weights, biases[:, None], *data, task.rule.step_size, task.ticks)
