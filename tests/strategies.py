"""Random graphs and the runs they ask for: documents drawn from a seed, tasks made of them, runs.

A document is plain data for ``graph_from``. It is drawn op by op, each op with a recipe that finds (or
makes) inputs of fitting shapes and of tame size: what is exponentiated, squared or multiplied is bounded
first, what is under a root, a logarithm or a fraction line is at least 2.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from recipes_structure import STRUCTURE_RECIPES

from pcsim.analysis.backprop import sweep
from pcsim.engines.base import Task
from pcsim.graph import graph_from, level
from pcsim.graph.graph import number_format
from pcsim.graph.initialise import initialise, stream
from pcsim.ops import ACTIVATIONS, OPS, complete
from pcsim.ops.elementwise import UNARY
from pcsim.program.lower import ticks_of
from pcsim.rules import RULES, Rule, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.engines.base import Engine, Session
    from pcsim.graph import Graph

Document = dict[str, Any]

VALUE_RULES = {name: row for name, row in RULES.items() if row.dynamics == "values"}
"""Rules that every engine runs."""

SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (3,), (3,), (2, 3), (3, 3))
BOUNDED = ("tanh", "sigmoid", "sin", "cos", "softmax")
"""Ops whose values stay within [-1, 1]."""
STEEP = ("exp", "expm1", "square", "tan", "sinh", "cosh")
"""Functions of one input that grow what is not small."""
JUMPS = ("sign", "floor", "ceil", "round")
MILD = tuple(name for name in UNARY if name in ACTIVATIONS and name not in (*STEEP, *JUMPS))
"""Functions of one input that take any input and never grow it."""
FLAT = (*JUMPS, "clip", "hard_sigmoid", "hard_swish", "shrink", "thresholded_relu", "max_pool")
"""Functions whose slope is zero at many places: errors end there."""
MILD_ACTIVATIONS = ("none", *(name for name in MILD if name not in FLAT))


@dataclass
class Draft:
    """A document in the making."""

    rng: np.random.Generator
    features: Features
    vertices: dict[str, dict[str, Any]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    """Sources of whole numbers: only some ops take them."""

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def add(self, op: str, *inputs: str, params: Mapping[str, str] | None = None, **attributes: Any) -> str:
        """Add a vertex and return its name."""
        call = complete(OPS[op], tuple(self.shapes[pre] for pre in inputs), attributes)
        return self.put(op, call.shape, inputs, params, attributes)

    def put(
        self,
        op: str,
        shape: tuple[int, ...],
        inputs: tuple[str, ...],
        params: Mapping[str, str] | None,
        attributes: Mapping[str, Any],
    ) -> str:
        """Add a vertex whose shape is known and return its name."""
        name = f"{op}{len(self.vertices)}"
        self.shapes[name], self.used = shape, self.used | set(inputs)
        entry = {"op": op, "inputs": [self._input(pre) for pre in inputs], "params": dict(params or {}), **attributes}
        self.vertices[name] = {key: value for key, value in entry.items() if value or key not in ("inputs", "params")}
        return name

    def _input(self, pre: str) -> Any:
        if not self.features.delays or self.vertices[pre]["op"] == "parameter" or self.chance(0.7):
            return pre
        value, error = (int(ticks) for ticks in self.rng.integers(0, 5, 2))
        return {"from": pre, "delay": value if self.chance(0.3) else {"value": value, "error": error}}

    def pick(
        self, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True, fallback: tuple[int, ...] = (3,)
    ) -> str:
        """Return a vertex of a fitting shape, rather one that nobody uses yet; a new one if there is none."""
        found = [name for name, shape in self.shapes.items() if fits(shape) and name not in self.whole]
        fresh = [name for name in found if name not in self.used]
        if fresh and self.chance(0.6):
            return self.choose(fresh)
        return self.choose(found) if found else self.source(fallback)

    def source(self, shape: tuple[int, ...]) -> str:
        """Add an input, a constant or a parameter of this shape."""
        op = self.choose(
            [op for op in ("input", "input", "constant", "parameter") if op in self.features.ops] or ["input"]
        )
        if op == "constant":
            return self.add(op, value=0.5, shape=list(shape))
        return self.parameter(shape) if op == "parameter" else self.add(op, shape=list(shape))

    def parameter(self, shape: tuple[int, ...]) -> str:
        """Add a parameter vertex, at times of a parameter that layers use as well."""
        shared = {"value": self.named(shape)} if self.features.shared and self.chance(0.5) else None
        return self.add("parameter", shape=list(shape), params=shared)

    def named(self, shape: tuple[int, ...]) -> str:
        """Return the shared parameter of this shape."""
        name = "W" + "x".join(map(str, shape))
        self.parameters[name] = {"shape": list(shape), "init": {"normal": [0.0, 0.4]}}
        return name

    def bounded(self, name: str) -> str:
        """Return the vertex itself if its values are small, else a small function of it."""
        op = self.vertices[name]["op"]
        return name if op in (*BOUNDED, "constant", "parameter") else self.add(self.choose(BOUNDED[:4]), name)

    def positive(self, name: str) -> str:
        """Return a function of the vertex that is at least 2."""
        shape = list(self.shapes[name])
        lifted = self.add("softplus", name) if self.chance(0.5) else self.add("square", self.bounded(name))
        return self.add("add", lifted, self.add("constant", value=2.0, shape=shape))

    def mate(self, name: str) -> str:
        """Return a vertex whose shape broadcasts with this one's: at times the same vertex."""
        return name if self.chance(0.2) else self.pick(lambda shape: broadcasts(shape, self.shapes[name]))


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1], strict=False))


