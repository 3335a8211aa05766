"""The scenario document as validated data (``pcsim: scenario/1``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from pcsim.documents.frozen_arrays import as_lists
from pcsim.graph.graph_document import (
    WHOLE,
    ActsEntry,
    ChannelEntry,
    Interval,
    Name,
    Normal,
    Number,
    Strict,
    Whole,
    listed_in,
)
from pcsim.scenario.claim_document import ClaimEntry
from pcsim.scenario.starts import STARTS, Start
from pcsim.scenario.train_document import TrainEntry

Quantity = Literal["value", "prediction", "error", "energy", "norm", "divergence", "message", "update", "multiplier"]

QUANTITIES: dict[Quantity, str] = {
    "value": "x of each unit and sample, before the update of the tick",
    "prediction": "mu of each unit and sample",
    "error": "eps = x - mu of each unit and sample",
    "energy": "free energy of the whole graph, one number",
    "norm": "Euclidean norm of each vertex's error over units and samples",
    "divergence": "relative distance of each vertex's error from backprop's, beside theory where it has a closed form",
    "message": "what arrived over each edge: values forward, errors back",
    "update": "what each parameter has received so far",
    "multiplier": "lambda of each unit and sample, under rules whose vertices keep one; zero at outputs",
}
"""What can be recorded: entry t is what tick t computed, before values move."""

Criterion = Literal["gradient", "signal", "update", "settled", "limit", "energy"]

CRITERIA: dict[Criterion, str] = {
    "gradient": "relative distance of every vertex's error from backprop's, when it is due",
    "signal": "the share of backprop's error that the vertex with least of it is still without",
    "update": "the greatest change of a value in a tick",
    "settled": "estimated relative distance of every vertex's error from its own limit",
    "limit": "relative distance of every vertex's error from its own limit, which is solved for beforehand",
    "energy": "relative change of the free energy in a tick",
}
"""What may end a run, and what convergence is judged by."""

OF_BACKPROP: tuple[Criterion, ...] = ("gradient", "signal")
"""Criteria that compare with backprop."""


class GraphReference(Strict):
    """A graph in a file of its own, with arguments."""

    file: str = Field(description="a graph document or a model (.onnx, .nir, .pt2), sought from the scenario's folder")
    args: dict[str, Any] = Field(default={}, description="values for its arguments: {depth: 8}")


Column = Annotated[str, Field(strict=True)] | Annotated[int, Field(ge=0), WHOLE]


class DataEntry(BaseModel):
    """Where data come from, when they are not a number or a list in place; a data set has further keys of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    normal: Normal | None = Field(default=None, description="drawn by the seed: [mean, standard deviation]")
    uniform: Interval | None = Field(default=None, description="drawn by the seed, equally likely: [low, high]")
    values: Any = Field(
        default=None, description="numbers in place: one for all, one sample for the whole batch, or a list of samples"
    )
    file: str | None = Field(
        default=None,
        description="array: .npz, .npy, .safetensors or IDX, also gzipped; table: .csv, .tsv, .parquet",
    )
    key: str | None = Field(default=None, description="array of an .npz or .safetensors file")
    columns: Column | list[Column] | None = Field(
        default=None, description="of a table: one column, or several side by side, by name or counted from 0"
    )
    dataset: Annotated[str, listed_in("datasets")] | None = Field(
        default=None, description="a known data set, one of pcsim list datasets"
    )
    field: str | None = Field(
        default=None, description="array of the data set, one of pcsim list datasets; default: its first"
    )
    start: Annotated[int, Field(ge=0), WHOLE] = Field(default=0, description="first sample taken")
    index: Annotated[int, Field(ge=0), WHOLE] | None = Field(
        default=None,
        description="of each sample take what is at this place of its first axis, the first being 0: "
        "a step of a sequence, x$t: {for: {t: 1..$T}, file: a.npz, index: $(t - 1)}",
    )
    shuffle: StrictBool = Field(default=False, description="draw samples at random, by the seed")
    one_hot: Annotated[int, Field(ge=2), WHOLE] | None = Field(
        default=None, description="of how many classes the data are labels: each becomes a row with a 1 at its place"
    )
    scale: Number = Field(default=1.0, description="data are multiplied by this")
    loss: Annotated[str, listed_in("losses")] | None = Field(
        default=None, description="for a target: the loss of this output, one of pcsim list losses"
    )

    @property
    def own_keys(self) -> dict[str, Any]:
        """Keys that belong to the data set."""
        return {**(self.model_extra or {}), **({} if self.file is None else {"file": self.file})}


