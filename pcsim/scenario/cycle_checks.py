"""What a scenario may not ask of a cyclic graph, which has no levels and no feedforward values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.errors import Problem
from pcsim.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule
    from pcsim.scenario.scenario_document import ScenarioDocument

UNROLL = "unroll it over time, one vertex a step"


def needs_order(rule: Rule) -> str:
    """Return what a rule takes from an acyclic graph; empty where it runs on any."""
    if rule.sweeps:
        return "an order of all vertices"
    if not rule.moving:
        return "predictions fixed at their feedforward values"
    if rule.fires.at_front or rule.levelled:
        return "levels"
    return "the errors of backprop, where it ends" if rule.compares_with_backprop else ""


def of_cycle(graph: Graph) -> str:
    """Return that a graph has a cycle, and which."""
    return f"the graph has a cycle: {graph.a_cycle}"


def cycle_notes(graph: Graph) -> list[str]:
    """Return what does not hold on a cyclic graph, in a sentence; nothing where the graph has no cycle."""
    if not graph.cyclic:
        return []
    lost = "levels, a light cone by levels, backprop as a reference, ticks predicted in closed form"
    return [f"{of_cycle(graph)} ({len(graph.cyclic)} vertices lie on cycles); without meaning here: {lost}"]


def cycle_problems(graph: Graph, rule: Rule, document: ScenarioDocument) -> Iterator[Problem]:
    """Yield what is asked of a cyclic graph that needs an acyclic one, each with its place and what to say instead."""
    if not graph.cyclic:
        return
    cycle = of_cycle(graph)
    if need := needs_order(rule):
        able = ", ".join(row.name for row in RULES.values() if not needs_order(row))
        yield Problem(("rule",), f"rule {rule.name!r} needs {need}, and {cycle}; take one of {able}, or {UNROLL}")
    elif rule.ticks == "levels":
        yield Problem(("rule", "ticks"), f"is 'levels', and {cycle}: it has no levels; give a number of ticks")
    if document.level != "none":
        yield Problem(("level",), f"{document.level!r} needs levels, and {cycle}; leave it out, or {UNROLL}")
    if document.start.acyclic:
        what = f"{document.start.name!r} values do not exist, as {cycle}"
        path = "initial" if "initial" in document.model_fields_set else "graph"
        yield Problem((path,), f"{what}; say where values begin: initial: zeros, or another of pcsim list starts")
    if document.solve != "simulate":
        yield Problem(("solve",), f"{document.solve!r} needs an order of all vertices, and {cycle}; leave it out")
    yield from _training_problems(document, cycle)


def _training_problems(document: ScenarioDocument, cycle: str) -> Iterator[Problem]:
    train = document.train
    if train is None:
        return
    for key, split in (("validate", train.validate_), ("test", train.test)):
        if split is not None and split.by.name == "sweep":
            yield Problem(("train", key), f"a sweep judges nothing, as {cycle}; say by: inference")
    if train.step_size is not None:
        what = "the spectrum is that of an acyclic graph"
        yield Problem(("train", "step_size"), f"{what}, and {cycle}; leave it out, and set rule.step_size")
    if train.compare is not None:
        yield Problem(("train", "compare"), f"there is no backprop to compare with, as {cycle}; leave it out")
