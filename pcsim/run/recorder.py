"""One of the runs that advance side by side: what it records on the way, and what is kept of it in the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.graph.synapse_table import populations
from pcsim.run.checkpoint import CHECKPOINT
from pcsim.run.outcome import Outcome
from pcsim.run.probes import by_parameter, by_synapse, theory_curves
from pcsim.run.result import TRACE, Run
from pcsim.trace.entries import numbers
from pcsim.trace.writer import TraceWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.analysis.meter import Meter
    from pcsim.engines import Session, Task
    from pcsim.engines.ensembles import Ensemble
    from pcsim.run.checkpoint import Checkpoint
    from pcsim.run.manifest import ManifestKeeper
    from pcsim.run.span import Resumed
    from pcsim.trace.channel import Channel, Static

FLUSH_EVERY = 5.0
"""Seconds after which what is recorded is written, full chunk or not: that much of a run can be lost."""


@dataclass
class RunRecorder:
    """One of the runs that tick side by side."""

    keeper: ManifestKeeper
    ensemble: Ensemble
    run: int
    meter: Meter | None = None
    series: dict[str, Channel] = field(default_factory=dict)
    """The series that are recorded, by name."""
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, np.intp))
    """Where their vertices are in the layout of all runs."""
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
        self.series = {channel.variable: channel for channel in found if channel.path == "series"}
        vertices = next((channel.names for channel in self.series.values() if channel.names), ())
        if vertices:
            own = [name for group in self.member.layout() for name in group]
            column = dict(zip(own, self.ensemble.columns(self.run).tolist(), strict=True))
            self.columns = np.array([column[name] for name in vertices], np.intp)
        if resumed is not None:
            self._copy(resumed, sorted({channel.path for channel in found}))

    def _copy(self, resumed: Resumed, paths: list[str]) -> None:
        """Record what a run had recorded before the tick from which it goes on."""
        tree = resumed.run.trace
        for path in paths:
            node = tree[path].dataset
            node = node.isel(tick=np.flatnonzero(node["tick"].to_numpy() < resumed.checkpoint.state.tick))
            rows = {str(name): numbers(array) for name, array in node.data_vars.items() if "tick" in array.dims}
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

    def extend(self, first: int, block: Mapping[str, np.ndarray]) -> None:
        """Record ticks from ``first`` on: {series: (ticks, vertices of all runs)}, the energy (ticks, runs)."""
        if self.series:
            count = len(next(iter(block.values())))
            rows = {name: self._rows(name, channel, first, block) for name, channel in self.series.items()}
            self.writer.extend("series", np.arange(first, first + count), rows)
            self.flush()

    def _rows(self, name: str, channel: Channel, first: int, block: Mapping[str, np.ndarray]) -> np.ndarray:
        if name == "theory":
            known = theory_curves(self.task, channel.names, channel.every)
            assert known is not None
            return known[:, first : first + len(block["norm"])].T
        return block[name][:, self.run if name == "energy" else self.columns]

    def flush(self) -> None:
        """Write what was recorded, now and then."""
        if self.keeper.folder is not None and (now := time.perf_counter()) - self.keeper.flushed > FLUSH_EVERY:
            self.writer.flush()
            self.keeper.flushed = now

    def end(self, status: str, reason: str, measured: dict[str, Any], *, alone: bool) -> None:
        """Close the trace and the manifest; ``alone`` says that no run of the clock goes on."""
        outcome = Outcome(self.task, self.member)
        task = self.task
        self.writer.later(lambda: learnt(task, outcome))
        self.writer.close()
        self.keeper.executed = self.member.executed()
        made = self.keeper.note(status, reason, self.keeper.done, measured)
        if not alone:
            outcome.release()
        self.keeper.run = Run(made, self.writer.store, outcome, self.checkpoint)


def learnt(task: Task, outcome: Outcome) -> list[Static]:
    """Return what is kept of parameters, buffers and synapses, as arrays of a trace without ticks."""
    groups = {
        "learnt": outcome.updates,
        "parameters": outcome.parameters,
        "buffers": outcome.buffers,
        "given_buffers": task.buffers,
    }
    kept = [array for group, arrays in groups.items() for array in by_parameter(group, arrays)]
    return kept + [array for name in populations(task.graph) for array in by_synapse(task.graph, name)]