Pattern = Annotated[str, Field(min_length=1)]
RuleName = Annotated[str, listed_in("rules")]
LossName = Annotated[str, listed_in("losses")]
MeasureName = Annotated[str, listed_in("measures")]


class RuleEntry(Strict):
    """An algorithm and its settings; what is left out is as the row of ``pcsim list rules`` says."""

    name: RuleName = Field(description="one of pcsim list rules")
    step_size: Number | None = Field(
        default=None, description="gamma of x += gamma (-Pi eps + errors that arrived); default: the rule's"
    )
    ticks: Whole | Literal["levels"] | None = Field(
        default=None, description="length of the run; 'levels': as many as the graph has; default: the rule's"
    )
    output_variance: Number | None = Field(
        default=None,
        description="k: output precisions are divided by it, updates multiplied by it; default: the rule's",
    )
    learning_rate: Number | None = Field(
        default=None, description="used by rules whose parameters change within the run; default: the rule's"
    )
    rho: Number | None = Field(
        default=None,
        description="weight of an error beside its multiplier, for rules that keep one; default: the rule's",
    )
    multiplier_step: Number | None = Field(
        default=None, description="alpha of multiplier += alpha eps, for rules that keep one; default: the rule's"
    )

    def settings(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return {key: value for key, value in self if key != "name" and value is not None}


class LossEntry(Strict):
    """The loss of an output, where one entry stands for several: ``y$t: {for: {t: 1..$T}, loss: cross_entropy}``."""

    loss: LossName = Field(description="one of pcsim list losses")


def _loss(entry: Any) -> Any:
    return entry["loss"] if isinstance(entry, dict) and set(entry) == {"loss"} else entry


OutputLoss = Annotated[LossName, BeforeValidator(_loss, json_schema_input_type=LossName | LossEntry)]


def _named(rule: Any) -> Any:
    return {"name": rule} if isinstance(rule, str) else rule


class StopEntry(Strict):
    """End the run in the first tick in which a measure is at or below a bound."""

    measure: Criterion = Field(description="what is compared with the bound: one of pcsim list criteria")
    below: Annotated[Number, Field(gt=0)] = Field(description="the bound")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) and value != "all" else value


class RecordEntry(Strict):
    """One probe: what, where, how often."""

    what: Annotated[list[Quantity], BeforeValidator(_listed, json_schema_input_type=Quantity | list[Quantity])] = Field(
        description="one quantity or several of pcsim list quantities"
    )
    vertices: Annotated[
        Literal["all"] | list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])
    ] = Field("all", description="names or patterns such as h*; for messages, also edges a->b")
    every: Annotated[int, Field(ge=1), WHOLE] = Field(default=1, description="only ticks that this divides")


class InitialEntry(Strict):
    """Values at tick 0 drawn from a normal distribution, or read from a file."""

    normal: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="drawn with mean 0: the standard deviation"
    )
    file: str | None = Field(default=None, description=".npz with one array per vertex, as run.state")

    @model_validator(mode="after")
    def _exactly_one(self) -> InitialEntry:
        if (self.normal is None) == (self.file is None):
            raise ValueError("initial values have exactly one of normal, file")
        return self

    @property
    def name(self) -> str:
        """Its row in ``STARTS``."""
        return "given" if self.normal is None else "normal"


class ParametersEntry(Strict):
    """A file with values for parameters, by name; parameters that are not in it start as their ``init`` says."""

    file: str = Field(description=".npz or .safetensors, arrays named as the parameters")


