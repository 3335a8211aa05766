"""Whether a closed form holds for a run: each condition says in a few words why not, and nothing where it does."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.base import kept_by_task
from pcsim.graph.crossings import why_channels
from pcsim.graph.levels import uneven_edges
from pcsim.ops import LOSSES
from pcsim.program.lower import precision_of

if TYPE_CHECKING:
    from pcsim.engines.base import Task
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule

MOST_UNITS = 600
"""Units beyond which the modes of a linear graph are not worked out."""
MOST_PRODUCTS = 3_000_000_000
"""Multiplications beyond which the ticks of a linear graph are not predicted."""


@kept_by_task
def weighed_vertices(task: Task) -> list[str]:
    """Return the free vertices whose precision is not 1."""
    return [name for name in weighed(task.graph, task.rule) if task.graph.role(name) == "free"]


def weighed(graph: Graph, rule: Rule) -> list[str]:
    """Return the vertices whose precision under a rule is not 1."""
    return [name for name in graph.active if np.any(precision_of(graph, name, rule) != 1)]


def asymmetric(graph: Graph) -> list[str]:
    """Return the vertices whose error messages are no vector-Jacobian products."""
    return [name for name in graph.active if not graph.vertices[name].feedback.symmetric]


def coupled(graph: Graph) -> list[str]:
    """Return the vertices at which the samples of a batch are coupled (batch statistics)."""
    vertices = (graph.vertices[name] for name in graph.active)
    return [vertex.name for vertex in vertices if vertex.op.couples(vertex.call)]


@kept_by_task
def why_not_closed_form(task: Task) -> str:
    """Return what keeps errors from following the closed form of fixed predictions."""
    rule = task.rule
    if rule.moving:
        return f"under rule {rule.name} predictions move"
    if rule.step_size >= 2:
        return "from step size 2 on errors grow without bound"
    return _why_not_plain(task, weighed(task.graph, task.rule))


def _why_not_plain(task: Task, weighed: list[str]) -> str:
    """Return what keeps errors from being plain vector-Jacobian products at the feedforward values."""
    if task.graph.has_channels:
        return why_channels(task.graph)
    if task.initial:
        return "values do not start from the feedforward sweep"
    if asymmetric(task.graph):
        return "error messages are not symmetric"
    return "precisions are not 1" if weighed else ""


def has_closed_form(task: Task) -> bool:
    """Return whether the fixed-prediction closed form holds for this task."""
    return not why_not_closed_form(task)


def why_not_exact(task: Task) -> str:
    """Return what keeps a rule that fires at the front of the first errors from having backprop's when it fires."""
    rule = task.rule
    if uneven_edges(task.graph):
        return "the graph is not levelled"
    if rule.step_size != rule.exact_step:
        return f"rule {rule.name} has a prediction at step size {rule.exact_step:g} only"
    return _why_not_plain(task, weighed_vertices(task))


def why_no_modes(task: Task) -> str:
    """Return what keeps standard predictive coding from relaxing along modes that are worth working out.

    Whether the graph is linear is not looked at.
    """
    rule, graph = task.rule, task.graph
    if graph.cyclic:
        return "the graph has a cycle"
    if all(graph.role(name) == "output" for name in graph.active):
        return "nothing but outputs: no value moves"
    if not rule.moving or not rule.fires.only_last or rule.dynamics != "values":
        return f"rule {rule.name} has no prediction under this criterion"
    if any(edge.value_delay or edge.error_delay for edge in graph.edges):
        return "edges have delays"
    if graph.has_channels:
        return why_channels(graph)
    if not all(LOSSES[loss].clamps for loss in task.losses.values()):
        return "the loss does not clamp the output"
    if coupled(graph) or asymmetric(graph):
        return "a vertex couples the samples of a batch, or its error messages are not symmetric"
    units = sum(prod(graph.vertices[name].shape) for name in graph.active)
    if units > MOST_UNITS:
        return f"the graph has more than {MOST_UNITS} units"
    many = units**2 * task.batch * task.ticks > MOST_PRODUCTS
    return "the graph has too many units for as many ticks and samples" if many else ""
