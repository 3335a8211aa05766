"""Why theory has no prediction for a run, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.analysis.conditions import why_no_modes, why_not_closed_form, why_not_exact
from pcsim.analysis.oracle import Oracle, oracle
from pcsim.analysis.theory import MOST_NUMBERS, paths, relaxation, rounding_floor

if TYPE_CHECKING:
    from pcsim.engines.base import Task

_WITHOUT_THEORY = {"energy": "the change of free energy", "signal": "the vertex with the least of backprop's error"}

LATER = "it lies beyond the last tick of this run"


def why_no_ticks(task: Task, criterion: str, tolerance: float) -> str:
    """Return why no ticks to convergence are predicted, for a run of which none are."""
    if criterion in _WITHOUT_THEORY:
        return f"theory says nothing of {_WITHOUT_THEORY[criterion]}"
    if criterion == "limit":
        return _why_no_limit(task)
    if criterion != "gradient":
        return why_no_modes(task) or (LATER if relaxation(task) else "the graph is not linear")
    if task.rule.fires.at_front:
        return why_not_exact(task) or LATER
    if reason := why_not_closed_form(task):
        return reason
    if task.ticks > MOST_NUMBERS:
        return "the run is too long to be worked out"
    if rounding_floor(task) > tolerance:
        return "above step size 1 rounding may keep errors further away"
    return LATER if paths(task.graph) is not None else "there are too many kinds of path"


def _why_no_limit(task: Task) -> str:
    found = oracle(task)
    if not isinstance(found, Oracle):
        return found.reason
    if found.stable is None:
        return "whether the limit is stable could not be worked out"
    below = "" if found.stable_below is None else f"; step sizes below {found.stable_below:.4g} are stable"
    return LATER if found.stable else f"errors go away from their limit at step size {task.rule.step_size:g}{below}"
