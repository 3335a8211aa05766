"""The seam between what to run and what runs it: a Task in, a Session that ticks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pcsim.errors import InputError, Problem, nearest
from pcsim.graph.levels import uneven_edges

if TYPE_CHECKING:
    from pcsim.arrays import Shape
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
    exact_dynamics : simulate every actor at every tick; else ``advance`` may leave out what can reach no update
    step_sizes : {free vertex: gamma} where it is not the rule's
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
    exact_dynamics: bool = True
    step_sizes: Mapping[str, float] = field(default_factory=dict)


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

    def advance(self, first: int, end: int, *, last: bool, norms: np.ndarray | None = None) -> None:
        """Play ticks ``first`` to ``end - 1`` at once: the four phases of each, with nothing to be read in between.

        Parameters
        ----------
        last : ``end - 1`` is the last tick of the run: rules that learn at the end learn in it
        norms : (end - first, active vertices), float64, filled with the L2 norm of each vertex's error (over batch
            and units) at each tick, vertices in the order of ``layout``

        Raises RunError where numbers end. Where ``task.exact_dynamics`` is false and the whole run is played, values of
        vertices that have taught are not followed any further (``engines/needed.py``); updates are the same.
        """

    def restart(
        self,
        inputs: Mapping[str, np.ndarray] | None = None,
        targets: Mapping[str, np.ndarray] | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Begin again at tick 0, with other data or parameters of the same shapes; what is not given stays.

        Parameters that learnt within the run begin again from the task's. Nothing is lowered or laid out anew: arrays
        that were read before are written over. Raises InputError for a name or a shape that does not fit.
        """

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

    def frozen(self) -> dict[str, int]:
        """Return {vertex: tick}: vertices whose numbers ended after they had taught.

        Under a rule that fires once, at step size 1, a vertex that has fired may diverge. On a levelled graph
        nothing that is still to be learnt hears of it any more, so it is put to rest at its feedforward value
        instead of ending the run.
        """


def may_freeze(task: Task) -> bool:
    """Return whether a vertex that has taught may be put to rest: nothing that is still to be learnt hears of it.

    So it is where a parameter learns once, behind the front of the first errors, on a levelled graph, from
    the feedforward state.
    """
    once = task.rule.moving and task.rule.fires in ("level", "arrival")
    return once and not task.initial and not uneven_edges(task.graph)


def gammas(task: Task, names: Sequence[str]) -> np.ndarray:
    """Return the step size of each of these free vertices, float64."""
    return np.array([task.step_sizes.get(name, task.rule.step_size) for name in names], np.float64)


def tick_by_tick(
    session: Session, first: int, end: int, *, last: bool, measure: Callable[[int], None] | None = None
) -> None:
    """Play ticks ``first`` to ``end - 1`` one after the other; ``measure`` is called while each stands still."""
    for tick in range(first, end):
        session.predict(tick)
        session.send(tick)
        if measure is not None:
            measure(tick)
        session.learn(tick, last=last and tick == end - 1)
        session.move()


def begun_again(
    task: Task,
    inputs: Mapping[str, np.ndarray] | None,
    targets: Mapping[str, np.ndarray] | None,
    parameters: Mapping[str, np.ndarray] | None,
) -> Task:
    """Return the task with other data or parameters; raises InputError for names, shapes or numbers that do not fit."""
    given = {"inputs": inputs, "targets": targets, "parameters": parameters}
    if problems := [
        problem
        for key, arrays in given.items()
        if arrays is not None
        for problem in _misfits(key, arrays, getattr(task, key), task.dtype)
    ]:
        raise InputError(problems)
    changed: dict[str, Any] = {
        key: {**getattr(task, key), **{name: np.asarray(array, task.dtype) for name, array in arrays.items()}}
        for key, arrays in given.items()
        if arrays
    }
    return replace(task, **changed)


def _misfits(key: str, arrays: Any, known: Mapping[str, np.ndarray], dtype: np.dtype[Any]) -> list[Problem]:
    """Return what is wrong with data that a run should begin again with."""
    if not isinstance(arrays, Mapping):
        return [Problem((key,), f"expected {{name: array}}, got a {type(arrays).__name__}")]
    return [
        Problem((key, name), "is not part of the task" + nearest(name, known)) for name in arrays if name not in known
    ] + [
        Problem((key, name), fault)
        for name, array in arrays.items()
        if name in known and (fault := misfit(array, known[name].shape, dtype))
    ]


def misfit(given: Any, shape: Shape, dtype: np.dtype[Any]) -> str:
    """Return why what was given cannot stand for an array of this shape and number format; empty if it can."""
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        return f"expected numbers of shape {list(shape)}, in lists of equal lengths"
    if array.dtype.kind not in "biuf":
        return f"expected numbers, got {array.dtype}"
    if array.shape != shape:
        return f"has shape {list(array.shape)}, expected {list(shape)}"
    with np.errstate(over="ignore"):
        if np.isfinite(array.astype(dtype, copy=False)).all():
            return ""
    return (
        f"holds numbers that are not finite in {dtype}" if np.isfinite(array).all() else "data must be finite numbers"
    )


Engine = Callable[[Task], Session]
