"""The training loop: batch after batch on one session, parameters that follow, a row in the log for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.channel_traffic import channel_traffic, sent_share
from pcsim.analysis.spectrum import largest_eigenvalue
from pcsim.engines.base import Descends
from pcsim.engines.operands import buffers_of
from pcsim.errors import RunError
from pcsim.learn.against_backprop import compared
from pcsim.learn.alignment import feedback_angles, followers, is_symmetric
from pcsim.learn.feed import fed
from pcsim.learn.inference import Relaxer
from pcsim.learn.metrics import METRICS, Judge, StepNotes
from pcsim.learn.parameter_steps import Descent
from pcsim.learn.precision_descent import PrecisionDescent
from pcsim.learn.sessions import Sessions, Sweeper
from pcsim.optimisers import OPTIMISERS
from pcsim.schedules import SCHEDULES, StepsDone, rate_at

if TYPE_CHECKING:
    from pcsim.engines.base import Session, Task
    from pcsim.learn.feed import Arrays, Order, Split
    from pcsim.learn.sessions import Batch
    from pcsim.learn.training_state import TrainingState
    from pcsim.scenario.scenario import Scenario
    from pcsim.scenario.train_document import TrainEntry

Array = np.ndarray


@dataclass(frozen=True)
class Done:
    """How far training has come: batches done and in all, epochs done, and the last row of the log when asked."""

    step: int
    steps: int
    epoch: int
    latest: Callable[[], Mapping[str, float]]
    epoch_ended: Mapping[str, float] | None = None
    """The row of an epoch that has just ended."""


MOVES = 1.25
"""By how much the step size of inference must be allowed to grow before it does."""

Progress = Callable[[Done], None]
"""Called after each batch."""


@dataclass
class TrainingLoop:
    """Training on its way: what it is given, and the state that it changes.

    Attributes
    ----------
    splits : the samples of training, and those kept apart, by name
    keep : writes the state down, where there is a folder
    """

    scenario: Scenario
    entry: TrainEntry
    splits: Mapping[str, Split]
    order: Order
    engine: str
    state: TrainingState
    keep: Callable[[], None]
    progress: Progress | None = None
    judging: dict[str, Sweeper | Relaxer] = field(default_factory=dict)
    """What judges samples that are kept apart, by their name; all that are swept share one."""

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.scenario, self.engine)
        self.judged = Judge(self.scenario.losses())
        self.notes = StepNotes(self.judged, self.state.log.steps.add)
        optimiser, self.settings = OPTIMISERS[self.entry.optimiser.name], self.entry.optimiser.settings(OPTIMISERS)
        self.descent = Descent(optimiser, self.settings, self.entry.clip)
        self.precise = None if self.entry.precision is None else PrecisionDescent(self.entry.precision)
        self.schedule = SCHEDULES[self.entry.schedule.name]
        self.schedule_settings = self.entry.schedule.settings(SCHEDULES)
        self.names = list(self.state.parameters)
        self.followers = followers(self.scenario.levelled)
        steps = self.state.log.steps.columns.get("step_size")
        if steps:
            self.sessions.use(steps[-1])
        self.home: Session | None = None
        """The session whose own parameters are moved."""
        self.mover: Descends | None = None
        """The same, where it moves them by code of its own."""
        self.ticks = 0
        """Ticks of this epoch, and when it began."""
        self.began = time.perf_counter()

    @property
    def steps(self) -> int:
        """Batches in all."""
        every = self.entry.epochs * self.order.steps
        return every if self.entry.steps is None else min(every, self.entry.steps)

    def run(self, asked: Callable[[], bool]) -> tuple[str, str]:
        """Train to the end; return how it ended and why. ``asked`` says whether to end after this batch."""
        try:
            return self._run(asked)
        finally:
            self.notes.settle()
            self.state.parameters = {name: array.copy() for name, array in self.state.parameters.items()}

    def _run(self, asked: Callable[[], bool]) -> tuple[str, str]:
        while self.state.step < self.steps:
            if self.state.step % self.order.steps == 0 and (reason := self.stopped()):
                return "done", reason
            epoch, first = divmod(self.state.step, self.order.steps)
            self.ticks, self.began = 0, time.perf_counter()
            for places, inputs, targets in fed(self.splits["train"], self.order.batches(epoch, first)):
                self.step(places, inputs, targets)
                over = self.state.step % self.order.steps == 0 or self.state.step == self.steps
                ended = self.end_epoch() if over else None
                self.keep_if_due(epoch_ended=ended is not None)
                self.report(ended)
                if asked() and self.state.step < self.steps:
                    self.keep_now()
                    return "interrupted", f"interrupted after step {self.state.step} of {self.steps}"
                if self.state.step == self.steps:
                    break
        return "done", f"all {self.steps} steps done"

    # -- one batch ----------------------------------------------------------------------------------------

    def step(self, places: Array, inputs: Arrays, targets: Arrays) -> None:
        """Learn one batch."""
        state = self.state
        self.sessions.precisions = {name: np.exp(array) for name, array in state.logarithms.items()}
        self.follow_spectrum(inputs, targets)
        try:
            batch = self.sessions.begin(inputs, targets, state.step, state.parameters, state.buffers, state.carried)
            if self.home is None:  # to move the session's own spares it a copy
                self.home = batch.session
                self.mover = batch.session if isinstance(batch.session, Descends) else None
                state.parameters = batch.session.parameters(copy=False)
            predictions, rate = batch.predictions(), self.rate()
            updates = batch.learn()
        except RunError as error:
            message = f"step {state.step}, epoch {state.step // self.order.steps}: {error}"
            raise RunError(message) from error
        if self.entry.compare is not None and state.step % self.entry.compare.every == 0:
            self.compare(batch.session.task, updates)
        state.buffers = batch.session.buffers()
        if self.scenario.document.start.needs_run:
            state.carried = batch.ended()
        if self.scenario.rule.fires.applies:
            state.parameters = batch.session.parameters()
        else:
            scale = 1 / len(places) if self.entry.reduction == "mean" else 1.0
            self.descent.step(self.mover, state.parameters, updates, state.kept, rate, scale, state.step + 1)
            self.follow(updates, rate, scale)
        if self.precise is not None:
            self.precise.step(state.logarithms, self.errors(batch, predictions))
        self.ticks += batch.ticks
        own = {} if self.entry.step_size is None else {"step_size": self.sessions.rule.step_size}
        if self.scenario.levelled.has_channels:
            own["sent"] = sent_share(channel_traffic(batch.session.task, batch.session, batch.ticks))
        own |= self.precisions_now()
        self.notes.add(predictions, targets, {"rate": rate, "samples": len(places), **own})
        state.step += 1

    def errors(self, batch: Batch, predictions: Arrays) -> Arrays:
        """Return the errors that precisions follow, {vertex: (batch, *shape)}."""
        names = self.state.logarithms
        if self.entry.precision is None or self.entry.precision.errors == "relaxed":
            return batch.errors(names)
        return {name: batch.targets[name] - predictions[name] for name in names}

    def precisions_now(self) -> dict[str, float]:
        """Return the precisions that are learnt, as columns of the log: of many units, their geometric mean."""
        return {f"precision_{name}": float(np.exp(array.mean())) for name, array in self.state.logarithms.items()}

    def compare(self, task: Task, updates: Mapping[str, Array]) -> None:
        """Note how far what was learnt is from backprop, and feedback from the weights that it stands for."""
        found, graph = compared(task, updates, self.names), self.scenario.levelled
        if not is_symmetric(graph):
            kept = {
                f"{name}.{key}": array for name, arrays in buffers_of(task).items() for key, array in arrays.items()
            }
            found["angle"] = np.degrees(np.arccos(np.clip(found["cosine"], -1, 1)))
            found["feedback_angle"] = feedback_angles(graph, self.state.parameters, kept, self.names)
        self.state.log.compare(self.state.step, found)

    def follow(self, updates: Mapping[str, Array], rate: float, scale: float) -> None:
        """Move feedback weights that are learnt as the weights that they stand for (Kolen & Pollack 1994)."""
        state = self.state
        weights = {name: state.buffers[name] for name in self.followers}
        for name, array in weights.items():
            state.kept.setdefault(name, self.descent.optimiser.begin(array))
        learnt = {name: updates[parameter] for name, parameter in self.followers.items()}
        self.descent.step(None, weights, learnt, state.kept, rate, scale, state.step + 1)

    def follow_spectrum(self, inputs: Arrays, targets: Arrays) -> None:
        """Look at the curvature of the free energy now and then, and keep the step size of inference below its bound.

        A smaller step is taken at once, a larger one where it is a quarter larger: each change makes a new session.
        """
        entry, state = self.entry.step_size, self.state
        if entry is None or state.step % entry.every:
            return
        size = len(next(iter(targets.values())))
        task = self.sessions.task(size, inputs, targets, state.step, state.parameters, state.buffers, state.carried)
        bound = entry.share * 2 / max(largest_eigenvalue(task), 1e-300)
        wanted, now = min(self.scenario.rule.step_size, bound), self.sessions.rule.step_size
        if wanted < now or wanted > MOVES * now or (wanted > now and wanted == self.scenario.rule.step_size):
            state.parameters = {name: array.copy() for name, array in state.parameters.items()}
            self.home = None
            self.sessions.use(wanted)

    def rate(self) -> float:
        """Return the learning rate of this step."""
        done = StepsDone(self.state.step, self.steps, self.order.steps)
        if self.scenario.rule.fires.applies:
            return self.scenario.rule.learning_rate
        return rate_at(self.schedule, self.schedule_settings, self.settings["rate"], done, self.entry.warm_up)

    # -- an epoch ------------------------------------------------------------------------------------------

    def end_epoch(self) -> dict[str, float]:
        """Note an epoch that has ended, be it for the end of training; return its row."""
        self.notes.settle()
        log = self.state.log
        steps = self.state.step - len(log.epochs) * self.order.steps
        samples = np.array(log.steps.last("samples", steps))
        metrics = [name for name in METRICS if name in log.steps.columns]
        row = {name: float(np.array(log.steps.last(name, steps)) @ samples / samples.sum()) for name in metrics}
        seconds = time.perf_counter() - self.began
        entry = self.entry.validate_
        if entry is not None and (len(log.epochs) + 1) % entry.every == 0:
            row |= {f"validation_{name}": value for name, value in self.judge("validation").items()}
        row |= {"rate": self.rate(), "seconds": seconds, "samples_per_second": samples.sum() / seconds,
                "ticks_per_second": self.ticks / seconds}  # fmt: skip
        log.epochs.add(row)
        return row

    def judge(self, name: str) -> dict[str, float]:
        """Return the mean of each metric over samples that are kept apart."""
        split, found = self.splits[name], dict[str, list[Array]]()
        judge = self.judge_of(name)
        for first in range(0, len(split), judge.size):
            places = np.arange(first, min(first + judge.size, len(split)))
            inputs, targets = split.batch(places)
            judged = judge.judged(inputs, targets, self.state.parameters, self.state.buffers)
            for metric, values in judged.items():
                found.setdefault(metric, []).append(values)
        return {metric: float(np.concatenate(values).mean()) for metric, values in found.items()}

    def judge_of(self, name: str) -> Sweeper | Relaxer:
        """Return what judges samples that are kept apart, made once."""
        entry = self.entry.validate_ if name == "validation" else self.entry.test
        assert entry is not None
        key = name if entry.by.name == "inference" else "sweep"
        if key not in self.judging:
            most = max(len(each) for other, each in self.splits.items() if other != "train")
            self.judging[key] = (
                Relaxer(self.scenario, self.engine, len(self.splits[name]), entry.by)
                if entry.by.name == "inference"
                else Sweeper(self.scenario, self.engine, most, self.judged)
            )
        return self.judging[key]

    def stopped(self) -> str:
        """Return why training ends early; empty if it goes on."""
        stop, columns = self.entry.stop, self.state.log.epochs.columns
        if stop is None or not columns:
            return ""
        values = [value for value in columns[stop.metric] if value == value]
        better = max if rises(stop.metric) else min
        if not values:
            return ""
        if stop.reaches is not None and better(values[-1], stop.reaches) == values[-1]:
            return f"{stop.metric} has reached {stop.reaches:g} after epoch {len(self.state.log.epochs)}"
        since = len(values) - 1 - values.index(better(values))
        if stop.patience is not None and since >= stop.patience:
            return f"{stop.metric} has not been better for {since} epochs"
        return ""

    def keep_if_due(self, *, epoch_ended: bool) -> None:
        """Write the state down after so many steps, or after each epoch."""
        every = self.entry.checkpoint
        if (epoch_ended if every is None else self.state.step % every == 0) or self.state.step == self.steps:
            self.keep_now()

    def keep_now(self) -> None:
        """Write the state down."""
        self.notes.settle()
        self.keep()

    def report(self, ended: Mapping[str, float] | None) -> None:
        """Tell how far training has come."""
        if self.progress is not None:
            self.progress(Done(self.state.step, self.steps, len(self.state.log.epochs), self._latest, ended))

    def _latest(self) -> dict[str, float]:
        self.notes.settle()
        return {name: column[-1] for name, column in self.state.log.steps.columns.items()}


def rises(column: str) -> bool:
    """Return whether a larger value of a column of the log is better."""
    metric: Any = METRICS.get(column.removeprefix("validation_"))
    return metric is not None and metric.rises
