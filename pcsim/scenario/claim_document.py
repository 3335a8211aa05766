"""The key ``claim`` of a scenario: what a paper says, what is measured here, and how the two are compared."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, StrictBool, model_validator

from pcsim.graph.graph_document import Number, Strict

Method = Literal[
    "sweep", "ticks", "training", "times", "work", "free_energy", "credit", "channels",
    "sparse_training", "delay_rounds", "precision_training",
    "spans", "processors", "placements", "ranking",
    "light_cones", "rules_compared", "plasticity",
]  # fmt: skip

METHODS: dict[Method, str] = {
    "sweep": "a row for each run of the sweep: ticks to convergence, distance of the updates from backprop's",
    "ticks": "a row for each vertex and tick of each run, of what is recorded: norm, divergence, energy",
    "training": "rows of each training, told apart by `at`: each epoch, each step, each comparison, and its end",
    "times": "a row for each run: seconds of an update, timed in turns, and their ratio to the first run's of its case",
    "work": "a row for each run: work counted from the graph, one after the other and with all vertices in parallel",
    "free_energy": "a row for each tick of each run: the free energy at its values, and which way it slopes there",
    "channels": "a row for each run over channels: distance from the run with every message delivered, ticks, messages",
    "sparse_training": "a row for each training over channels: the share of messages that it sent, and its accuracy",
    "precision_training": "rows of each training: with plain precisions and learnt ones, error without noise and gain",
    "delay_rounds": "a row for each round of learnt delays: slack, and distance of the updates from backprop's",
    "credit": "a row for each parameter of each run: share of backprop's gradient in its update, and the cosine",
    "spans": "rows of each run: its time with a processor for each vertex, and the bounds of Zahid et al. beside it",
    "processors": "a row for each number of processors: time of backprop and of the run's rule, in operations",
    "placements": "a row for each placement on a mesh: hops, energy and latency of a tick, ticks with its delays",
    "light_cones": "a row for each change of one vertex and each vertex: its distance, and when a bit first differed",
    "rules_compared": "a row for each rule: its updates beside backprop's, its motion, and how many actors need what",
    "plasticity": "rows told apart by `at`: each parameter's update and its factors, each tick's correlations",
    "ranking": "a row for each method on each hardware: energy, latency, and how many constants turn its rank",
}
"""What a claim's rows are measured by."""


class Check(Strict):
    """What every check says: which numbers it looks at."""

    of: str = Field(description="the column that is checked")
    where: dict[str, Any] = Field(default={}, description="only rows with these values: {column: value or list}")
    by: list[str] = Field(default=[], description="rows that differ in these columns are checked apart")


class Bound(Check):
    """A bound that every number must keep."""

    bound: Number = Field(description="the bound; the number itself keeps it")


class Equality(Check):
    """What every number must equal."""

    to: str | Number = Field(description="a number, or another column")
    within: Number = Field(default=0.0, description="relative difference that counts as equal")


class Ratio(Check):
    """How many times as large the mean is where a column has one value as where it has another."""

    column: str = Field(description="the column that tells the two apart")
    over: Any = Field(description="its value above the line")
    under: Any = Field(description="its value below the line")
    at_least: Number | None = Field(default=None, description="the least that agrees")
    at_most: Number | None = Field(default=None, description="the most that agrees")


class Line(Check):
    """A straight line through the points (against, of)."""

    against: str = Field(description="the column along the x axis")
    log: StrictBool = Field(default=False, description="the logarithm of the numbers is on a line")
    above: Number | None = Field(default=None, description="numbers at or below this are rounding and left out")
    slope: Literal["rising", "falling"] = Field(default="rising", description="which way the line goes")
    fit: Number = Field(default=0.98, description="least share of the variance that the line explains (R squared)")


class Cliff(Check):
    """High from an edge on, lower before it."""

    against: str = Field(description="the column along the x axis")
    edge: str | Number = Field(description="where the cliff is: a number, or another column")
    drop: Number = Field(description="the least from the edge on is above the greatest before it by at least this")


class Curves(Check):
    """Two curves that lie on each other."""

    against: str = Field(description="the column along the x axis; rows of other seeds are averaged")
    column: str = Field(description="the column that tells the two curves apart")
    curves: tuple[Any, Any] = Field(description="its two values")
    within: Number = Field(description="largest distance, as a share of the second curve's height from low to high")


class Trend(Check):
    """The last third of a curve beside its first third."""

    against: str = Field(description="the column along the x axis")
    factor: Number = Field(description="the mean of the last third is at most this many times that of the first third")


class Fall(Check):
    """A curve that never rises."""

    against: str = Field(description="the column along the x axis")


class CheckEntry(Strict):
    """One check of a claim: exactly one of these keys, and what it shows in plain words."""

    that: str = Field(description="what the check shows, in a few words")
    at_most: Bound | None = Field(default=None, description="no number is above a bound")
    at_least: Bound | None = Field(
        default=None, description="no number is below a bound; a run that grew beyond all numbers is above it"
    )
    equal: Equality | None = Field(default=None, description="each number equals another column, or one number")
    ratio: Ratio | None = Field(default=None, description="one mean is so many times another")
    linear_in: Line | None = Field(default=None, description="numbers, or their logarithms, lie on a straight line")
    cliff: Cliff | None = Field(default=None, description="numbers are high from an edge on, and lower before it")
    curves_agree: Curves | None = Field(default=None, description="two curves lie on each other")
    grows_at_most: Trend | None = Field(default=None, description="the end of a curve is no higher than stated")
    falls: Fall | None = Field(default=None, description="a curve never rises, but for rounding")

    @model_validator(mode="after")
    def _exactly_one(self) -> CheckEntry:
        if len(self.model_fields_set - {"that"}) != 1:
            names = ", ".join(name for name in CheckEntry.model_fields if name != "that")
            message = f"a check has exactly one of {names}"
            raise ValueError(message)
        return self

    @property
    def kind(self) -> str:
        """The name of the check."""
        return next(iter(self.model_fields_set - {"that"}))


class FigureEntry(Strict):
    """How the measured rows are drawn: a line for each series."""

    x: str = Field(description="the column along the x axis")
    y: str = Field(description="the column along the y axis")
    series: list[str] = Field(default=[], description="rows that differ in these columns are lines of their own")
    where: dict[str, Any] = Field(default={}, description="only rows with these values: {column: value or list}")
    log: list[Literal["x", "y"]] = Field(default=[], description="the axes that are logarithmic")


class SizeEntry(Strict):
    """One size at which a claim is reproduced."""

    set: dict[str, Any] = Field(default={}, description="overrides by dotted key: {batch: 8, graph.depth: 4}")
    differs: str = Field(default="", description="what differs from the paper at this size")


class ClaimEntry(Strict):
    """What a paper says, what is measured here, and how the two are compared; the scenario's ``source`` names it."""

    says: str = Field(description="what the paper says, in a sentence")
    paper: str = Field(description="the paper's numbers, or its words, short")
    numbers: list[dict[str, Any]] = Field(
        default=[], description="the paper's numbers as rows, with the columns of the measured rows that they belong to"
    )
    rows: Method = Field(default="sweep", description="what is measured: one of pcsim list methods")
    checks: list[CheckEntry] = Field(min_length=1, description="the claim agrees where each of these does")
    figure: FigureEntry | None = Field(default=None, description="how the measured rows are drawn")
    differs: str = Field(default="", description="what differs from the paper at every size: sizes, data, seeds")
    quick: SizeEntry = Field(default=SizeEntry(), description="small sizes, for seconds")
    full: SizeEntry = Field(default=SizeEntry(), description="the paper's sizes")
