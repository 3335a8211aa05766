"""Advances runs to their ends: tick by tick where something is read, in blocks where nothing is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.windows import round_trip
from pcsim.errors import NumberOverflowError
from pcsim.graph.levels import uneven_edges
from pcsim.interrupts import interrupts
from pcsim.run.checkpoint import Checkpoint
from pcsim.run.evaluation import Evaluation, evaluation_of
from pcsim.run.probes import channels, only_series, watched
from pcsim.run.recorder import RunRecorder
from pcsim.run.span import WHOLE, Span, digest_of
from pcsim.run.task import recorded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines import Task
    from pcsim.engines.ensembles import Ensemble
    from pcsim.run.manifest import ManifestKeeper
    from pcsim.run.span import Resumed
    from pcsim.scenario.scenario import Scenario

Progress = Callable[[int, int], None]
"""Called after each tick, or block of ticks in which nothing is read, with (ticks done, horizon)."""

BLOCK_SECONDS = 0.15
"""Seconds that a block of ticks is to take, in which nothing is read: Ctrl-C and progress wait for its end."""

BLOCK_BYTES = 4 * 2**20
"""Bytes of norms that are kept back during a block."""


def run_ticks(
    keepers: Sequence[ManifestKeeper], ensemble: Ensemble, progress: Progress | None, span: Span = WHOLE
) -> None:
    """Run runs side by side to their ends, or to where ``span`` ends."""
    scenario = keepers[0].scenario
    record = recorded(scenario)
    with np.errstate(all="ignore"):
        evaluation = evaluation_of(scenario, ensemble)
        meter = evaluation.meter if evaluation else None
        recorders = [RunRecorder(keeper, ensemble, run, meter) for run, keeper in enumerate(keepers)]
        if span.resumed is not None:
            take_up(span.resumed, ensemble, evaluation)
        for recorder in recorders:
            recorder.open(channels(recorder.task, recorder.member, meter, record, recorder.run), span.resumed)
        stops = _stops(scenario, evaluation)
        try:
            with interrupts() as asked:
                _Loop(ensemble, recorders, evaluation, stops, asked, progress, span).run()
        except NumberOverflowError as error:
            raise NumberOverflowError("; ".join([str(error), *bounded_by(scenario)])) from None


def take_up(resumed: Resumed, ensemble: Ensemble, evaluation: Evaluation | None) -> None:
    """Put a run and its measures where a checkpoint says; it is the only one of its clock."""
    ensemble.clock.load(resumed.checkpoint.state)
    if evaluation is not None:
        evaluation.meter.load(resumed.checkpoint.measured)


def bounded_by(scenario: Scenario) -> list[str]:
    """Return what would keep values within their number format that grew beyond it."""
    rule, found = scenario.rule, []
    if rule.exact_step is None:
        found.append("a smaller step_size keeps the transient bounded")
    elif rule.step_size != rule.exact_step:
        found.append(f"{rule.name} is defined at step_size {rule.exact_step:g}")
    elif uneven_edges(scenario.levelled):
        found.append(f"{rule.name} is defined on levelled graphs: say level: delay or level: identity")
    return found + (["float64 holds larger numbers"] if scenario.dtype != np.float64 else [])


def _begins_anew(task: Task) -> list[str]:
    """Return a warning where a run starts from values alone, and its graph also holds messages under way."""
    if not task.initial or round_trip(task.graph, moving=task.rule.moving) == 1:
        return []
    what = "the run starts from given values (initial=), but edges have delays: messages under way began anew"
    return [f"{what}; to go on with those of an earlier run, pause it with until= and give it as resume="]


@dataclass(frozen=True)
class _Stops:
    """Which ticks are run one by one, so that they can be read.

    Attributes
    ----------
    everies : ticks that one of these numbers divides are read
    norms : in all other ticks the session notes the norms of errors
    away : and how far errors are from backprop's
    """

    everies: tuple[int, ...]
    norms: bool
    away: bool = False

    def due(self, tick: int, ticks: int) -> int:
        """Return the first tick from ``tick`` on that is read; ``ticks`` where none is."""
        return min((-(-tick // every) * every for every in self.everies), default=ticks)


def _stops(scenario: Scenario, evaluation: Evaluation | None) -> _Stops:
    """Return which ticks must be read one by one; norms, and what follows from them, the session notes itself."""
    everies, norms = watched(recorded(scenario))
    if evaluation is None:
        return _Stops(everies, norms=norms and 1 not in everies)
    if evaluation.meter.follows_blocks and scenario.document.stop is None and only_series(recorded(scenario)):
        return _Stops((), norms=True, away=True)
    return _Stops((1,), norms=False)


@dataclass
class _Loop:
    """Runs of one clock on their way to their ends."""

    ensemble: Ensemble
    recorders: Sequence[RunRecorder]
    evaluation: Evaluation | None
    stops: _Stops
    asked: Callable[[], bool]
    progress: Progress | None
    span: Span

    @property
    def first(self) -> int:
        """The first tick to be run."""
        return 0 if self.span.resumed is None else self.span.resumed.checkpoint.state.tick

    @property
    def end(self) -> int:
        """The last tick to be run, plus one."""
        ticks = self.ensemble.task.ticks
        return ticks if self.span.until is None else min(self.span.until, ticks)

    def run(self) -> None:
        """Run all ticks, or until every run has ended."""
        tick, end = self.first, self.end
        while tick < end and self.live:
            interrupted = self.asked()
            if interrupted or self.due(tick):
                self.keep(tick)
            due = min(self.stops.due(tick, end), end, self.next_checkpoint(tick))
            stop = tick + 1 if interrupted or due == tick else due
            reads = self.stops.due(tick, end) == tick
            tick = self.step(tick, interrupted) if reads else self.stretch(tick, stop, interrupted)

    def due(self, tick: int) -> bool:
        """Return whether a checkpoint is due before a tick."""
        every = self.span.checkpoint
        return every is not None and tick > self.first and tick % every == 0

    def next_checkpoint(self, tick: int) -> int:
        """Return the first tick after this one before which a checkpoint is due."""
        every = self.span.checkpoint
        return self.end if every is None else (tick // every + 1) * every

    def keep(self, tick: int) -> None:
        """Keep what a run that stops here, or that is killed later, can go on from; runs side by side keep nothing."""
        if len(self.recorders) > 1:
            return
        (recorder,), meter = self.recorders, self.evaluation.meter if self.evaluation else None
        measured = {} if meter is None else meter.snapshot()
        state = self.ensemble.clock.snapshot()
        assert state.tick == tick
        recorder.keep(Checkpoint(state, measured, digest_of(recorder.keeper.scenario)))

    @property
    def live(self) -> list[RunRecorder]:
        """The runs that have not ended."""
        return [recorder for recorder in self.recorders if recorder.keeper.run is None]

    def step(self, tick: int, interrupted: bool) -> int:
        """Run one tick, and read it between ``deliver`` and ``move``."""
        clock = self.ensemble.clock
        clock.predict(tick)
        clock.send(tick)
        clock.deliver(tick)
        if self.evaluation is not None:
            self.evaluation.meter.follow(tick)
        ends = {recorder.run: end for recorder in self.live if (end := self.ends(recorder, tick, interrupted))}
        over, pausing = len(ends) == len(self.live), "paused" in (status for status, _ in ends.values())
        self.ensemble.learn(tick, last=over and not pausing)
        for run in () if over or pausing else ends:
            self.ensemble.end(run, tick)
        for recorder in self.live:
            recorder.record(tick)
        found = {run: self.measures(self.recorders[run]) for run in ends}
        clock.move()
        self.report(tick + 1)
        if pausing:
            self.keep(self.end)
        for run, (status, reason) in ends.items():
            self.recorders[run].end(status, reason, found[run], alone=over)
        return tick + 1

    def ends(self, recorder: RunRecorder, tick: int, interrupted: bool) -> tuple[str, str] | None:
        """Return how and why a run ends in this tick; None if it goes on."""
        if interrupted:
            return "interrupted", f"interrupted after tick {tick}"
        if (
            recorder.keeper.scenario.document.stop is not None
            and self.evaluation is not None
            and self.evaluation.reached(recorder)
        ):
            meter = self.evaluation.meter
            return "done", f"{meter.criterion} at or below {meter.tolerance:g} at tick {tick}"
        return self.ending(tick) if tick == self.end - 1 else None

    def ending(self, tick: int) -> tuple[str, str]:
        """Return how and why runs end with the last tick that is to be run."""
        ticks = self.ensemble.task.ticks
        if tick < ticks - 1:
            return "paused", f"paused before tick {tick + 1}, as asked"
        return "done", f"all {ticks} ticks done"

    def measures(self, recorder: RunRecorder) -> dict[str, Any]:
        """Return the measures of a run in its last tick."""
        said = {"warnings": recorder.keeper.scenario.warnings()}
        found = said if self.evaluation is None else self.evaluation.measures(recorder)
        return {**found, "warnings": [*found["warnings"], *_begins_anew(recorder.task)]}

    def stretch(self, first: int, end: int, interrupted: bool) -> int:
        """Run ticks in which nothing is read, so many that Ctrl-C and progress are not kept waiting."""
        ticks, began = self.ensemble.task.ticks, time.perf_counter()
        width = sum(map(len, self.ensemble.clock.layout())) if self.stops.norms else 0
        if self.ensemble.task.exact_dynamics:
            end = min(end, first + self.ensemble.block, first + max(1, BLOCK_BYTES // (8 * width or 1)))
        last = interrupted or end == ticks
        squares = self.ensemble.room(end - first) if self.stops.norms else None
        apart = self.ensemble.room(end - first) if self.stops.away else None
        try:
            self.ensemble.advance(first, end, last=last, squares=squares, apart=apart)
        finally:
            self.note(first, squares, apart)
        self.ensemble.block = max(1, int((end - first) * min(8.0, BLOCK_SECONDS / (time.perf_counter() - began))))
        self.report(end)
        if interrupted:
            self.finish("interrupted", f"interrupted after tick {end - 1}")
        elif end == self.end:
            self.finish(*self.ending(end - 1))
        return end

    def finish(self, status: str, reason: str) -> None:
        """End all runs between two ticks; one that is paused can go on from there."""
        if status == "paused":
            self.keep(self.end)
        for recorder in self.live:
            recorder.end(status, reason, self.measures(recorder), alone=True)

    def note(self, first: int, squares: np.ndarray | None, apart: np.ndarray | None) -> None:
        """Record what was noted of a block; where a value became NaN or infinite within it, of the ticks before."""
        if squares is None:
            return
        missing = np.isnan(squares).any(axis=1)
        done = int(missing.argmax()) if missing.any() else len(squares)
        if apart is None or self.evaluation is None or not done:
            block: Mapping[str, np.ndarray] = {"norm": np.sqrt(squares[:done])}
        else:
            block = self.evaluation.meter.follow_block(first, squares[:done], apart[:done])
        for recorder in self.live:
            recorder.extend(first, block)
            recorder.keeper.done = first + done

    def report(self, done: int) -> None:
        """Report how far the runs have come."""
        for recorder in self.live:
            recorder.keeper.done = done
        if self.progress is not None:
            self.progress(done, self.ensemble.task.ticks)
