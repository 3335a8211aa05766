"""How a learning rate changes along training: a table of schedules, each a factor by which the rate is multiplied."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, pi
from types import MappingProxyType
from typing import TYPE_CHECKING

from pcsim.optimisers import Setting, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class StepsDone:
    """Where training stands: steps done, steps in all, and steps of an epoch."""

    step: int
    steps: int
    epoch_steps: int

    @property
    def epoch(self) -> int:
        """The epoch, from 0 on."""
        return self.step // self.epoch_steps

    @property
    def share(self) -> float:
        """The share of all steps that is done."""
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Schedule:
    """One schedule, as a row of facts.

    Attributes
    ----------
    settings : what it takes, by name
    factor : (done, settings) -> what the learning rate is multiplied by
    """

    name: str
    summary: str
    factor: Callable[[StepsDone, Settings], float]
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))


LAST = Setting(0.0, "factor at the end of training")

_ROWS = (
    Schedule("constant", "the rate stays", lambda _place, _settings: 1.0),
    Schedule("step", "multiplied by 'factor' after every 'every' epochs",
             lambda done, settings: settings["factor"] ** (done.epoch // int(settings["every"])),
             {"every": Setting(1, "epochs", low=1), "factor": Setting(0.1, "what it is multiplied by")}),
    Schedule("exponential", "multiplied by 'factor' after every epoch",
             lambda done, settings: settings["factor"] ** done.epoch,
             {"factor": Setting(0.95, "what it is multiplied by")}),
    Schedule("linear", "falls in a line to 'last' at the end of training",
             lambda done, settings: 1 + (settings["last"] - 1) * done.share, {"last": LAST}),
    Schedule("cosine", "falls along half a cosine to 'last' at the end of training",
             lambda done, settings: settings["last"] + (1 - settings["last"]) * (1 + cos(pi * done.share)) / 2,
             {"last": LAST}),
)  # fmt: skip

SCHEDULES: dict[str, Schedule] = {row.name: row for row in _ROWS}


def rate_at(schedule: Schedule, settings: Settings, rate: float, done: StepsDone, warm_up: int) -> float:
    """Return the learning rate of a step; in the first ``warm_up`` steps it rises in a line from 0."""
    rising = min(1.0, (done.step + 1) / warm_up) if warm_up else 1.0
    return rate * rising * schedule.factor(done, settings)