def has_axes(shape: tuple[int, ...]) -> bool:
    return len(shape) > 0


def _affine(draft: Draft) -> str:
    pre = draft.pick(has_axes)
    fan_in = draft.shapes[pre][-1]
    sharing = draft.features.shared and draft.chance(0.5)
    units = fan_in if sharing else int(draft.rng.integers(1, 5))
    params = {"weight": draft.named((units, fan_in))} if sharing else {}
    if sharing and draft.chance(0.5):
        params["bias"] = draft.named((units,))
    convention = draft.choose(["f(Wx+b)", "W f(x)+b"])
    bias = bool("bias" in params or draft.chance(0.7))
    return draft.add(
        "affine",
        pre,
        params=params,
        units=units,
        activation=draft.choose(MILD_ACTIVATIONS),
        bias=bias,
        convention=convention,
    )


def _projection(draft: Draft) -> str:
    pre = draft.pick(lambda shape: len(shape) == 1)
    degree = int(draft.rng.integers(1, 4))
    rules = [
        {"rule": "all_to_all"},
        {"rule": "fixed_in_degree", "degree": degree, "multiple": True},
        {"rule": "fixed_total_number", "number": draft.shapes[pre][0]},
    ]
    late = draft.features.delays and draft.vertices[pre]["op"] != "parameter"
    attributes = {
        "units": int(draft.rng.integers(1, 5)),
        "connect": draft.choose(rules),
        "delays": draft.choose([0, 2, {"uniform": [0, 3]}]) if late else 0,
        "activation": draft.choose(MILD_ACTIVATIONS),
        "bias": draft.chance(0.7),
        "seed": int(draft.rng.integers(100)),
    }
    return draft.put("projection", (attributes["units"],), (pre,), None, attributes)


def _neuron(draft: Draft) -> str:
    first = draft.pick()
    shape = draft.shapes[first]
    others = [draft.pick(lambda other: other == shape, shape) for _ in range(int(draft.rng.integers(0, 4)))]
    shared = draft.features.shared and draft.chance(0.5)
    params = {"weight": draft.named((1 + len(others),))} if shared else None
    activation = draft.choose(MILD_ACTIVATIONS)
    return draft.add("weighted_sum", first, *others, params=params, activation=activation, bias=draft.chance(0.7))


def _several(op: str) -> Callable[[Draft], str]:
    def recipe(draft: Draft) -> str:
        first = draft.pick()
        names = [first, *(draft.mate(first) for _ in range(1 + draft.chance(0.2) * (op != "subtract")))]
        fit = all(broadcasts(draft.shapes[a], draft.shapes[b]) for a in names for b in names)
        names = names if fit else names[:2]
        return draft.add(op, *(map(draft.bounded, names) if op == "multiply" else names))

    return recipe


def _divide(draft: Draft) -> str:
    top = draft.pick()
    return draft.add("divide", top, draft.positive(draft.mate(top)))


def _power(draft: Draft) -> str:
    base = draft.add("add", draft.bounded(draft.pick()), draft.add("constant", value=3.0))
    if draft.chance(0.5):
        return draft.add("power", base, exponent=draft.choose([2, 0.5, -1, 0]))
    return draft.add("power", base, draft.bounded(draft.mate(base)))