class ScenarioDocument(Strict):
    """A whole experiment: graph, data, rule, what to record and to measure."""

    pcsim: Literal["scenario/1"] = Field(default="scenario/1", description="the kind and the version of the document")
    title: str = Field(default="", description="a name for people, in tables and figures")
    source: str = Field(default="", description="paper and figure")
    about: str = Field(default="", description="what the scenario shows, in a few words")
    notes: str = Field(default="", description="a page for readers: the question, what is done, what comes out and why")
    graph: dict[str, Any] = Field(description="a graph document in place, or {file: graph.yaml, args: {depth: 8}}")
    parameters: ParametersEntry | None = Field(default=None, description="values to start from, as arrays in a file")
    inputs: dict[Name, Any] = Field(
        default={}, description="input vertex -> its data; x$t: {for: {t: 1..$T}, ...} stands for several"
    )
    targets: dict[Name, Any] = Field(default={}, description="output -> its target; for and $ as under inputs")
    loss: LossName | dict[Name, OutputLoss] = Field(
        default="squared_error",
        description="what outputs carry, one for all or by output, with for and $ as under inputs: "
        "of pcsim list losses",
    )
    batch: Annotated[int, Field(ge=1, le=100_000_000), WHOLE] = Field(
        default=1, description="samples that are run side by side; losses and updates are sums over them"
    )
    rule: Annotated[RuleEntry, BeforeValidator(_named, json_schema_input_type=RuleName | RuleEntry)] = Field(
        description="the algorithm: a name of pcsim list rules, or a name with settings"
    )
    level: Literal["none", "delay", "identity"] = Field(
        default="none", description="make all paths equally long, by delays on edges or by identity vertices"
    )
    delays: Annotated[dict[Pattern, Whole | dict[str, Any]], BeforeValidator(as_lists)] = Field(
        default={},
        description="ticks that messages travel over edges, by name or pattern, in place of the graph's: a number, "
        "or drawn by the seed: h*->*: {uniform: [0, 4]}, {normal: [3, 1]} or {exponential: 2}",
    )
    channels: dict[Pattern, ChannelEntry] = Field(
        default={},
        description="what happens to the messages of edges, by name or pattern: h*->*: {jitter: 1, loss: 0.05}; "
        "in place of what the graph says of these edges",
    )
    acts: dict[Pattern, ActsEntry] = Field(
        default={}, description="when vertices send and move, by name or pattern: h*: {every: 3}, h2: {chance: 0.5}"
    )
    initial: Literal["feedforward", "zeros", "carried", "given"] | InitialEntry = Field(
        default="feedforward",
        description="values at tick 0, one of pcsim list starts; drawn or from a file, keys of their own",
    )
    stop: Literal["converged"] | StopEntry | None = Field(
        None,
        description="when to end early: 'converged', once ticks_to_convergence is known, or a bound on a criterion",
    )
    tolerance: Annotated[Number, Field(gt=0)] = Field(default=1e-3, description="what counts as converged")
    converged: Criterion | None = Field(
        default=None,
        description="criterion of ticks_to_convergence; default: that of stop, else "
        "gradient for rules that follow backprop, settled for the others",
    )
    record: list[RecordEntry] | None = Field(
        default=None, description="what is kept, where and how often; default: energy, norm and divergence of all"
    )
    measure: list[MeasureName] | None = Field(
        default=None, description="what the run is measured by; default: all of pcsim list measures"
    )
    solve: Literal["simulate", "closed_form", "equilibrium"] = Field(
        default="simulate",
        description="simulate every tick; closed_form works out each tick that is read, where the rule has one; "
        "equilibrium solves for where inference comes to rest: one tick, at the limit",
    )
    literal: StrictBool = Field(default=False, description="another name of exact_dynamics; give one of them")
    exact_dynamics: StrictBool = Field(
        default=False,
        exclude=True,
        description="simulate every actor at every tick, also where no one looks and no update needs it",
    )
    sweep: Annotated[dict[str, list[Any]], BeforeValidator(as_lists)] = Field(
        default={}, description="dotted key -> values, or cases: a list of such mappings; the runs are the grid"
    )
    train: TrainEntry | None = Field(
        default=None, description="how parameters learn over many batches: pcsim train FILE"
    )
    claim: ClaimEntry | None = Field(
        default=None,
        exclude=True,
        description="what a paper says of this scenario, and how it is checked: pcsim reproduce",
    )
    engine: Annotated[str, listed_in("engines", "auto")] = Field(
        default="auto", description="what executes it, one of pcsim list engines; auto chooses by size"
    )
    dtype: Literal["float32", "float64"] = Field(
        default="float64", description="number format of values and parameters"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63), WHOLE] = Field(
        default=0, description="names the random streams of parameters and data"
    )

    @property
    def start(self) -> Start:
        """Where values begin."""
        return STARTS[self.initial if isinstance(self.initial, str) else self.initial.name]

    @model_validator(mode="after")
    def _one_meaning(self) -> ScenarioDocument:
        """Let both names of a key say what either does; written out is the older one."""
        exact = self.literal or self.exact_dynamics
        vars(self).update(literal=exact, exact_dynamics=exact)
        return self
