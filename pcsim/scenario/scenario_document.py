"""The scenario document as validated data (``pcsim: scenario/1``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from pcsim.documents.frozen_arrays import as_lists
from pcsim.graph.graph_document import Interval, Name, Normal, Number, Strict

Quantity = Literal["value", "prediction", "error", "energy", "norm", "divergence", "message", "update"]


class GraphReference(Strict):
    """A graph in a file of its own, with arguments."""

    file: str
    args: dict[str, Any] = Field(default={})


class DataEntry(Strict):
    """Where data come from, when they are not a number or a list in place."""

    normal: Normal | None = Field(default=None, description="[mean, standard deviation]")
    uniform: Interval | None = Field(default=None, description="[low, high]")
    values: Any = None
    file: str | None = Field(default=None, description=".npz, .npy or IDX file, also gzipped")
    key: str | None = Field(default=None, description="array of an .npz file")
    dataset: str | None = Field(default=None, description="one of: pcsim list datasets")
    field: str | None = Field(default=None, description="images, labels or one_hot")
    start: Annotated[StrictInt, Field(ge=0)] = Field(default=0, description="first sample taken")
    shuffle: StrictBool = Field(default=False, description="draw samples at random, by the seed")
    one_hot: Annotated[StrictInt, Field(ge=2)] | None = Field(default=None, description="classes, for a file of labels")
    scale: Number = Field(default=1.0, description="data are multiplied by this")
    loss: str | None = Field(default=None, description="for a target: one of the losses")


class RuleEntry(Strict):
    """An algorithm and its settings; what is left out is as the row of ``pcsim list rules`` says."""

    name: str
    step_size: Number | None = None
    ticks: StrictInt | Literal["levels"] | None = None
    output_variance: Number | None = None
    learning_rate: Number | None = None

    def settings(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return {key: value for key, value in self if key != "name" and value is not None}


def _named(rule: Any) -> Any:
    return {"name": rule} if isinstance(rule, str) else rule


class StopEntry(Strict):
    """End the run in the first tick in which a measure is at or below a bound."""

    measure: Literal["gradient", "update", "settled", "energy"]
    below: Annotated[Number, Field(gt=0)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) and value != "all" else value


class RecordEntry(Strict):
    """One probe: what, where, how often."""

    what: Annotated[list[Quantity], BeforeValidator(_listed, json_schema_input_type=Quantity | list[Quantity])]
    vertices: Annotated[
        Literal["all"] | list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])
    ] = Field("all", description="names or patterns such as h*; for messages, also edges a->b")
    every: Annotated[StrictInt, Field(ge=1)] = 1


class InitialEntry(Strict):
    """Values at tick 0 drawn from a normal distribution, or read from a file."""

    normal: Annotated[Number, Field(ge=0)] | None = Field(default=None, description="standard deviation, mean 0")
    file: str | None = Field(default=None, description=".npz with one array per vertex, as run.state")

    @model_validator(mode="after")
    def _exactly_one(self) -> InitialEntry:
        if (self.normal is None) == (self.file is None):
            raise ValueError("initial values have exactly one of normal, file")
        return self


class ParametersEntry(Strict):
    """A file with values for parameters, by name; parameters that are not in it start as their ``init`` says."""

    file: str = Field(description=".npz or .safetensors, arrays named as the parameters")


class ScenarioDocument(Strict):
    """A whole experiment: graph, data, rule, what to record and to measure."""

    pcsim: Literal["scenario/1"] = "scenario/1"
    title: str = ""
    source: str = Field(default="", description="paper and figure")
    about: str = Field(default="", description="what the scenario shows, in a few words")
    graph: dict[str, Any]
    parameters: ParametersEntry | None = Field(default=None, description="values to start from, as arrays in a file")
    inputs: dict[Name, Any] = Field(default={})
    targets: dict[Name, Any] = Field(default={})
    loss: str | dict[Name, str] = Field(default="squared_error", description="for all outputs, or by output")
    batch: Annotated[StrictInt, Field(ge=1, le=100_000_000)] = 1
    rule: Annotated[RuleEntry, BeforeValidator(_named, json_schema_input_type=str | RuleEntry)]
    level: Literal["none", "delay", "identity"] = "none"
    initial: Literal["feedforward", "zeros"] | InitialEntry = "feedforward"
    stop: Literal["converged"] | StopEntry | None = Field(
        None, description="'converged': when the criterion of ticks_to_convergence is within the tolerance"
    )
    tolerance: Annotated[Number, Field(gt=0)] = Field(default=1e-3, description="what counts as converged")
    converged: Literal["gradient", "update", "settled", "energy"] | None = Field(
        default=None,
        description="criterion of ticks_to_convergence; default: that of stop, else "
        "gradient for rules that follow backprop, settled for the others",
    )
    record: list[RecordEntry] | None = Field(default=None, description="default: energy, norm and divergence of all")
    measure: list[str] | None = Field(default=None, description="default: all of pcsim list measures")
    solve: Literal["simulate", "closed_form"] = Field(
        default="simulate", description="closed_form works out each tick that is read, where the rule has one"
    )
    literal: StrictBool = Field(default=False, description="another name of exact_dynamics; give one of them")
    exact_dynamics: StrictBool = Field(
        default=False,
        exclude=True,
        description="simulate every actor at every tick, also where no one looks and no update needs it",
    )
    sweep: Annotated[dict[str, list[Any]], BeforeValidator(as_lists)] = Field(
        default={}, description="dotted key -> values; the runs are their grid"
    )
    engine: str = "auto"
    dtype: Literal["float32", "float64"] = "float64"
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _one_meaning(self) -> ScenarioDocument:
        """Let both names of a key say what either does; written out is the older one."""
        exact = self.literal or self.exact_dynamics
        vars(self).update(literal=exact, exact_dynamics=exact)
        return self