def _concat(draft: Draft) -> str:
    first = draft.pick(has_axes)
    axis = int(draft.rng.integers(len(draft.shapes[first])))
    return draft.add("concat", first, draft.pick(lambda shape: shape == draft.shapes[first]), axis=axis)


def _slice(draft: Draft) -> str:
    return draft.add(
        "slice", draft.pick(has_axes), **draft.choose([{"step": -1}, {"stop": 1}, {"start": -1, "axis": -1}])
    )


def _reshape(draft: Draft) -> str:
    name = draft.pick()
    return draft.add("reshape", name, shape=draft.choose([[-1], [1, -1], list(draft.shapes[name])[::-1]]))


def _transpose(draft: Draft) -> str:
    return draft.add("transpose", draft.pick(lambda shape: len(shape) == 2, (2, 3)))


def _spread(draft: Draft, name: str) -> str:
    """Return the vertex with its elements moved apart: which one is extreme is not left to rounding."""
    shape = draft.shapes[name]
    return draft.add(
        "add", name, draft.add("constant", value=np.cos(1 + np.arange(prod(shape))).reshape(shape).tolist())
    )


def _reduce(op: str, tamed: Callable[[Draft, str], str]) -> Callable[[Draft], str]:
    def recipe(draft: Draft) -> str:
        name = tamed(draft, draft.pick())
        axis = draft.choose([None, *range(len(draft.shapes[name]))])
        return draft.add(op, name, axis=axis, keepdims=draft.chance(0.3))

    return recipe


def _extreme(op: str) -> Callable[[Draft], str]:
    def recipe(draft: Draft) -> str:
        first = draft.pick()
        return draft.add(op, _spread(draft, first), draft.mate(first))

    return recipe


def _pair(draft: Draft) -> tuple[str, str]:
    first = draft.pick()
    return first, draft.bounded(draft.mate(first))


def _where(draft: Draft) -> str:
    first = draft.pick()
    mask = draft.add("input", shape=list(draft.shapes[first]), format="whole")
    draft.whole.add(mask)
    return draft.add("where", mask, first, draft.mate(first))


def _mod(draft: Draft) -> str:
    top = draft.add("add", draft.pick(), draft.add("constant", value=0.3217))
    return draft.add("mod", top, draft.positive(draft.mate(top)), truncate=draft.chance(0.5))


def _sample_norm(op: str, rank: int = 1, **more: Any) -> Callable[[Draft], str]:
    """A variance far below epsilon would amplify roundings."""

    def recipe(draft: Draft) -> str:
        name = draft.pick(lambda shape: len(shape) >= rank, (3,) * rank)
        axis = int(draft.rng.integers(len(draft.shapes[name]) - rank + 1))
        return draft.add(op, name, axis=axis, epsilon=0.1, **more)

    return recipe


def _scan(op: str, tamed: Callable[[Draft, str], str]) -> Callable[[Draft], str]:
    def recipe(draft: Draft) -> str:
        name = tamed(draft, draft.pick(has_axes))
        return draft.add(op, name, axis=draft.choose([0, -1]), exclusive=draft.chance(0.5), reverse=draft.chance(0.5))

    return recipe


def _normal(op: str) -> Callable[[Draft], str]:
    return lambda draft: draft.add(op, draft.pick(has_axes), axis=draft.choose([0, -1]))


def _mild(op: str) -> Callable[[Draft], str]:
    return lambda draft: draft.add(op, draft.pick())


def _steep(op: str) -> Callable[[Draft], str]:
    return lambda draft: draft.add(op, draft.bounded(draft.pick()))


def _jumping(op: str) -> Callable[[Draft], str]:
    """No whole number is rounded: what jumps there would be decided by rounding."""
    return lambda draft: draft.add(op, draft.add("add", draft.pick(), draft.add("constant", value=0.3217)))


def _within(op: str) -> Callable[[Draft], str]:
    """What is taken lies between -0.6 and 0.6."""

    def recipe(draft: Draft) -> str:
        small = draft.add(draft.choose(BOUNDED[:4]), draft.pick())
        return draft.add(op, draft.add("multiply", small, draft.add("constant", value=0.6)))

    return recipe


def _rooted(op: str) -> Callable[[Draft], str]:
    return lambda draft: draft.add(op, draft.positive(draft.pick()))


