"""What a session holds when its run has ended: read where it lies, until the session is needed for another run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.engines import Session, Task

Arrays = dict[str, "np.ndarray"]


class Outcome:
    """Updates, parameters, buffers and state of a run that has ended; each is copied when it is first asked for.

    ``task`` is what was run; it does not come along when an outcome is pickled.
    """

    def __init__(self, task: Task, session: Session) -> None:
        self.task: Task | None = task
        self._followed = task.exact_dynamics
        self._session: Session | None = session
        self._known: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and copy keep: all that may be asked for, without the session."""
        self._read()
        return {**vars(self), "_session": None, "task": None}

    @property
    def updates(self) -> Arrays:
        """What each parameter has learnt: {name: (*shape)}."""
        return self._once("updates", lambda session: session.updates())

    @property
    def parameters(self) -> Arrays:
        """The value of each parameter: {name: (*shape)}; where none learns within a run, those of the task."""
        if self._parameters_stay:
            self._known.setdefault("parameters", self._given_parameters())
        return self._once("parameters", lambda session: session.parameters())

    @property
    def _parameters_stay(self) -> bool:
        return self.task is not None and not self.task.rule.fires.applies and "parameters" not in self._known

    def _given_parameters(self) -> Arrays:
        assert self.task is not None
        return {name: np.array(values, self.task.dtype) for name, values in self.task.parameters.items()}

    @property
    def buffers(self) -> Arrays:
        """What ops keep from batch to batch, as this one left it: {``vertex.buffer``: (*shape)}."""
        return self._once("buffers", lambda session: session.buffers())

    @property
    def state(self) -> Arrays:
        """The free values: {vertex: (batch, *shape)}; raises InputError where they were not followed to the end."""
        if not self._followed:
            hint = "nothing was recorded or measured; with 'literal: true' every value is"
            text = "the values of this run were not followed to its end, as no update depends on them and"
            raise wrong("state", f"{text} {hint}")
        return self._once("state", self._state)

    def release(self) -> None:
        """Copy all that may still be asked for: the session is about to be used for something else."""
        self._read(parameters=not self._parameters_stay)
        self._session = None

    def _read(self, *, parameters: bool = True) -> None:
        """Copy all that may be asked for, where the session still has it."""
        if parameters and (self._session is not None or self._parameters_stay):
            self.parameters  # noqa: B018  what is asked for is kept
        if self._session is not None:
            self.updates, self.buffers  # noqa: B018
            if self._followed:
                self.state  # noqa: B018

    def _state(self, session: Session) -> Arrays:
        assert self.task is not None
        graph = self.task.graph
        free = [name for name in graph.active if graph.role(name) == "free"]
        return {name: session.reader("value", [name])()[0] for name in free}

    def _once(self, what: str, read: Callable[[Session], Arrays]) -> Arrays:
        if what not in self._known:
            assert self._session is not None
            self._known[what] = read(self._session)
        known: Arrays = self._known[what]
        return known
