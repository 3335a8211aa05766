"""Energy and latency of an update on hardware: a model made of counted work and of constants from the literature.

Each kind of hardware is a row: constants with their sources, what the model assumes, and a function that counts once
what a scenario asks of it and returns the estimate for any value of the constants. So a ranking can be made again with
each constant 25 % smaller or larger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.placement import Chip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcsim.analysis.cost import ActorCost
    from pcsim.analysis.parallel_time import Phase
    from pcsim.analysis.placement import Placed
    from pcsim.graph.graph import Edge, Graph

Array = np.ndarray
Values = Mapping[str, float]


@dataclass(frozen=True)
class Constant:
    """A number of the model; ``varied``: it is among those that are made 25 % smaller and larger."""

    value: float
    unit: str
    what: str
    source: str
    varied: bool = True


@dataclass(frozen=True)
class Estimate:
    """Energy in joules, by part, and latency in seconds, of one sample of an update."""

    energy: Mapping[str, float]
    seconds: float

    @property
    def joules(self) -> float:
        """Energy of all parts."""
        return sum(self.energy.values())


@dataclass(frozen=True)
class Demand:
    """What hardware is asked to do.

    Attributes
    ----------
    phases : of an update
    together, single : costs of the actors for the whole batch, and for one sample, in float32
    batch : samples that are computed together
    placed : the graph on a chip; None on hardware without a mesh
    sent : {``forward`` or ``back``: share of all messages of a tick that are sent}, of a graph with channels
    """

    graph: Graph
    phases: Sequence[Phase]
    together: Mapping[str, ActorCost]
    single: Mapping[str, ActorCost]
    batch: int
    placed: Placed | None = None
    sent: Mapping[str, float] = field(default_factory=dict)

    def share(self, phase: Phase, part: str) -> float:
        """Return the share of the messages of a part of a phase that are sent: in a sweep all are."""
        return 1.0 if phase.order else self.sent.get(part, 1.0)


Model = Callable[[Values], Estimate]


@dataclass(frozen=True)
class Hardware:
    """One kind of hardware.

    Attributes
    ----------
    device : whose constants these are; two kinds that share a device share its constants
    model : (demand) -> (constants) -> estimate; counting is done once
    assumptions : what the model leaves out or simplifies, in sentences
    mesh : actors are placed on its cores
    """

    name: str
    summary: str
    device: str
    constants: Mapping[str, Constant]
    model: Callable[[Demand], Model]
    assumptions: tuple[str, ...]
    mesh: bool = False

    @property
    def values(self) -> dict[str, float]:
        """The constants, by name."""
        return {name: constant.value for name, constant in self.constants.items()}

    def chip(self, values: Values) -> Chip:
        """Return the mesh that these constants describe."""
        return Chip(*(int(values[name]) for name in CAPACITY))


CAPACITY = ("rows", "columns", "cores_per_tile", "units_per_core", "weights_per_core")
"""Constants of a mesh that are counts, as `Chip` takes them."""


# -- a processor with memory beside it ---------------------------------------------------------------------------


def _roofline(demand: Demand, kind: str = "") -> Model:
    """One kernel for each actor and part of a phase; each takes as long as its arithmetic or its memory, if longer.

    ``kind`` ends the names of the constants of its arithmetic.
    """
    kernels = np.array(list(_kernels(demand))).reshape(-1, 3)
    rounds, operations, moved = kernels.T

    def estimate(value: Values) -> Estimate:
        busy = np.maximum(operations / (value[f"rate{kind}"] * 1e12), moved / (value["bandwidth"] * 1e9))
        seconds = float(rounds @ (busy + value["launch"] * 1e-6))
        arithmetic = float(rounds @ operations) * value[f"operation{kind}"] * 1e-12
        memory = float(rounds @ moved) * value["dram"] * 1e-12
        return Estimate({"arithmetic": arithmetic / demand.batch, "memory": memory / demand.batch},
                        seconds / demand.batch)  # fmt: skip

    return estimate


def _kernels(demand: Demand) -> Iterator[tuple[float, float, float]]:
    """Yield (rounds, operations, bytes) of each kernel."""
    for phase in demand.phases:
        for actor in demand.together.values():
            for number, part in enumerate(phase.does):
                work = getattr(actor, part)
                more = phase.extra * actor.units * demand.batch if number == 0 else 0
                if work.operations + more:
                    yield phase.rounds, work.operations + more, work.bytes


# -- a mesh of cores -----------------------------------------------------------------------------------------------

WAYS = ("dense", "sparse", "conv")
"""How synapses are stored: each weight once, one by one with their targets, or shared by many targets."""


def synapses_of(actor: ActorCost) -> str:
    """Return how the synapses of an actor are stored, as its declared cost says."""
    if actor.cost.messages is not None:
        return "sparse"
    return "conv" if 0 < actor.cost.weights < actor.cost.multiply_adds else "dense"


@dataclass
class Wave:
    """What is done between two barriers, counted: for each core, and on the links.

    Attributes
    ----------
    rounds : how many times
    cores : {what: (cores,) numbers}, synaptic operations by the way they are stored, units, messages out and in
    links : {(tile, next tile): messages}, by row and by column
    routes : ways that a message takes, as hops (along the row, along the column)
    hops : messages times hops, along rows and along columns
    """

    rounds: int
    cores: dict[str, Array]
    links: tuple[dict[tuple[int, int, int], float], dict[tuple[int, int, int], float]] = field(
        default_factory=lambda: (defaultdict(float), defaultdict(float))
    )
    routes: set[tuple[int, int]] = field(default_factory=set)
    hops: Array = field(default_factory=lambda: np.zeros(2))


def _mesh(demand: Demand) -> Model:
    """Cores work at the same time, and wait for the slowest, for the network, and for a barrier."""
    placed = demand.placed
    assert placed is not None
    waves = [wave for phase in demand.phases for wave in _waves(phase, demand, placed)]
    counted = _Counted.of(waves)
    rounds = counted.rounds
    energy = {name: float(rounds @ counts.sum(axis=1)) for name, counts in counted.cores.items()}
    hops = rounds @ counted.hops

    def estimate(value: Values) -> Estimate:
        spent = {
            "synapses": sum(energy[way] * value[f"synapse_{way}"] for way in WAYS),
            "neurons": energy["units"] * (value["neuron_access"] + value["neuron_update"]),
            "messages": energy["out"] * (value["spike_out"] + value["axon_out"]),
            "hops": float(hops[0]) * value["hop_row"] + float(hops[1]) * value["hop_column"],
        }
        barrier = value["barrier"] + value["barrier_tile"] * (placed.tiles - 1)
        seconds = float(rounds @ (counted.slowest(value) + counted.network(value) + barrier))
        return Estimate({part: joules * 1e-12 for part, joules in spent.items()}, seconds * 1e-9)

    return estimate


COUNTED = (*WAYS, "units", "out", "in")


def _waves(phase: Phase, demand: Demand, placed: Placed) -> list[Wave]:
    """Return what a phase does between two barriers: all at once, or depth after depth."""
    depths = demand.graph.depths
    groups: dict[int, list[str]] = defaultdict(list)
    for name in demand.single:
        groups[depths[name] if phase.order else 0].append(name)
    return [_wave(phase, names, demand, placed) for _, names in sorted(groups.items())]


def _wave(phase: Phase, names: Sequence[str], demand: Demand, placed: Placed) -> Wave:
    count = len(placed.chip.positions)
    wave = Wave(phase.rounds, {name: np.zeros(count) for name in COUNTED})
    for name in names:
        actor = demand.single[name]
        # a value that is not sent makes no synapse work; an error message is worked out before it is sent or not
        saved = {"forward": demand.share(phase, "forward")}
        products = sum(getattr(actor, part).products * saved.get(part, 1.0) for part in phase.does) / 2
        for core, share in placed.where[name]:
            wave.cores[synapses_of(actor)][core] += share * products
            wave.cores["units"][core] += share * actor.units * len(set(phase.does) - {"learn"})
        for edge in demand.graph.incoming[name]:
            _send_over(wave, edge, phase, demand, placed)
    return wave


def _send_over(wave: Wave, edge: Edge, phase: Phase, demand: Demand, placed: Placed) -> None:
    """Count the messages of an edge: values forward, which of a clamped source move but once, and errors back."""
    graph, numbers = demand.graph, prod(demand.graph.vertices[edge.pre].shape)
    values = numbers * demand.share(phase, "forward") * ("forward" in phase.does)
    values *= phase.order == "forward" or graph.role(edge.pre) == "free"
    errors = numbers * demand.share(phase, "back") * ("back" in phase.does and graph.carries_errors(edge))
    for one, share in placed.where[edge.pre]:
        for other, _ in placed.where[edge.post]:
            if one != other and values:
                _send(wave, one, other, values * share, placed.chip)
            if one != other and errors:
                _send(wave, other, one, errors * share, placed.chip)


def _send(wave: Wave, start: int, end: int, numbers: float, chip: Chip) -> None:
    """Count messages from core to core along the row, then along the column."""
    wave.cores["out"][start] += numbers
    wave.cores["in"][end] += numbers
    (row, column), (last_row, last_column) = chip.positions[start].tolist(), chip.positions[end].tolist()
    along, down = wave.links
    step = 1 if last_column > column else -1
    for at in range(column, last_column, step):
        along[row, at, at + step] += numbers
    step = 1 if last_row > row else -1
    for at in range(row, last_row, step):
        down[last_column, at, at + step] += numbers
    ways = abs(last_column - column), abs(last_row - row)
    wave.routes.add(ways)
    wave.hops += numbers * np.array(ways)


@dataclass(frozen=True)
class _Counted:
    """All waves as arrays, one row each: what `Wave` holds, and the load of the busiest link each way."""

    rounds: Array
    cores: Mapping[str, Array]
    hops: Array
    routes: Array
    busiest: Array

    @classmethod
    def of(cls, waves: Sequence[Wave]) -> _Counted:
        """Return the arrays of waves; routes are padded with none."""
        most = max((len(wave.routes) for wave in waves), default=0)
        routes = np.zeros((len(waves), most + 1, 2))
        for row, wave in zip(routes, waves, strict=True):
            row[: len(wave.routes)] = list(wave.routes) or np.zeros((0, 2))
        return cls(
            rounds=np.array([float(wave.rounds) for wave in waves]),
            cores={name: np.array([wave.cores[name] for wave in waves]) for name in COUNTED},
            hops=np.array([wave.hops for wave in waves]).reshape(-1, 2),
            routes=routes,
            busiest=np.array([[max(links.values(), default=0.0) for links in wave.links] for wave in waves]),
        )

    def slowest(self, value: Values) -> Array:
        """Return the nanoseconds of the core with most to do, of each wave."""
        unit = value["neuron_access_time"] + value["neuron_update_time"]
        busy = self.cores["units"] * unit + self.cores["out"] * (value["spike_time"] + value["axon_out_time"])
        busy += self.cores["in"] * value["axon_in_time"]
        for way in WAYS:
            busy += self.cores[way] * value[f"synapse_{way}_time"]
        return np.asarray(busy.max(axis=1))

    def network(self, value: Values) -> Array:
        """Return the nanoseconds of the longest route, and of the messages that wait on the busiest link."""
        hop = np.array([value["hop_row_time"], value["hop_column_time"]])
        return np.asarray((self.routes @ hop).max(axis=1) + (self.busiest * hop).max(axis=1))


# -- the rows ------------------------------------------------------------------------------------------------------

_LOIHI = "Davies et al. 2018, as in SANA-FE arch/loihi.yaml"
_BARRIER = "barrier between ticks, 0.6 to 1.8 us for 1 to 29 tiles; SANA-FE"
_DATA_SHEET = "NVIDIA A100 40 GB data sheet, 2020"
_LAUNCH = "susun-blog.com/blog/pegainfer-3-cuda-graph"


def _pj(value: float, what: str, source: str = _LOIHI) -> Constant:
    return Constant(value, "pJ", what, source)


def _ns(value: float, what: str, source: str = _LOIHI) -> Constant:
    return Constant(value, "ns", what, source)


def _count(value: int, what: str) -> Constant:
    return Constant(value, "", what, "Davies et al. 2018", varied=False)


LOIHI = Hardware(
    "loihi",
    "a mesh of cores that send each other messages over a network, with a barrier after each tick",
    "loihi",
    {
        "hop_row": _pj(3.0, "a message, one hop east or west"),
        "hop_column": _pj(4.2, "a message, one hop north or south"),
        "synapse_dense": _pj(35.5, "a multiply-add with a weight that is stored once"),
        "synapse_sparse": _pj(33.6, "a multiply-add with a weight that is stored with its target"),
        "synapse_conv": _pj(24.0, "a multiply-add with a weight that many targets share"),
        "neuron_access": _pj(51.2, "a unit is read and written"),
        "neuron_update": _pj(21.6, "a unit is changed"),
        "spike_out": _pj(69.3, "a unit makes a message"),
        "axon_out": _pj(111.0, "a message leaves a core for another"),
        "hop_row_time": _ns(4.1, "one hop east or west"),
        "hop_column_time": _ns(6.5, "one hop north or south"),
        "synapse_dense_time": _ns(3.8, "a multiply-add with a weight that is stored once"),
        "synapse_sparse_time": _ns(4.7, "a multiply-add with a weight that is stored with its target"),
        "synapse_conv_time": _ns(3.1, "a multiply-add with a weight that many targets share"),
        "neuron_access_time": _ns(6.0, "a unit is read and written"),
        "neuron_update_time": _ns(3.7, "a unit is changed"),
        "spike_time": _ns(30.0, "a unit makes a message"),
        "axon_out_time": _ns(5.1, "a message leaves a core"),
        "axon_in_time": _ns(16.0, "a message enters a core"),
        "barrier": _ns(600.0, "barrier after each tick, one tile", _BARRIER),
        "barrier_tile": _ns(1200.0 / 28, "barrier after each tick, each further tile", _BARRIER),
        "rows": _count(4, "rows of tiles of a chip"),
        "columns": _count(8, "columns of tiles of a chip"),
        "cores_per_tile": _count(4, "cores of a tile"),
        "units_per_core": _count(1024, "units of a core"),
        "weights_per_core": _count(131072, "weights of 8 bits in the 128 kB of a core"),
    },
    _mesh,
    (
        "mesh: a message carries one number and costs as much as a spike; on the chip a spike carries none",
        "mesh: an actor computes its prediction and the errors that it sends on its own cores, from one set of weights",
        "mesh: a vertex has a value unit and an error unit for each number; each is changed once in each direction",
        "mesh: every actor acts at every tick, also where nothing has changed; clamped sources send once",
        "mesh: of a graph with channels those messages count that a run sends; without a value its synapses do nothing",
        "mesh: the products of an error message are made before it is known whether it is sent",
        "mesh: samples are computed one after the other; nothing is pipelined",
        "mesh: a tick lasts as long as its slowest core, then the longest route and the busiest link, then the barrier",
        "mesh: to learn costs a synaptic operation for each weight and sample",
    ),
    mesh=True,
)


_GPU = (
    "GPU: a kernel for each actor and direction, one after the other, and the time to submit it",
    "GPU: a kernel takes as long as its arithmetic at peak rate or its memory at full bandwidth, if longer",
    "GPU: nothing stays in a cache; numbers take 4 bytes",
    "GPU: an operation takes its share of all that a busy board draws; what a board draws while it waits is left out",
    "GPU: the whole batch is computed together, and shared equally among its samples",
    "GPU: what is not sent over a channel is computed all the same",
)

_MEMORY = {
    "dram": _pj(31.2, "a byte from or to memory: 3.9 pJ a bit", "O'Connor et al. 2017, HBM2"),
    "bandwidth": Constant(1555.0, "GB/s", "of the memory", _DATA_SHEET),
    "launch": Constant(5.0, "us", "to submit a kernel: 4 to 6 us, on an RTX 5070 Ti", _LAUNCH),
}


def _arithmetic(kind: str, rate: float, what: str) -> dict[str, Constant]:
    """Return the constants of a kind of arithmetic: its peak rate, and an operation's share of the board's 400 W."""
    watts = f"{what}: 400 W of the board by its peak rate"
    return {
        f"operation{kind}": _pj(round(400 / rate, 2), watts, _DATA_SHEET),
        f"rate{kind}": Constant(rate, "Tflop/s", f"peak rate, {what}", _DATA_SHEET),
    }


A100 = Hardware(
    "a100",
    "a graphics processor with its memory beside it, in float32",
    "a100",
    {**_arithmetic("", 19.5, "a float32 operation"), **_MEMORY},
    _roofline,
    _GPU,
)
A100_TF32 = Hardware(
    "a100-tf32",
    "the same with its matrix units, in TF32",
    "a100",
    {**_arithmetic("_tf32", 156.0, "a TF32 operation of matrix units"), **_MEMORY},
    lambda demand: _roofline(demand, "_tf32"),
    _GPU,
)

HARDWARE: dict[str, Hardware] = {row.name: row for row in (LOIHI, A100, A100_TF32)}


def with_values(row: Hardware, changed: Mapping[str, float]) -> Hardware:
    """Return the row with other values of some constants."""
    constants = {
        name: replace(constant, value=changed[name], source="given") if name in changed else constant
        for name, constant in row.constants.items()
    }
    return replace(row, constants=constants)


def constant_rows(hardware: Mapping[str, Hardware] = HARDWARE) -> list[dict[str, Any]]:
    """Return every constant of the hardware with its source."""
    known = {f"{row.device}.{key}": one for row in hardware.values() for key, one in row.constants.items()}
    return [
        {"constant": name, "value": one.value, "unit": one.unit, "summary": one.what, "source": one.source}
        for name, one in known.items()
    ]