def _batch_norm(draft: Draft) -> str:
    name = draft.pick(has_axes)
    axis = int(draft.rng.integers(len(draft.shapes[name])))
    statistics = draft.choose(["batch", "batch", "frozen"])
    # a variance far below epsilon would amplify roundings
    return draft.add("batch_norm", name, axis=axis, statistics=statistics, epsilon=0.1, affine=draft.chance(0.7))


def _conv(draft: Draft) -> str:
    name = draft.pick(lambda shape: len(shape) == 2, (2, 3))
    shared = draft.features.shared and draft.chance(0.4)
    channels, kernel = int(draft.rng.integers(1, 4)), draft.choose([[1], [2]])
    params = {"weight": draft.named((channels, draft.shapes[name][0], *kernel))} if shared else None
    return draft.add(
        "conv",
        name,
        params=params,
        channels=channels,
        kernel=kernel,
        padding=draft.choose([0, 1, [[1, 0]]]) if draft.shapes[name][1] > 1 else 1,
        stride=draft.choose([1, 2]),
        bias=draft.chance(0.7),
        activation=draft.choose(MILD_ACTIVATIONS),
    )


def _pool(op: str) -> Callable[[Draft], str]:
    def recipe(draft: Draft) -> str:
        name = draft.pick(lambda shape: len(shape) > 0 and shape[-1] > 1, (2, 3))
        return draft.add(op, name, kernel=[2], stride=draft.choose([None, 1]), padding=draft.choose([0, 1]))

    return recipe


def _embedding(draft: Draft) -> str:
    indices = draft.add("input", shape=list(draft.choose([(), (2,)])), format="whole")
    draft.whole.add(indices)
    shared = draft.features.shared and draft.chance(0.5)
    params = {"weight": draft.named((4, 3))} if shared else None
    return draft.add("embedding", indices, params=params, entries=4, units=3)


RECIPES: dict[str, Callable[[Draft], str]] = {
    **{op: _mild(op) for op in MILD},
    **{op: _steep(op) for op in STEEP},
    **{op: _jumping(op) for op in JUMPS},
    **{op: _rooted(op) for op in ("sqrt", "log", "log1p", "reciprocal", "acosh")},
    **{op: _within(op) for op in ("asin", "acos", "atanh")},
    "clip": lambda draft: draft.add("clip", draft.pick(), min=-0.4, max=draft.choose([None, 0.9])),
    **{op: _several(op) for op in ("add", "subtract", "multiply")},
    **{op: _reduce(op, lambda draft, name: name) for op in ("sum", "mean", "logsumexp")},
    **{op: _reduce(op, _spread) for op in ("max", "min", "norm")},
    **{op: _reduce(op, Draft.bounded) for op in ("prod", "sum_square")},
    "log_sum": _reduce("log_sum", Draft.positive),
    **{op: _extreme(op) for op in ("maximum", "minimum")},
    "where": _where, "mod": _mod,
    "prelu": lambda draft: draft.add("prelu", *_pair(draft)),
    "layer_norm": _sample_norm("layer_norm"), "rms_norm": _sample_norm("rms_norm"),
    "group_norm": _sample_norm("group_norm", groups=1), "instance_norm": _sample_norm("instance_norm", rank=2),
    "lp_normalise": _sample_norm("lp_normalise"),
    "lrn": lambda draft: draft.add("lrn", draft.pick(has_axes), size=draft.choose([2, 3]), alpha=0.5),
    "cumsum": _scan("cumsum", lambda draft, name: name), "cumprod": _scan("cumprod", Draft.bounded),
    **{op: _normal(op) for op in ("softmax", "log_softmax")},
    "divide": _divide, "power": _power, "affine": _affine,
    "projection": _projection, "weighted_sum": _neuron, "batch_norm": _batch_norm, "embedding": _embedding,
    "dropout": lambda draft: draft.add("dropout", draft.pick(), rate=0.4),
    "conv": _conv, "max_pool": _pool("max_pool"), "average_pool": _pool("average_pool"),
    "concat": _concat, "slice": _slice, "reshape": _reshape, "transpose": _transpose,
    "input": lambda draft: draft.add("input", shape=list(draft.choose(SHAPES))),
    "constant": lambda draft: draft.add("constant", value=-0.7, shape=list(draft.choose(SHAPES))),
    "parameter": lambda draft: draft.parameter(draft.choose(SHAPES)),
    **STRUCTURE_RECIPES,
}  # fmt: skip


