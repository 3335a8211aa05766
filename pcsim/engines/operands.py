"""What ops take beside their inputs and parameters: buffers kept from batch to batch, draws made for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, Problem
from pcsim.graph.graph import kept, number_format
from pcsim.graph.initialise import initialise, stream
from pcsim.ops.op import no_draws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.engines.base import Task
    from pcsim.graph.graph import Graph, Vertex
    from pcsim.ops.op import Op

Array = np.ndarray
Named = dict[str, Array]


def source_value(task: Task, name: str) -> Array:
    """Return the value of a source, (batch, *shape): whole numbers as int64, others in the task's number format."""
    whole = number_format(task.graph.vertices[name]) == "whole"
    return np.asarray(task.inputs[name], np.int64 if whole else task.dtype)


def draws_of(task: Task) -> dict[str, Named]:
    """Return {vertex: {name: (batch, *shape)}}: what ops draw for this batch, the same whoever asks, however often."""
    if task.draws is not None:
        return {name: dict(drawn) for name, drawn in task.draws.items()}
    found = {}
    for name in drawing(task.graph):
        vertex = task.graph.vertices[name]
        rng = stream(task.seed, "draw", name, str(task.batch_number))
        if drawn := vertex.op.draws(vertex.call, task.batch, rng):
            found[name] = {key: np.asarray(array, task.dtype) for key, array in drawn.items()}
    return found


@kept
def drawing(graph: Graph) -> list[str]:
    """Return the vertices whose op draws anew for each batch."""
    return [name for name in graph.active if graph.vertices[name].op.draws is not no_draws]


@kept
def keeping(graph: Graph) -> list[str]:
    """Return the vertices that keep buffers from batch to batch."""
    vertices = [graph.vertices[name] for name in graph.active]
    return [vertex.name for vertex in vertices if vertex.buffers]


def buffers_of(task: Task) -> dict[str, Named]:
    """Return {vertex: {name: (*shape)}}: the buffers that a batch begins with."""
    found = {}
    for name in keeping(task.graph):
        vertex = task.graph.vertices[name]
        specs, drawn = vertex.buffers, vertex.feedback.weights(vertex.op, vertex.call)
        given = {key: task.buffers.get(f"{name}.{key}") for key in specs}
        if missing := [f"{name}.{key}" for key in drawn if given[key] is None]:
            start = initialise(task.graph, task.seed, task.dtype, names=missing)
            given |= {key: start[f"{name}.{key}"] for key in drawn if given[key] is None}
        found[name] = {
            key: np.full(spec.shape, spec.start, task.dtype) if (array := given[key]) is None
            else np.asarray(array, task.dtype)
            for key, spec in specs.items()
        }  # fmt: skip
    return found


def operands_of(task: Task) -> dict[str, Named]:
    """Return {vertex: {name: array}}: buffers (1, *shape) and draws (1, batch, *shape) of those that have some."""
    found: dict[str, Named] = {}
    for part in (buffers_of(task), draws_of(task)):
        for name, arrays in part.items():
            found.setdefault(name, {}).update({key: array[None] for key, array in arrays.items()})
    return found


def buffer_names(graph: Graph) -> list[tuple[str, str]]:
    """Return (vertex, buffer) of all buffers of a graph."""
    vertices = [graph.vertices[name] for name in keeping(graph)]
    return [(vertex.name, key) for vertex in vertices for key in vertex.buffers]


def buffer_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return {``vertex.buffer``: shape} of all buffers of a graph."""
    return {f"{name}.{key}": graph.vertices[name].buffers[key].shape for name, key in buffer_names(graph)}


def moved_buffers(
    vertex: Vertex, params: Mapping[str, Array], inputs: tuple[Array, ...], op: Op | None = None
) -> dict[str, Array]:
    """Return {``vertex.buffer``: (*shape)}: the buffers of a vertex after a batch, from its feedforward inputs.

    ``op`` may stand for that of the vertex.
    """
    moved = (op or vertex.op).to_buffers(np, vertex.call, params, inputs)
    return {f"{vertex.name}.{key}": np.array(moved.get(key, params[key])[0]) for key in vertex.buffers}


def admit_sources(task: Task) -> None:
    """Raise InputError where whole numbers are given that their ops cannot take, such as an index beyond a table."""
    problems: list[Problem] = []
    for name in task.graph.active:
        vertex = task.graph.vertices[name]
        edges = task.graph.incoming[name]
        if vertex.op.domain is None or all(vertex.op.slot(edge.slot).differentiable for edge in edges):
            continue
        inputs = tuple(source_value(task, edge.pre)[None] if _given(task, edge.pre) else None for edge in edges)
        place, mask = vertex.op.domain(np, vertex.call, inputs)
        if mask.any():
            problems.append(_misplaced(vertex, edges[place].pre, inputs[place], mask))
    if problems:
        raise InputError(problems)


def _given(task: Task, name: str) -> bool:
    return task.graph.role(name) == "source"


def _misplaced(vertex: Vertex, pre: str, array: Any, mask: Array) -> Problem:
    first = array[np.unravel_index(int(mask.argmax()), mask.shape)]
    return Problem(("inputs", pre), f"{vertex.op.domain_text} of vertex {vertex.name!r}: {first}")
