"""Feedback weights along training: how they follow the weights that they stand for, and at which angle they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.ops.op import feedback_weight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.graph.graph import Graph

Array = np.ndarray


def followers(graph: Graph) -> dict[str, str]:
    """Return {feedback weight that is learnt: the parameter that it stands for}."""
    return {
        f"{vertex.name}.{feedback_weight(slot)}": parameter
        for vertex in (graph.vertices[name] for name in graph.active)
        if vertex.feedback.learns
        for slot, parameter in vertex.params
        if feedback_weight(slot) in vertex.buffers
    }


def is_symmetric(graph: Graph) -> bool:
    """Return whether all errors travel back over the forward weights."""
    return all(graph.vertices[name].feedback.symmetric for name in graph.active)


def feedback_angles(
    graph: Graph, parameters: Mapping[str, Array], buffers: Mapping[str, Array], names: Sequence[str]
) -> Array:
    """Return (parameters,) in degrees: the angle between each weight and what stands for it on the way back.

    A weight that several vertices share has the mean of its angles; what is no weight of a vertex with such feedback,
    NaN.
    """
    found: dict[str, list[float]] = {name: [] for name in names}
    for name in graph.active:
        vertex = graph.vertices[name]
        if vertex.feedback.symmetric:
            continue
        forward = {slot: parameters[parameter][None] for slot, parameter in vertex.params}
        kept = {key: buffers[f"{name}.{key}"][None] for key in vertex.buffers}
        back = vertex.feedback.applied(np, vertex.op, vertex.call, {**forward, **kept})
        for slot, parameter in vertex.params:
            if parameters[parameter].ndim > 1:
                found[parameter].append(angle(back[slot], forward[slot]))
    return np.array([np.mean(angles) if angles else np.nan for angles in found.values()])


def angle(one: Array, other: Array) -> float:
    """Return the angle between two tensors in degrees; NaN where one is zero."""
    a, b = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    with np.errstate(all="ignore"):
        return float(np.degrees(np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))))
