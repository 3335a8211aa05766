"""Runs runs to their ends: tick by tick where something is read, in blocks where nothing is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import NumberOverflowError
from pcsim.graph.levels import uneven_edges
from pcsim.interrupts import interrupts
from pcsim.run.evaluation import Evaluation, evaluation_of
from pcsim.run.probes import channels, watched
from pcsim.run.recorder import RunRecorder
from pcsim.run.task import looks_at_every_tick, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.engines.ensembles import Ensemble
    from pcsim.run.manifest import ManifestKeeper
    from pcsim.scenario.scenario import Scenario

Progress = Callable[[int, int], None]
"""Called after each tick, or block of ticks in which nothing is read, with (ticks done, horizon)."""

BLOCK_SECONDS = 0.15
"""Seconds that a block of ticks is to take, in which nothing is read: Ctrl-C and progress wait for its end."""

BLOCK_BYTES = 4 * 2**20
"""Bytes of norms that are kept back during a block."""


def run_ticks(keepers: Sequence[ManifestKeeper], ensemble: Ensemble, progress: Progress | None) -> None:
    """Run runs side by side to their ends."""
    scenario = keepers[0].scenario
    record = recorded(scenario)
    with np.errstate(all="ignore"):
        evaluation = evaluation_of(scenario, ensemble)
        meter = evaluation.meter if evaluation else None
        recorders = [RunRecorder(keeper, ensemble, run) for run, keeper in enumerate(keepers)]
        for recorder in recorders:
            recorder.open(channels(recorder.task, recorder.member, meter, record, recorder.run))
        everies, norms = watched(record)
        stops = _Stops((1,) if looks_at_every_tick(scenario) else everies, norms=norms and 1 not in everies)
        try:
            with interrupts() as asked:
                _Loop(ensemble, recorders, evaluation, stops, asked, progress).run()
        except NumberOverflowError as error:
            raise NumberOverflowError("; ".join([str(error), *bounded_by(scenario)])) from None


def bounded_by(scenario: Scenario) -> list[str]:
    """Return what would keep numbers within their format that grew beyond it while they were run."""
    rule, found = scenario.rule, []
    if rule.exact_step is None:
        found.append("a smaller step_size keeps the transient bounded")
    elif rule.step_size != rule.exact_step:
        found.append(f"{rule.name} is defined at step_size {rule.exact_step:g}")
    elif uneven_edges(scenario.levelled):
        found.append(f"{rule.name} is defined on levelled graphs: say level: delay or level: identity")
    return found + (["float64 holds larger numbers"] if scenario.dtype != np.float64 else [])


@dataclass(frozen=True)
class _Stops:
    """Which ticks stand still to be read: those that one of ``everies`` divides; ``norms`` of all are wanted."""

    everies: tuple[int, ...]
    norms: bool

    def due(self, tick: int, ticks: int) -> int:
        """Return the first tick from ``tick`` on that stands still; ``ticks`` where none does."""
        return min((-(-tick // every) * every for every in self.everies), default=ticks)


@dataclass
class _Loop:
    """Runs that are being run; ``block`` is how many ticks fit into one call."""

    ensemble: Ensemble
    recorders: Sequence[RunRecorder]
    evaluation: Evaluation | None
    stops: _Stops
    asked: Callable[[], bool]
    progress: Progress | None
    block: int = 1

    def run(self) -> None:
        """Run all ticks, or until every run has ended."""
        tick, ticks = 0, self.ensemble.task.ticks
        while tick < ticks and self.live:
            interrupted = self.asked()
            due = min(self.stops.due(tick, ticks), ticks)
            end = tick + 1 if interrupted or due == tick else due
            tick = self.step(tick, interrupted) if due == tick else self.stretch(tick, end, interrupted)

    @property
    def live(self) -> list[RunRecorder]:
        """The runs that have not ended."""
        return [recorder for recorder in self.recorders if recorder.keeper.run is None]

    def step(self, tick: int, interrupted: bool) -> int:
        """Run one tick, and read it while it stands still."""
        clock = self.ensemble.clock
        clock.predict(tick)
        clock.send(tick)
        clock.deliver(tick)
        if self.evaluation is not None:
            self.evaluation.meter.follow(tick)
        ends = {recorder.run: end for recorder in self.live if (end := self.ends(recorder, tick, interrupted))}
        last = len(ends) == len(self.live)
        self.ensemble.learn(tick, last=last)
        for run in () if last else ends:
            self.ensemble.end(run, tick)
        for recorder in self.live:
            recorder.record(tick)
        found = {run: self.measures(self.recorders[run]) for run in ends}
        clock.move()
        self.report(tick + 1)
        for run, (status, reason) in ends.items():
            self.recorders[run].end(status, reason, found[run], alone=last)
        return tick + 1

    def ends(self, recorder: RunRecorder, tick: int, interrupted: bool) -> tuple[str, str] | None:
        """Return how and why a run ends in this tick; None if it goes on."""
        ticks = self.ensemble.task.ticks
        if interrupted:
            return "interrupted", f"interrupted after tick {tick}"
        if (
            recorder.keeper.scenario.document.stop is not None
            and self.evaluation is not None
            and self.evaluation.reached(recorder)
        ):
            meter = self.evaluation.meter
            return "done", f"{meter.criterion} at or below {meter.tolerance:g} at tick {tick}"
        return ("done", f"all {ticks} ticks done") if tick == ticks - 1 else None

    def measures(self, recorder: RunRecorder) -> dict[str, Any]:
        """Return the measures of a run in its last tick."""
        return {"warnings": []} if self.evaluation is None else self.evaluation.measures(recorder)

    def stretch(self, first: int, end: int, interrupted: bool) -> int:
        """Run ticks in which nothing is read, so many that Ctrl-C and progress are not kept waiting."""
        ticks, began = self.ensemble.task.ticks, time.perf_counter()
        width = sum(map(len, self.ensemble.clock.layout())) if self.stops.norms else 0
        if self.ensemble.task.exact_dynamics:
            end = min(end, first + self.block, first + max(1, BLOCK_BYTES // (8 * width or 1)))
        last = interrupted or end == ticks
        norms = np.full((end - first, width), np.nan) if self.stops.norms else None
        try:
            self.ensemble.advance(first, end, last=last, norms=norms)
        finally:
            self.note(first, norms)
        self.block = max(1, int((end - first) * min(8.0, BLOCK_SECONDS / (time.perf_counter() - began))))
        self.report(end)
        if last:
            reason = f"interrupted after tick {end - 1}" if interrupted else f"all {ticks} ticks done"
            for recorder in self.live:
                recorder.end("interrupted" if interrupted else "done", reason, {"warnings": []}, alone=True)
        return end

    def note(self, first: int, norms: np.ndarray | None) -> None:
        """Record the norms of a block; where numbers ended within it, those of the ticks before."""
        if norms is None:
            return
        done = len(norms) if not np.isnan(norms).any() else int(np.isnan(norms).any(axis=1).argmax())
        for recorder in self.live:
            recorder.extend(first, norms[:done])
            recorder.keeper.done = first + done

    def report(self, done: int) -> None:
        """Tell how far the runs have come."""
        for recorder in self.live:
            recorder.keeper.done = done
        if self.progress is not None:
            self.progress(done, self.ensemble.task.ticks)
