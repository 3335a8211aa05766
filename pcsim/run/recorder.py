"""One of the runs that are played side by side: what it records while it goes on, and what is left of it in the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.run.checkpoint import CHECKPOINT
from pcsim.run.probes import by_parameter
from pcsim.run.result import TRACE, Run
from pcsim.trace.writer import TraceWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.engines import Session, Task
    from pcsim.engines.ensembles import Ensemble
    from pcsim.run.checkpoint import Checkpoint
    from pcsim.run.manifest import ManifestKeeper
    from pcsim.run.span import Resumed
    from pcsim.trace.channel import Channel

FLUSH_EVERY = 5.0
"""Seconds after which what is recorded is written, full chunk or not: that much of a run can be lost."""


@dataclass
class RunRecorder:
    """One of the runs that tick side by side."""

    keeper: ManifestKeeper
    ensemble: Ensemble
    run: int
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.intp))
    checkpoint: Checkpoint | None = None

    @property
    def task(self) -> Task:
        """What this run is."""
        return self.ensemble.tasks[self.run]

    @property
    def member(self) -> Session:
        """What this run reads from."""
        return self.ensemble.members[self.run]

    @property
    def writer(self) -> TraceWriter:
        """What this run records with."""
        assert self.keeper.writer is not None
        return self.keeper.writer

    def open(self, found: list[Channel], resumed: Resumed | None = None) -> None:
        """Begin the trace; that of a resumed run begins with what was recorded before."""
        folder = self.keeper.folder
        self.keeper.writer = TraceWriter(folder / TRACE if folder else None, found, ticks=self.task.ticks)
        self.keeper.flushed = time.perf_counter()
        norms = [channel.names for channel in found if channel.variable == "norm"]
        if norms:
            own = [name for group in self.member.layout() for name in group]
            column = dict(zip(own, self.ensemble.columns(self.run).tolist(), strict=True))
            self.columns = np.array([column[name] for name in norms[0]], np.intp)
        if resumed is not None:
            self._copy(resumed, sorted({channel.path for channel in found}))

    def _copy(self, resumed: Resumed, paths: list[str]) -> None:
        """Record what a run had recorded before the tick from which it goes on."""
        tree = resumed.run.trace
        for path in paths:
            node = tree[path].dataset
            node = node.isel(tick=np.flatnonzero(node["tick"].to_numpy() < resumed.checkpoint.state.tick))
            rows = {str(name): array.to_numpy() for name, array in node.data_vars.items() if "tick" in array.dims}
            if node.sizes["tick"]:
                self.writer.extend(path, node["tick"].to_numpy(), rows)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint: in the run's folder, after all that was recorded before it, or in memory."""
        self.checkpoint = checkpoint
        if self.keeper.folder is not None:
            self.writer.flush()
            checkpoint.save(self.keeper.folder / CHECKPOINT)

    def record(self, tick: int) -> None:
        """Record what is due at a tick."""
        self.writer.record(tick)
        self.flush()

    def extend(self, first: int, norms: np.ndarray) -> None:
        """Record the norms of ticks from ``first`` on."""
        ticks = np.arange(first, first + len(norms))
        self.writer.extend("series", ticks, {"norm": norms[:, self.columns]})
        self.flush()

    def flush(self) -> None:
        """Write what was recorded, now and then."""
        if self.keeper.folder is not None and (now := time.perf_counter()) - self.keeper.flushed > FLUSH_EVERY:
            self.writer.flush()
            self.keeper.flushed = now

    def end(self, status: str, reason: str, found: dict[str, Any], *, alone: bool) -> None:
        """Close the trace and the manifest; ``alone`` says that nothing moves any more."""
        for group, arrays in (("learnt", self.member.updates()), ("parameters", self.member.parameters())):
            for row in by_parameter(group, arrays):
                self.writer.static(*row)
        self.writer.close()
        self.keeper.executed = self.member.executed()
        manifest = self.keeper.note(status, reason, self.keeper.done, found)
        state = _not_followed if not self.task.exact_dynamics else self.state if alone else _kept(self.state())
        self.keeper.run = Run(manifest, self.writer.store, state, self.checkpoint)

    def state(self) -> dict[str, np.ndarray]:
        """Return the free values."""
        graph = self.task.graph
        free = [name for name in graph.active if graph.role(name) == "free"]
        return {name: self.member.reader("value", [name])()[0] for name in free}


def _kept(state: dict[str, np.ndarray]) -> Callable[[], dict[str, np.ndarray]]:
    return lambda: state


def _not_followed() -> dict[str, np.ndarray]:
    hint = "nothing was recorded or measured; with 'literal: true' every value is"
    raise wrong(
        "state", f"the values of this run were not followed to its end, as no update depends on them and {hint}"
    )
