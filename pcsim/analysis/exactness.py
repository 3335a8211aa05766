"""What is known before a run of whether its rule learns backprop's update, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.analysis.conditions import weighed
from pcsim.graph.levels import uneven_edges, vertex_levels

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule


def known_beforehand(graph: Graph, rule: Rule, last: int) -> list[str]:
    """Return why a rule whose last tick is ``last`` does not learn backprop's update, though on other graphs it does.

    A rule that learns another update everywhere is not told so.
    """
    found = (row(graph, rule, last) for row in (_unlevelled, _inexact_step, _never_fired, _inexact_precision))
    return [said for said in found if said is not None]


def blame(graph: Graph, rule: Rule) -> list[str]:
    """Return the edges because of which a rule that fires by level cannot equal backprop."""
    return [edge.name for edge in uneven_edges(graph)] if rule.fires.at_front else []


def _unlevelled(graph: Graph, rule: Rule, _last: int) -> str | None:
    edges = blame(graph, rule)
    names = ", ".join(edges[:5]) + (f" and {len(edges) - 5} more" if len(edges) > 5 else "")
    text = f"not levelled: {names} shorter than the level of its start; use level: delay or level: identity"
    return text if edges else None


def _inexact_step(_graph: Graph, rule: Rule, _last: int) -> str | None:
    if rule.exact_step in (None, rule.step_size):
        return None
    return f"rule {rule.name} equals backprop at step_size {rule.exact_step:g} only, not at {rule.step_size:g}"


def _never_fired(graph: Graph, rule: Rule, last: int) -> str | None:
    if not rule.fires.at_front or rule.fires.waits:
        return None
    levels = vertex_levels(graph)
    count = sum(1 for name in graph.active if (due := levels[name]) is not None and due > last)
    return f"{count} of the vertices never fired: their level lies beyond the last tick, {last}" if count else None


def _inexact_precision(graph: Graph, rule: Rule, _last: int) -> str | None:
    found = [name for name in weighed(graph, rule) if graph.role(name) == "free"] if rule.exact_step is not None else []
    text = f"rule {rule.name} equals backprop at precision 1 only, and"
    return f"{text} {found[0]!r} has another" if found else None
