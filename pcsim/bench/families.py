"""The benchmark's families of graphs, each a function of its sizes, and what each row of rules runs on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pcsim.bench.family_documents import (
    chain,
    layered,
    long_short_term_memory,
    population,
    scalar_dag,
    tensor_dag,
    units,
)
from pcsim.errors import nearest, wrong
from pcsim.scenario.reader import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcsim.scenario.scenario import Scenario

Sizes = Mapping[str, int]
Size = Literal["small", "full"]


@dataclass(frozen=True)
class Family:
    """One kind of graph.

    Attributes
    ----------
    document : (sizes) -> graph document, as plain data
    small, full : sizes of a quick look and of the real thing; ``batch`` is one of them
    """

    name: str
    summary: str
    document: Callable[[Sizes], dict[str, Any]]
    small: tuple[Sizes, ...]
    full: tuple[Sizes, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class RuleRow:
    """One way to run a graph: a rule with its settings, and how the graph is levelled.

    ``whole``: what is timed is a whole update from new data (forward sweep, inference, learning), else ticks alone.
    """

    name: str
    settings: Mapping[str, Any]
    level: str = "none"
    whole: bool = False


@dataclass(frozen=True)
class Case:
    """One graph of a family, at one size."""

    family: Family
    sizes: Sizes = field(hash=False)

    @property
    def name(self) -> str:
        """Return family and sizes as people read them."""
        return f"{self.family.name}, {', '.join(f'{key} {value:,}' for key, value in self.sizes.items())}"


TICKS: Mapping[Size, int] = {"small": 20, "full": 100}

RULES = {
    row.name: row
    for row in (
        RuleRow("fpa", {"name": "fpa", "step_size": 0.1}),
        RuleRow("il", {"name": "il", "step_size": 0.1}),
        RuleRow("zil", {"name": "zil"}, "delay", whole=True),
        RuleRow("bp", {"name": "bp"}, "delay", whole=True),
        RuleRow("fpa-step-1", {"name": "fpa", "step_size": 1.0, "ticks": "levels"}, "delay", whole=True),
    )
}

FAMILIES = {
    row.name: row
    for row in (
        Family("deep-chain", "W1: narrow layers tanh(W x + b), one after the other", chain,
               ({"depth": 8, "width": 16, "batch": 8},),
               tuple({"depth": depth, "width": 64, "batch": 64} for depth in (8, 32, 128))),
        Family("wide-chain", "W2: wide layers tanh(W x + b), one after the other", chain,
               ({"depth": 4, "width": 64, "batch": 16},),
               tuple({"depth": depth, "width": 512, "batch": 64} for depth in (4, 16))),
        Family("lstm", "an LSTM over time from affine, sigmoid, tanh, multiply and add, its weights shared",
               long_short_term_memory,
               ({"steps": 4, "inputs": 4, "units": 8, "batch": 8},),
               ({"steps": 32, "inputs": 64, "units": 128, "batch": 32},)),
        Family("tensor-dag", "a random graph of layers, sums and products of vectors", tensor_dag,
               ({"vertices": 40, "width": 8, "batch": 8},),
               ({"vertices": 400, "width": 64, "batch": 64},)),
        Family("scalar-dag", "a random graph of scalars, of ten kinds", scalar_dag,
               ({"vertices": 100, "batch": 1},),
               ({"vertices": 1000, "batch": 1}, {"vertices": 1000, "batch": 64})),
        Family("layered", "a 784-32-16-10 net, a layer a vertex", layered,
               ({"batch": 8},), ({"batch": 64},)),
        Family("unit-net", "the same net, a scalar vertex for each of its 842 units", units,
               ({"batch": 8},), ({"batch": 64},)),
        Family("population", "two populations and the sparse projections between them, synapses drawn at random",
               population,
               ({"neurons": 1000, "synapses": 10_000, "most_delay": 0, "batch": 1},
                {"neurons": 1000, "synapses": 10_000, "most_delay": 7, "batch": 1}),
               ({"neurons": 1_000_000, "synapses": 10_000_000, "most_delay": 0, "batch": 1},
                {"neurons": 1_000_000, "synapses": 10_000_000, "most_delay": 7, "batch": 1})),
        Family("mixed-delays", "the random graph of vectors, 0 to 7 ticks over each edge", tensor_dag,
               ({"vertices": 40, "width": 8, "most_delay": 7, "batch": 8},),
               ({"vertices": 400, "width": 64, "most_delay": 7, "batch": 64},)),
    )
}  # fmt: skip


def cases(names: Iterable[str], size: Size) -> Iterator[Case]:
    """Yield the cases of these families; raises InputError for an unknown family."""
    for name in names:
        if name not in FAMILIES:
            raise wrong("family", f"unknown family {name!r}" + nearest(name, FAMILIES))
        for sizes in FAMILIES[name].small if size == "small" else FAMILIES[name].full:
            yield Case(FAMILIES[name], sizes)


def scenario_of(case: Case, rule: RuleRow, ticks: int) -> Scenario:
    """Return the scenario of a case under a rule; rules that know how long they take ignore ``ticks``."""
    graph = case.family.document(case.sizes)
    settings = {"ticks": ticks, **rule.settings} if not rule.whole else rule.settings
    return load({
        "graph": graph,
        "inputs": {name: {"normal": [0, 1]} for name, entry in graph["vertices"].items() if entry["op"] == "input"},
        "targets": {name: {"uniform": [-0.5, 0.5]} for name in graph["outputs"]},
        "batch": case.sizes["batch"],
        "dtype": case.family.dtype,
        "rule": settings,
        "level": rule.level,
    })  # fmt: skip
