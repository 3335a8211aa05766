"""How large a step of inference may be: the largest eigenvalue of the free energy's curvature in the values.

With moving predictions, values x descend on F = 1/2 sum eps^T Pi eps. At the feedforward values its curvature is
M^T Pi M, where M v = v_i - sum J_ik v_k over all vertices with an error; outputs do not move: their v is zero. A step
gamma is stable where gamma lambda < 2 for every eigenvalue lambda. What a loss adds is taken as that of the squared
error, which bounds cross-entropy from above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.analysis.backprop import sweep, weight
from pcsim.engines.base import with_changes
from pcsim.errors import wrong
from pcsim.graph.initialise import stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.analysis.backprop import Swept
    from pcsim.engines.base import Task

Array = np.ndarray

ITERATIONS, SMALL = 40, 1e-5
"""Multiplications by the curvature, and the step of the differences that stand for J v, relative to the values."""


def largest_eigenvalue(task: Task, iterations: int = ITERATIONS) -> float:
    """Return the largest eigenvalue of F's curvature at the feedforward values, over all samples of the batch.

    It is found by power iteration, from below: a few per cent may be missing.

    Raises
    ------
    InputError
        Where edges have delays or channels: they make steps unstable that this would call stable.
    """
    if task.graph.has_channels or any(edge.value_delay or edge.error_delay for edge in task.graph.edges):
        raise wrong(
            ("step_size",), "edges have delays or channels, and what they do to stability the spectrum does not tell"
        )
    wide = with_changes(task, {"dtype": np.dtype(np.float64)})
    with np.errstate(all="ignore"):
        local = sweep(wide)
        free = [name for name in task.graph.active if task.graph.role(name) == "free"]
        if not free:
            return 0.0
        coupled = any(one.vertex.op.couples(one.vertex.call) for one in local.values())
        rng = stream(task.seed, "spectrum")
        v = {name: rng.normal(size=local[name].mu.shape) for name in free}
        length = np.ones(1)
        for _ in range(iterations):
            length = norms(v, whole=coupled)
            v = {name: array / wide_as(length, array) for name, array in v.items()}
            v = curvature(wide, local, v)
        return float(norms(v, whole=coupled).max())


def norms(v: Mapping[str, Array], *, whole: bool) -> Array:
    """Return the length of v for each sample, (batch,), or of the whole batch, (1,)."""
    squares = sum(np.square(array[0]).reshape(array.shape[1], -1).sum(1) for array in v.values())
    found = np.sqrt(np.asarray(squares))
    return np.array([np.sqrt(np.square(found).sum())]) if whole else np.where(found > 0, found, 1.0)


def wide_as(length: Array, array: Array) -> Array:
    """Return (batch,) so that it broadcasts against (1, batch, *shape)."""
    return length.reshape(1, -1, *[1] * (array.ndim - 2))


def curvature(task: Task, local: Mapping[str, Swept], v: Mapping[str, Array]) -> dict[str, Array]:
    """Return M^T Pi M v."""
    residuals = {name: v.get(name, 0.0) - pushed(task, one, v) for name, one in local.items()}
    found = {name: residuals[name] * 1.0 for name in v}
    for name in found:
        found[name] = weight(local[name].vertex, found[name])
    for name, one in local.items():
        edges = task.graph.incoming[name]
        if not any(edge.pre in v for edge in edges):
            continue
        for edge, message in zip(edges, one.back(weight(one.vertex, residuals[name])), strict=True):
            if edge.pre in v:
                found[edge.pre] = found[edge.pre] - message
    return found


def pushed(task: Task, one: Swept, v: Mapping[str, Array]) -> Array:
    """Return sum J_k v_k of a vertex, by a central difference of its forward call."""
    edges = task.graph.incoming[one.vertex.name]
    if not any(edge.pre in v for edge in edges):
        return np.zeros_like(one.mu)
    step = SMALL * max(1.0, max(float(np.abs(array).max(initial=0.0)) for array in one.inputs))
    ahead, behind = (
        one.vertex.op.forward(
            np,
            one.vertex.call,
            one.params,
            tuple(
                array + sign * step * v[edge.pre] if edge.pre in v else array
                for edge, array in zip(edges, one.inputs, strict=True)
            ),
        )[0]
        for sign in (1, -1)
    )
    return np.asarray((ahead - behind) / (2 * step))
