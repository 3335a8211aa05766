"""The seam between what to run and what runs it: a Task in, a Session that ticks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pcsim.graph.levels import uneven_edges

if TYPE_CHECKING:
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule

Read = Callable[[], np.ndarray]
"""Returns what was asked for as of the last tick, stacked in the order of the names: (names, batch, *shape)."""


@dataclass(frozen=True)
class Task:
    """Everything that a run needs, already checked: no engine reads a document.

    Attributes
    ----------
    parameters : {parameter name: (*shape)}
    inputs : {source vertex: (batch, *shape)}
    targets : {output vertex: (batch, *shape)}
    losses : {output vertex: name in LOSSES}; ``squared_error`` clamps the output to its target
    initial : {free vertex: (batch, *shape)}, values at tick 0 where they are not the feedforward ones
    keep_values : keep values in flight so that they can be read as messages
    """

    graph: Graph
    rule: Rule
    ticks: int
    batch: int
    dtype: np.dtype[Any]
    parameters: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    losses: Mapping[str, str]
    initial: Mapping[str, np.ndarray] = field(default_factory=dict)
    keep_values: bool = False


class Session(Protocol):
    """A run in progress. One tick is ``predict``, ``send``, ``learn``, ``move``, in this order.

    Correcting is in two halves, so that between them everything of the tick can be read: ``send``
    makes and delivers the errors, ``move`` moves the values to the next tick. Readers are valid from
    ``send`` to ``move``.
    """

    def predict(self, tick: int) -> None:
        """Take the values due, compute predictions and errors; raises RunError where numbers end."""

    def send(self, tick: int) -> None:
        """Send errors and sum those due; raises RunError where numbers end."""

    def learn(self, tick: int, *, last: bool) -> None:
        """Let each parameter whose rule fires at this tick take what it receives."""

    def move(self) -> None:
        """Move the free values to the next tick."""

    def layout(self) -> Sequence[tuple[str, ...]]:
        """Return the active vertices in groups of one shape that a reader returns without a copy."""

    def reader(self, quantity: str, names: Sequence[str]) -> Read:
        """Return a function that reads a quantity of vertices (or edges, for messages) of one shape."""

    def updates(self) -> dict[str, np.ndarray]:
        """Return {parameter: the descent direction learnt so far, before any learning rate}."""

    def parameters(self) -> dict[str, np.ndarray]:
        """Return {parameter: its value now}."""

    def fired(self) -> dict[str, int]:
        """Return {vertex: tick at which the parameters it uses took its error}, where it has happened."""

    def rested(self) -> dict[str, int]:
        """Return {vertex: tick}: vertices whose numbers ended after they had taught.

        Under a rule that fires once, at step size 1, a vertex that has fired may diverge. On a levelled graph
        nothing that is still to be learnt hears of it any more, so it is put to rest at its feedforward value
        instead of ending the run.
        """


def may_rest(task: Task) -> bool:
    """Return whether a vertex that has taught may be put to rest: nothing that is still to be learnt hears of it.

    So it is where a parameter learns once, behind the front of the first errors, on a levelled graph, from
    the feedforward state.
    """
    once = task.rule.moving and task.rule.fires in ("level", "arrival")
    return once and not task.initial and not uneven_edges(task.graph)


Engine = Callable[[Task], Session]
