"""What is where at a tick: the errors of all vertices, and the messages on delayed edges by their place."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.graph.levels import vertex_levels

if TYPE_CHECKING:
    from pcsim.engines.state import State
    from pcsim.graph.graph import Edge, Graph
    from pcsim.run.rerun import Rerun


@dataclass(frozen=True)
class Travelling:
    """The messages of one kind on one edge after a tick.

    Attributes
    ----------
    norms : one for each tick of the delay, the last sent first: of an error, or of how far a value is from the
        feedforward value; the last one arrives in the next tick
    """

    edge: str
    kind: str
    sender: str
    receiver: str
    norms: tuple[float, ...]


@dataclass(frozen=True)
class Moment:
    """A tick of a run.

    Attributes
    ----------
    levels : {level: {vertex: norm of its error, None for a source}}, the highest first; None reaches no output
    travelling : messages under way after the tick
    """

    tick: int
    levels: dict[int | None, dict[str, float | None]]
    travelling: tuple[Travelling, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the moment as plain data; the level of what reaches no output is ``null``."""
        levels = [{"level": level, "errors": errors} for level, errors in self.levels.items()]
        return {"tick": self.tick, "levels": levels, "travelling": [asdict(each) for each in self.travelling]}


def moment(rerun: Rerun, tick: int) -> Moment:
    """Return what is where at a tick of a run that is computed again; raises RunError where it fails before."""
    graph = rerun.task.graph
    errors = rerun.read(tick, [("error", name) for name in graph.active])
    levels = vertex_levels(graph)
    found: dict[int | None, dict[str, float | None]] = {}
    for name in sorted(graph.vertices, key=lambda name: _order(levels[name])):
        if graph.vertices[name].op.role != "parameter":
            error = errors.get(("error", name))
            found.setdefault(levels[name], {})[name] = None if error is None else _norm(error)
    return Moment(tick, found, _travelling(graph, rerun.state_after(tick)))


def _order(level: int | None) -> float:
    return float("inf") if level is None else -level


def _travelling(graph: Graph, state: State) -> tuple[Travelling, ...]:
    delayed = [edge for edge in graph.edges if graph.vertices[edge.pre].op.role != "parameter"]
    values = [_values(edge, state) for edge in delayed if edge.value_delay]
    errors = [_errors(edge, state) for edge in delayed if edge.name in state.errors and edge.error_delay]
    return (*values, *errors)


def _values(edge: Edge, state: State) -> Travelling:
    """Return the values on an edge; a sender whose value cannot move is not in the state."""
    kept = state.values.get(edge.pre)
    norms = (0.0,) * edge.value_delay
    if kept is not None:
        norms = tuple(_norm(kept[len(kept) - back]) for back in range(1, edge.value_delay + 1))
    return Travelling(edge.name, "value", edge.pre, edge.post, norms)


def _errors(edge: Edge, state: State) -> Travelling:
    return Travelling(
        edge.name, "error", edge.post, edge.pre, tuple(_norm(row) for row in state.errors[edge.name][::-1])
    )


def _norm(numbers: np.ndarray) -> float:
    with np.errstate(over="ignore"):  # of a run that diverges: infinite, as where it is recorded
        return float(np.linalg.norm(numbers.astype(float).ravel()))