TAKE_WHOLE = tuple(name for name in RECIPES if any(slot.format == "whole" for slot in OPS[name].inputs))
BATCH_OPS = ("batch_norm", "dropout", *TAKE_WHOLE)
"""Ops that couple samples, draw at random, or take whole numbers."""
SEPARATE = tuple(name for name in OPS if name in RECIPES and name not in BATCH_OPS)
"""Ops that treat every sample by itself, and take floating-point numbers."""


@dataclass(frozen=True)
class Features:
    """What a random document may hold."""

    size: int = 9
    ops: tuple[str, ...] = SEPARATE
    delays: bool = True
    shared: bool = True
    dead_ends: bool = False
    precision: bool = False
    inner_outputs: bool = True


def random_document(seed: int, features: Features = Features()) -> Document:
    """Return a random graph document; equal for equal arguments."""
    draft = Draft(np.random.default_rng(seed), features)
    draft.add("input", shape=list(draft.choose(SHAPES[1:])))
    for _ in range(features.size):
        op = draft.choose(features.ops)
        RECIPES["affine" if "affine" in features.ops and draft.chance(0.15) else op](draft)
    _compute_something(draft)
    return _finished(draft)


def _compute_something(draft: Draft) -> None:
    """Let a parameter take part, so that there is something to learn."""
    draft.add("affine", draft.pick(has_axes), units=2)


def _finished(draft: Draft) -> Document:
    functions = [name for name, entry in draft.vertices.items() if OPS[entry["op"]].role == "function"]
    sinks = [name for name in functions if name not in draft.used]
    outputs = [name for name in sinks if not (draft.features.dead_ends and draft.chance(0.5))] or sinks[-1:]
    inner = [name for name in functions if name in draft.used]
    if inner and draft.features.inner_outputs and draft.chance(0.3):
        outputs.append(draft.choose(inner))
    if draft.features.precision:
        for name in functions:
            _weigh(draft, name)
    return {"vertices": draft.vertices, "parameters": draft.parameters, "outputs": outputs}


def _weigh(draft: Draft, name: str) -> None:
    if draft.chance(0.3):
        weight = draft.rng.uniform(0.5, 1.5, draft.shapes[name] if draft.chance(0.5) else ())
        draft.vertices[name]["precision"] = weight.tolist()


def permuted(document: Document, seed: int) -> Document:
    """Return the same document with its vertices, parameters and outputs in another order."""
    rng = np.random.default_rng(seed)

    def shuffled(items: Any) -> list[Any]:
        items = list(items)
        return [items[place] for place in rng.permutation(len(items))]

    return {
        "vertices": dict(shuffled(document["vertices"].items())),
        "parameters": dict(shuffled(document["parameters"].items())),
        "outputs": shuffled(document["outputs"]),
    }


def documents(max_size: int = 8, **fixed: Any) -> st.SearchStrategy[Document]:
    """Return a strategy for documents; ``fixed`` features are as given, the others vary."""
    flags = {key: st.booleans() for key in ("delays", "shared", "dead_ends", "inner_outputs")}
    chosen = {key: st.just(value) for key, value in fixed.items()}
    features = st.builds(Features, **({"size": st.integers(0, max_size)} | flags | chosen))
    return st.builds(random_document, st.integers(0, 2**32 - 1), features)


# -- tasks ----------------------------------------------------------------------------------------------


def make_task(
    document: Document | Graph,
    row: str | Rule = "fpa",
    form: str = "none",
    dtype: Any = np.float64,
    seed: int = 0,
    batch: int = 3,
    ticks: int | None = None,
    *,
    away: float = 0.1,
    losses: str = "squared_error",
    keep_values: bool = True,
) -> Task:
    """Return a task on a document (or graph): random parameters and data, targets ``away`` from the predictions.

    ``losses``: ``squared_error``, or ``mixed`` for cross_entropy at every other output that has axes. Values,
    parameters and targets do not depend on ``form``.
    """
    row = rule(row) if isinstance(row, str) else row
    graph = level(graph_from(document) if isinstance(document, dict) else document, "delay" if row.levelled else form)
    inputs = {name: _data(graph, name, seed, batch, dtype) for name in graph.vertices if graph.role(name) == "source"}
    count = ticks_of(graph, row) if ticks is None else ticks
    task = Task(
        graph,
        row,
        count,
        batch,
        np.dtype(dtype),
        initialise(graph, seed, dtype),
        inputs,
        {},
        {},
        keep_values=keep_values,
        seed=seed,
    )
    kinds = {name: _loss(graph, name, number, losses) for number, name in enumerate(graph.outputs)}
    return replace(task, targets=_targets(task, seed, away, kinds), losses=kinds)


