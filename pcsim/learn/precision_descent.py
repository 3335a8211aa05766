"""Precisions that follow the errors of training, by descent on the free energy.

    F = sum over vertices of 1/2 eps^T Pi eps - 1/2 log det Pi

With pi = exp(lambda), dF/dlambda = 1/2 (pi eps^2 - 1) for each unit; where units share one precision, this is their
sum. A step moves lambda by -rate times the mean over the batch and over the units that share it. At rest pi is one
over the mean square of the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcsim.errors import Problem, nearest
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pcsim.scenario.scenario import Scenario
    from pcsim.scenario.train_document import PrecisionEntry

Array = np.ndarray


def free_energy(logarithm: Array, error: Array) -> float:
    """Return the part of F of one vertex, the mean over samples.

    Parameters
    ----------
    logarithm : () or (*shape), the logarithm of its precision
    error : (batch, *shape)
    """
    units = np.broadcast_to(logarithm, error.shape[1:])
    return float(0.5 * np.sum(np.exp(units) * _mean_square(error) - units))


def slope(logarithm: Array, error: Array) -> Array:
    """Return dF/dlambda, () or (*shape), for each unit that shares the precision."""
    by_unit = 0.5 * (np.exp(logarithm) * _mean_square(error) - 1)
    return np.asarray(by_unit.mean() if logarithm.ndim == 0 else by_unit)


def _mean_square(error: Array) -> Array:
    return np.asarray(np.mean(np.square(error, dtype=np.float64), axis=0))


@dataclass(frozen=True)
class PrecisionDescent:
    """Moves the logarithms of precisions in place, within bounds."""

    entry: PrecisionEntry

    def step(self, logarithms: Mapping[str, Array], errors: Mapping[str, Array]) -> None:
        """Take one step down F; errors are those of a batch, {vertex: (batch, *shape)}."""
        low, high = np.log(self.entry.bounds)
        for name, logarithm in logarithms.items():
            moved = logarithm - self.entry.rate * slope(logarithm, errors[name])
            logarithm[...] = np.clip(moved, low, high)


def first_logarithms(scenario: Scenario) -> dict[str, Array]:
    """Return the logarithms that training begins with, {vertex: () or (*shape)}: those of the graph's precisions."""
    entry = scenario.document.train
    if entry is None or entry.precision is None:
        return {}
    vertices = scenario.levelled.vertices
    found = {name: np.log(np.asarray(vertices[name].precision, np.float64)) for name in entry.precision.vertices}
    if entry.precision.form == "scalar":
        return {name: np.array(array.mean()) for name, array in found.items()}
    return {name: np.broadcast_to(array, vertices[name].shape).copy() for name, array in found.items()}


def wrong_learning(scenario: Scenario, entry: PrecisionEntry) -> Iterator[Problem]:
    """Yield why the precisions of a scenario cannot be learnt as its key says."""
    rule, graph, path = scenario.rule, scenario.levelled, ("train", "precision")
    if why := _why_not(scenario):
        yield Problem(path, f"precisions cannot be learnt here: {why}")
    if rule.output_variance != 1:
        yield Problem(("rule", "output_variance"), "divides precisions, which are learnt: leave it out")
    train = scenario.document.train
    for key, split in (("validate", train and train.validate_), ("test", train and train.test)):
        if split and split.by.name == "inference":
            yield Problem(("train", key, "by"), "inference has the precisions of the graph, not learnt ones; use sweep")
    for name in entry.vertices:
        where = (*path, "vertices")
        if name not in graph.active:
            yield Problem(where, f"{name!r} has no error{nearest(name, graph.active)}")
        elif name in graph.outputs and not LOSSES[scenario.losses()[name]].clamps:
            yield Problem(where, f"the error of {name!r} is the slope of its loss; a precision needs squared_error")
        elif name not in graph.outputs and entry.errors == "feedforward":
            why = f"{name!r} is free, and its error is zero in the feedforward sweep"
            yield Problem(where, f"{why}; say errors: relaxed, or name outputs only")


def _why_not(scenario: Scenario) -> str:
    rule = scenario.rule
    if scenario.document.solve != "simulate":
        return f"solve: {scenario.document.solve} keeps them; use solve: simulate"
    if not rule.moving:
        return f"rule {rule.name!r} has fixed predictions; use a rule such as il"
    if rule.exact_step is not None:
        return f"rule {rule.name!r} equals backprop at precision 1 only; use a rule such as il"
    return f"the vertices of rule {rule.name!r} keep multipliers" if rule.keeps_multipliers else ""
