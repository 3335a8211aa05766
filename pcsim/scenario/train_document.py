"""The key ``train`` of a scenario as validated data: how its parameters learn over many batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from pcsim.errors import nearest
from pcsim.graph.graph_document import WHOLE, Number, Strict, listed_in
from pcsim.optimisers import OPTIMISERS, Setting
from pcsim.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Mapping

Count = Annotated[int, Field(ge=1), WHOLE]


def _named(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry


def _listed(entry: Any) -> Any:
    return [entry] if isinstance(entry, str) else entry


def _checked(what: str, table: Mapping[str, Any], name: str, given: Mapping[str, float]) -> None:
    """Raise ValueError where a row is unknown, or does not take what it is given."""
    if name not in table:
        message = f"unknown {what} {name!r}" + nearest(name, table, f"pcsim list {what}s")
        raise ValueError(message)
    settings: Mapping[str, Setting] = table[name].settings
    for key, value in given.items():
        if key not in settings:
            takes = ", ".join(settings) or "no settings"
            message = f"{what} {name!r} has no {key!r}; it takes {takes}"
            raise ValueError(message)
        low, high = settings[key].low, settings[key].high
        if not low <= value < high:
            message = f"{key} of {what} {name!r} is {value:g}, expected at least {low:g} and below {high:g}"
            raise ValueError(message)


class Row(Strict):
    """A row of a table and numbers for its settings; what is left out is as the row says."""

    def given(self) -> dict[str, float]:
        """Return the settings that were given."""
        return {key: float(value) for key, value in self if key != "name" and value is not None}

    def settings(self, table: Mapping[str, Any]) -> dict[str, float]:
        """Return all settings of the row, given ones and defaults."""
        row = table[vars(self)["name"]]
        return {key: setting.default for key, setting in row.settings.items()} | self.given()


class OptimiserEntry(Row):
    """How parameters follow what was learnt of a batch."""

    name: Annotated[str, listed_in("optimisers")] = Field(description="one of pcsim list optimisers")
    rate: Number | None = Field(default=None, description="learning rate; default: the optimiser's")
    momentum: Number | None = Field(default=None, description="share of the velocity that is kept")
    weight_decay: Number | None = Field(default=None, description="by how much parameters shrink; see pcsim list")
    beta1: Number | None = Field(default=None, description="share of the mean direction that is kept")
    beta2: Number | None = Field(default=None, description="share of the mean square that is kept")
    epsilon: Number | None = Field(default=None, description="added to the root of the mean square")

    @model_validator(mode="after")
    def _fits(self) -> OptimiserEntry:
        _checked("optimiser", OPTIMISERS, self.name, self.given())
        return self


class ScheduleEntry(Row):
    """How the learning rate changes along training."""

    name: Annotated[str, listed_in("schedules")] = Field(description="one of pcsim list schedules")
    every: Number | None = Field(default=None, description="epochs from one change to the next")
    factor: Number | None = Field(default=None, description="what the rate is multiplied by")
    last: Number | None = Field(default=None, description="factor at the end of training")

    @model_validator(mode="after")
    def _fits(self) -> ScheduleEntry:
        _checked("schedule", SCHEDULES, self.name, self.given())
        return self


EVALUATIONS = {
    "sweep": "outputs, as one feedforward sweep predicts them; on an acyclic graph only",
    "inference": "what free sources and outputs settle to by standard inference, all others clamped",
}
"""What samples are judged by that are kept apart."""


class EvaluationEntry(Strict):
    """What is judged, and how long inference takes where values are inferred."""

    name: Annotated[str, listed_in("evaluations")] = Field(description="one of pcsim list evaluations")
    free: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = Field(
        default=[], description="sources and outputs that are free and judged; default: all outputs"
    )
    ticks: Count | None = Field(default=None, description="of inference; default: those of rule il")
    step_size: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="of inference; default: that of rule il"
    )
    prior: Number = Field(default=0.0, description="where a free source begins, and what draws it")
    precision: Annotated[Number, Field(ge=0)] = Field(default=0.0, description="how strongly: the weight of its error")

    @model_validator(mode="after")
    def _fits(self) -> EvaluationEntry:
        if self.name not in EVALUATIONS:
            message = f"unknown evaluation {self.name!r}" + nearest(self.name, EVALUATIONS, "pcsim list evaluations")
            raise ValueError(message)
        if self.name == "sweep" and len(self.model_fields_set) > 1:
            given = ", ".join(sorted(self.model_fields_set - {"name"}))
            message = f"a sweep infers nothing: leave out {given}, or say name: inference"
            raise ValueError(message)
        return self

    def settings(self) -> dict[str, Any]:
        """Return the settings of the rule that were given."""
        return {
            key: value for key, value in (("ticks", self.ticks), ("step_size", self.step_size)) if value is not None
        }


class SplitEntry(Strict):
    """Samples of the same sources that are kept apart to judge by."""

    samples: Count = Field(description="how many")
    start: Annotated[int, Field(ge=0), WHOLE] | None = Field(
        default=None, description="the first of them, counted from the first sample of training; default: those behind"
    )
    split: str | None = Field(
        default=None, description="the part of a data set that they are from, such as test, where it has several"
    )
    every: Count = Field(default=1, description="after every so many epochs")
    by: Annotated[EvaluationEntry, BeforeValidator(_named, json_schema_input_type=str | EvaluationEntry)] = Field(
        default=EvaluationEntry(name="sweep"),
        description="what is judged: sweep, inference, or inference with settings: {name: inference, free: label}",
    )


class CompareEntry(Strict):
    """How often what the rule learns is compared with backprop."""

    every: Count = Field(description="at every so many steps")


class StepSizeEntry(Strict):
    """Let the step size of inference follow the curvature of the free energy as the parameters change."""

    share: Annotated[Number, Field(gt=0, lt=1)] = Field(
        default=0.8, description="of the largest stable step, 2 over the largest eigenvalue; never above the rule's own"
    )
    every: Count = Field(default=10, description="steps from one look at the spectrum to the next")


class PrecisionEntry(Strict):
    """Let precisions follow the errors by descent on the free energy, 1/2 eps^T Pi eps - 1/2 log det Pi."""

    vertices: Annotated[list[str], Field(min_length=1)] = Field(description="vertices whose precision is learnt")
    form: Literal["scalar", "diagonal"] = Field(
        default="diagonal", description="one number for all units of a vertex, or one for each"
    )
    rate: Annotated[Number, Field(gt=0)] = Field(
        default=0.05, description="by how much the logarithm of a precision follows the slope of the free energy"
    )
    errors: Literal["feedforward", "relaxed"] = Field(
        default="feedforward",
        description="those of outputs before the first tick, or those of any vertex at the last tick",
    )
    bounds: tuple[Annotated[Number, Field(gt=0)], Annotated[Number, Field(gt=0)]] = Field(
        default=(1e-3, 1e3), description="least and largest precision"
    )

    @model_validator(mode="after")
    def _ordered(self) -> PrecisionEntry:
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError("bounds are the least precision, then the largest")
        if len(set(self.vertices)) < len(self.vertices):
            raise ValueError("vertices are named twice")
        return self


class StopTraining(Strict):
    """End training early."""

    metric: str = Field(description="a column of the log by epoch, such as validation_loss or validation_accuracy")
    patience: Count | None = Field(default=None, description="epochs without a better value")
    reaches: Number | None = Field(default=None, description="a value that is good enough")

    @model_validator(mode="after")
    def _one(self) -> StopTraining:
        if (self.patience is None) == (self.reaches is None):
            raise ValueError("stop has exactly one of patience, reaches")
        return self


class TrainEntry(Strict):
    """Training: batches of the scenario's data, one after the other, and parameters that follow."""

    optimiser: Annotated[OptimiserEntry, BeforeValidator(_named, json_schema_input_type=str | OptimiserEntry)] = Field(
        default=OptimiserEntry(name="sgd"), description="a name of pcsim list optimisers, or a name with settings"
    )
    epochs: Count = Field(default=1, description="how often all samples are seen")
    steps: Count | None = Field(default=None, description="end after so many batches, if that is earlier")
    samples: Count | None = Field(
        default=None, description="samples to train on, from each source's start on; default: all that are left"
    )
    shuffle: StrictBool = Field(default=True, description="draw a new order for each epoch, by the seed")
    remainder: Literal["keep", "drop"] = Field(
        default="keep", description="the last batch of an epoch where it is smaller: keep it, or drop its samples"
    )
    reduction: Literal["mean", "sum"] = Field(
        default="mean", description="updates are divided by the samples of their batch, or not"
    )
    clip: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="bound on every number of an update, before the optimiser (Millidge et al.: 50)"
    )
    schedule: Annotated[ScheduleEntry, BeforeValidator(_named, json_schema_input_type=str | ScheduleEntry)] = Field(
        default=ScheduleEntry(name="constant"), description="how the learning rate changes: one of pcsim list schedules"
    )
    step_size: StepSizeEntry | None = Field(
        default=None, description="let the step size of inference follow the spectrum; default: the rule's stays"
    )
    precision: PrecisionEntry | None = Field(
        default=None, description="let precisions be learnt; default: they stay as the graph says"
    )
    warm_up: Annotated[int, Field(ge=0), WHOLE] = Field(
        default=0, description="steps in which the learning rate rises in a line from 0"
    )
    validate_: SplitEntry | None = Field(
        default=None, alias="validate", description="samples that are judged after an epoch"
    )
    test: SplitEntry | None = Field(default=None, description="samples that are judged at the end of training")
    compare: CompareEntry | None = Field(default=None, description="follow the difference from backprop along training")
    stop: StopTraining | None = Field(default=None, description="end early")
    checkpoint: Count | None = Field(
        default=None, description="keep what training can go on from every so many steps; default: after each epoch"
    )