def _data(graph: Graph, name: str, seed: int, batch: int, dtype: Any) -> np.ndarray:
    vertex = graph.vertices[name]
    whole = number_format(vertex) == "whole"
    if vertex.op.name == "constant":
        own = np.asarray(vertex.call["value"], np.int64 if whole else dtype)
        return np.broadcast_to(own, (batch, *vertex.shape)).copy()
    if whole:
        return stream(seed, "input", name).integers(0, 4, (batch, *vertex.shape))
    return stream(seed, "input", name).normal(0.0, 0.7, (batch, *vertex.shape)).astype(dtype)


def _loss(graph: Graph, name: str, number: int, losses: str) -> str:
    return "cross_entropy" if losses == "mixed" and number % 2 == 0 and graph.vertices[name].shape else "squared_error"


def _targets(task: Task, seed: int, away: float, losses: Mapping[str, str]) -> dict[str, np.ndarray]:
    found = {}
    for name, local in sweep(task).items():
        if name in losses:
            noise = stream(seed, "target", name).normal(0.0, 1.0, local.mu.shape[1:])
            clamped = losses[name] == "squared_error"
            found[name] = (local.mu[0] + away * noise if clamped else np.abs(noise)).astype(task.dtype)
    return found


# -- runs -----------------------------------------------------------------------------------------------

PER_TICK = ("value", "prediction", "error", "value message", "error message")


@dataclass(frozen=True)
class Played:
    """What a run was, tick by tick: {name: (tick, batch, *shape)} for each of ``PER_TICK``, and how it ended."""

    seen: Mapping[str, Mapping[str, np.ndarray]]
    taught: Mapping[str, np.ndarray]
    """{parameter: (tick, *shape)}: what it had learnt by each tick."""
    learnt: Mapping[str, np.ndarray]
    parameters: Mapping[str, np.ndarray]
    """{parameter: (tick, *shape)}: its value after each tick."""
    fired: Mapping[str, int]
    session: Session

    @property
    def errors(self) -> Mapping[str, np.ndarray]:
        return self.seen["error"]

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        return self.seen["value"]


def run_task(engine: Engine, task: Task, quantities: tuple[str, ...] = PER_TICK) -> Played:
    """Play a task on the tick protocol and keep what it shows."""
    session = engine(task)
    readers = [(what, names, session.reader(what, names)) for what in quantities for names in _groups(task.graph, what)]
    seen: dict[str, list[np.ndarray]] = defaultdict(list)
    for tick in range(task.ticks):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        for what, names, read in readers:
            seen[f"{what}/{names[0]}"].append(np.array(read()))
        session.learn(tick, last=tick == task.ticks - 1)
        _keep(seen, "taught", session.updates())
        _keep(seen, "parameters", session.parameters())
        session.move()
    return Played(
        {what: _by_name(seen, readers, what) for what in quantities},
        {name: np.stack(seen[f"taught/{name}"]) for name in task.graph.parameters},
        session.updates(),
        {name: np.stack(seen[f"parameters/{name}"]) for name in task.graph.parameters},
        session.fired(),
        session,
    )


def _keep(seen: dict[str, list[np.ndarray]], what: str, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        seen[f"{what}/{name}"].append(np.array(array))


def _by_name(seen: Mapping[str, list[np.ndarray]], readers: Any, what: str) -> dict[str, np.ndarray]:
    found = {}
    for quantity, names, _ in readers:
        if quantity == what:
            series = np.stack(seen[f"{what}/{names[0]}"])
            found.update({name: series[:, row] for row, name in enumerate(names)})
    return found


def _groups(graph: Graph, what: str) -> list[list[str]]:
    """Return what can be read of a quantity, by shape."""
    groups: dict[Any, list[str]] = defaultdict(list)
    if what.endswith("message"):
        for edge in graph.edges:
            if graph.role(edge.pre) != "parameter" and (what == "value message" or graph.carries_errors(edge)):
                groups[graph.vertices[edge.pre].shape].append(edge.name)
    else:
        for name in graph.active:
            groups[graph.vertices[name].shape].append(name)
    return list(groups.values())
