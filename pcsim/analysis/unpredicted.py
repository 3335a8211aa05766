"""Why theory has no prediction for a run, in a few words: the reasons follow the conditions in ``theory``."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pcsim.analysis.theory import (
    MOST_NUMBERS,
    MOST_UNITS,
    asymmetric,
    coupled,
    has_closed_form,
    paths,
    relaxation,
    rounding_floor,
    weighed_vertices,
)
from pcsim.graph.levels import uneven_edges
from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from pcsim.engines.base import Task

LATER = "it lies beyond the last tick of this run"


def why_no_ticks(task: Task, criterion: str, tolerance: float) -> str:
    """Return why no ticks to convergence are predicted, for a run of which none are."""
    if criterion == "energy":
        return "theory says nothing of the change of free energy"
    if criterion != "gradient":
        return _not_linear(task)
    if task.rule.fires.at_front:
        return _not_at_front(task)
    if reason := why_no_closed_form(task):
        return reason
    if task.ticks > MOST_NUMBERS:
        return "the run is too long to be worked out"
    if rounding_floor(task) > tolerance:
        return "above step size 1 rounding may keep errors further away"
    return LATER if paths(task.graph) is not None else "there are too many kinds of path"


def why_no_closed_form(task: Task) -> str:
    """Return what keeps errors from following the closed form of fixed predictions; nothing where they do."""
    rule, graph = task.rule, task.graph
    if has_closed_form(task):
        return ""
    if rule.moving:
        return f"under rule {rule.name} predictions move"
    if rule.step_size >= 2:
        return "from step size 2 on errors grow without bound"
    if task.initial:
        return "values do not start from the feedforward sweep"
    return "error messages are not symmetric" if asymmetric(graph) else "precisions are not 1"


def _not_at_front(task: Task) -> str:
    rule, graph = task.rule, task.graph
    if uneven_edges(graph):
        return "the graph is not levelled"
    if rule.step_size != rule.exact_step:
        return f"rule {rule.name} has a prediction at step size 1 only"
    if task.initial:
        return "values do not start from the feedforward sweep"
    if asymmetric(graph):
        return "error messages are not symmetric"
    return "precisions are not 1" if weighed_vertices(task) else LATER


def _not_linear(task: Task) -> str:
    rule, graph = task.rule, task.graph
    if relaxation(task) is not None:
        return LATER
    if all(graph.role(name) == "output" for name in graph.active):
        return "nothing but outputs: no value moves"
    if not rule.moving or not rule.fires.only_last:
        return f"rule {rule.name} has no prediction under this criterion"
    if any(edge.value_delay or edge.error_delay for edge in graph.edges):
        return "edges have delays"
    if not all(LOSSES[loss].clamps for loss in task.losses.values()):
        return "the loss does not clamp the output"
    if coupled(graph) or asymmetric(graph):
        return "a vertex couples the samples of a batch, or its error messages are not symmetric"
    if sum(prod(graph.vertices[name].shape) for name in graph.active) > MOST_UNITS:
        return f"the graph has more than {MOST_UNITS} units"
    return "the graph is not linear, or too large for as many ticks"
