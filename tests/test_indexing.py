"""Ops that take whole numbers as places: against NumPy sample by sample, adjoint, number formats, graphs."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from strategies import make_task, run_task
from test_backprop import differences

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.errors import InputError
from pcsim.graph import graph_from
from pcsim.ops import OPS, complete

STACK, BATCH = 3, 4
LEADS = [(STACK, BATCH), (1, BATCH), (STACK, 1), (1, 1)]


@dataclass(frozen=True)
class Places:
    """An op with whole inputs: shapes of the others, the shape of the indices and below what they lie.

    ``distinct``: no two of a sample mean one place. ``signed``: negative ones count from the end.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    found: tuple[int, ...]
    below: Any
    meaning: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    distinct: bool = False
    signed: bool = True

    def __str__(self) -> str:
        return f"{self.op}{list(self.shapes)}{list(self.found)}{self.attributes}".replace(" ", "")

    @property
    def call(self):
        return complete(OPS[self.op], (*self.shapes, self.found), self.attributes)

    def drawn(self, rng, front):
        """Return indices of either sign; distinct along the first axis that counts where they have to be."""
        if self.distinct:
            axis = self.attributes.get("axis", 0)
            found = np.argsort(rng.random((*front, *self.found)), axis=len(front) + axis)
            return found - self.below * (found % 2)
        return rng.integers(-np.asarray(self.below) * self.signed, self.below, (*front, *self.found))


def turned(x, lengths, axis=0):
    made = x.copy()
    for number, length in enumerate(lengths):
        made[:length, number] = x[:length, number][::-1]
    return made


def nd(x, found, common=0):
    if common:
        return np.stack([nd(a, b, common - 1) for a, b in zip(x, found, strict=True)])
    return x[tuple(np.moveaxis(found, -1, 0))]


def along(x, found, axis=0):
    grid = list(np.indices(found.shape))
    grid[axis] = found
    return x[tuple(grid)]


def scattered(reduction, axis=0):
    """Return ScatterElements, one element after the other."""

    def meaning(x, updates, found):
        made = x.copy()
        for place in np.ndindex(found.shape):
            goal = (*place[:axis], found[place], *place[axis + 1 :])
            made[goal] = REDUCED[reduction](made[goal], updates[place])
        return made

    return meaning


def scattered_nd(reduction):
    """Return ScatterND, one row after the other."""

    def meaning(x, updates, found):
        made = x.copy()
        for place in np.ndindex(found.shape[:-1]):
            goal = tuple(found[place])
            made[goal] = REDUCED[reduction](made[goal], updates[place])
        return made

    return meaning


REDUCED = {
    "none": lambda old, new: new, "add": np.add, "multiply": np.multiply, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def summed(x, found, extent=3):
    made = np.zeros((extent, *x.shape[1:]))
    for row, place in zip(x, found, strict=True):
        made[place] += row
    return made


CASES = [
    Places("gather", ((5,),), (), 5, np.take),
    Places("gather", ((5, 3),), (2,), 5, lambda x, found: np.take(x, found, 0)),
    Places("gather", ((2, 4, 3),), (3, 2), 4, lambda x, found: np.take(x, found, 1), {"axis": 1}),
    Places("gather", ((2, 4),), (3,), 4, lambda x, found: np.take(x, found, 1), {"axis": -1}),
    Places("take_along", ((4, 3),), (2, 3), 4, along),
    Places("take_along", ((3, 5),), (2, 7), 5, lambda x, found: along(x, found, 1), {"axis": -1}),
    Places("take_along", ((5,),), (2,), 5, along),
    Places("gather_nd", ((3, 4),), (2, 2), (3, 4), nd),
    Places("gather_nd", ((3, 4, 2),), (2, 1), 3, nd),
    Places("gather_nd", ((3, 4, 2),), (3, 2, 1), 4, lambda x, found: nd(x, found, 1), {"common": 1}),
    Places("one_hot", (), (2, 3), 4, lambda found: np.eye(4)[found], {"classes": 4}),
    Places("one_hot", (), (3,), 4, lambda found: np.eye(4)[found].T, {"classes": 4, "axis": 0}),
    *(
        Places("scatter", ((5, 3), (2, 3)), (2, 3), 5, scattered("none"), distinct=True),
        Places("scatter", ((2, 4), (2, 3)), (2, 3), 4, scattered("none", 1), {"axis": 1}, distinct=True),
    ),
    *(
        Places("scatter", ((4, 3), (5, 2)), (5, 2), 4, scattered(how), {"reduction": how})
        for how in ("add", "multiply", "max", "min")
    ),
    Places("scatter", ((4,), (6,)), (6,), 4, scattered("add"), {"reduction": "add", "axis": -1}),
    Places("scatter_nd", ((5, 2), (3, 2)), (3, 1), 5, scattered_nd("none"), distinct=True),
    *(
        Places("scatter_nd", ((3, 2, 2), (4, 2)), (4, 2), (3, 2), scattered_nd(how), {"reduction": how})
        for how in ("add", "multiply", "max", "min")
    ),
    Places("scatter_add", ((5, 2),), (5,), 3, summed, {"extent": 3}),
    Places("scatter_add", ((2, 4),), (4,), 3, lambda x, found: summed(x.T, found).T, {"extent": 3, "axis": -1}),
    Places(
        "scatter_add",
        ((2, 3, 2),),
        (2, 3),
        4,
        lambda x, found: summed(x.reshape(6, 2), found.ravel(), 4),
        {"extent": 4},
    ),
    Places("reverse_sequence", ((3, 2, 2),), (2,), 4, turned, signed=False),
    Places(
        "reverse_sequence",
        ((2, 4),),
        (2,),
        5,
        lambda x, found: turned(x.T, found).T,
        {"axis": 1, "sequences": 0},
        signed=False,
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def operands(case, fronts, dtype=np.float64):
    """Return the inputs with these leading extents, the indices last."""
    rng = np.random.default_rng(5)
    inputs = [
        rng.normal(size=(*front, *shape)).astype(dtype) for front, shape in zip(fronts, case.shapes, strict=False)
    ]
    return (*inputs, case.drawn(rng, fronts[-1]))


def derivatives(case, inputs, g):
    known = (np, case.call, {}, inputs)
    mu, saved = OPS[case.op].forward(*known)
    return mu, OPS[case.op].to_inputs(*known, np.broadcast_to(mu, g.shape), saved, g)


@every_case
@pytest.mark.parametrize("fronts", [(a, a, b) for a in LEADS for b in LEADS], ids=str)
def test_each_sample_is_what_numpy_says_and_derivatives_are_adjoint(case, fronts):
    inputs = operands(case, fronts[-1 - len(case.shapes) :])
    g = np.random.default_rng(8).normal(size=(STACK, BATCH, *case.call.shape))
    mu, back = derivatives(case, inputs, g)
    whole = [np.broadcast_to(x, (STACK, BATCH, *x.shape[2:])) for x in inputs]
    wanted = [[case.meaning(*(x[s, b] for x in whole)) for b in range(BATCH)] for s in range(STACK)]
    np.testing.assert_allclose(np.broadcast_to(mu, g.shape), wanted, rtol=1e-14)
    assert back[-1] is None
    for number, (x, to_x) in enumerate(zip(inputs[:-1], back, strict=False)):
        assert to_x.shape == x.shape
        way, step = np.random.default_rng(number).normal(size=x.shape), 1e-6
        ends = [
            OPS[case.op].forward(np, case.call, {}, (*inputs[:number], x + h * way, *inputs[number + 1 :]))[0]
            for h in (step, -step)
        ]
        np.testing.assert_allclose(
            np.sum(g * (ends[0] - ends[1])) / (2 * step), np.sum(to_x * way), rtol=1e-6, atol=1e-7
        )


@every_case
def test_indices_as_an_attribute_are_those_of_an_input(case):
    if not case.shapes:
        return
    inputs = operands(case, [(STACK, BATCH)] * len(case.shapes) + [(1, 1)])
    g = np.random.default_rng(8).normal(size=(STACK, BATCH, *case.call.shape))
    call = complete(OPS[case.op], case.shapes, {**case.attributes, "indices": inputs[-1][0, 0].tolist()})
    mu, back = derivatives(case, inputs, g)
    known = (np, call, {}, inputs[:-1])
    found, saved = OPS[case.op].forward(*known)
    np.testing.assert_array_equal(found, mu)
    for got, want in zip(OPS[case.op].to_inputs(*known, found, saved, g), back[:-1], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-15)
    assert hash(call) == hash(complete(OPS[case.op], case.shapes, dict(call.attributes)))
    assert not OPS[case.op].domain(np, call, inputs[:-1])[1].any()


@every_case
def test_float32_stays(case):
    inputs = operands(case, [(STACK, BATCH)] * (len(case.shapes) + 1), np.float32)
    g = np.ones((STACK, BATCH, *case.call.shape), np.float32)
    mu, back = derivatives(case, inputs, g)
    assert {array.dtype for array in (mu, *back) if array is not None} == {np.dtype(np.float32)}


@every_case
def test_indices_outside_are_found(case):
    inputs = operands(case, [(1, 2)] * (len(case.shapes) + 1))
    place, mask = OPS[case.op].domain(np, case.call, inputs)
    assert place == len(case.shapes)
    assert not mask.any()
    wrong = inputs[-1].copy()
    wrong.flat[0] = 99
    place, mask = OPS[case.op].domain(np, case.call, (*inputs[:-1], wrong))
    assert place == len(case.shapes)
    assert mask.ravel()[0]
    assert mask.shape == wrong.shape


@pytest.mark.parametrize(
    ("op", "shapes", "raw", "message"),
    [
        ("gather", ((3,),), {}, "expected 1 inputs and the attribute indices, or 2 inputs and no indices"),
        ("gather", ((3,), ()), {"indices": 0}, "expected 1 inputs and the attribute indices"),
        ("gather", ((3,),), {"indices": [0, 3]}, "index 3 is outside of 3 elements"),
        ("gather", ((3,),), {"indices": [0.5]}, "expected whole numbers"),
        ("gather", ((3,),), {"indices": [[0], [1, 2]]}, "expected lists of equal lengths"),
        ("gather", ((3,),), {"indices": 0, "axis": 1}, "axis 1: expected -1 to 0"),
        ("gather", ((),), {"indices": 0}, "expected an input with axes"),
        ("take_along", ((3, 2),), {"indices": [0]}, "indices have shape"),
        ("take_along", ((3, 2),), {"indices": [[0, 0, 0]]}, "but along axis 0"),
        ("gather_nd", ((3,),), {"indices": [[0, 0]]}, "tuples of at most 1"),
        ("gather_nd", ((3, 2),), {"indices": [[0], [0]], "common": 1}, "first 1 extents as the input's"),
        ("gather_nd", ((3, 2),), {"indices": [[0, 2]]}, "index 2 is outside"),
        ("scatter", ((3,), (2,)), {"indices": [0, 3]}, "index 3 is outside of 3 elements"),
        ("scatter", ((3,), (2,)), {"indices": [0, -3]}, "expected each place once, or a reduction"),
        ("scatter", ((3,), (2,)), {"indices": [0]}, r"the second input has shape \(2,\), expected \(1,\)"),
        ("scatter", ((3,), (2,)), {"indices": [0, 1], "reduction": "mean"}, "expected a reduction"),
        ("scatter_nd", ((3, 2), (2,)), {"indices": [[0], [1]]}, r"expected \(2, 2\) to go with the indices"),
        ("scatter_nd", ((3, 2), (1, 2)), {"indices": [[3]]}, "index 3 is outside of"),
        ("scatter_nd", ((3, 2), (2, 2)), {"indices": [[2], [2]]}, "each place once"),
        ("scatter_add", ((3,),), {"indices": [0, 1], "extent": 2}, "expected the extents of the input from axis 0 on"),
        ("scatter_add", ((3,),), {"indices": [0, 1, 2], "extent": 2}, "index 2 is outside of 2 elements"),
        ("reverse_sequence", ((3, 2),), {"indices": [1]}, r"have shape \(1,\), expected \(2,\)"),
        ("reverse_sequence", ((3, 2),), {"indices": [1, 4]}, "expected lengths of 0 to 3"),
        ("reverse_sequence", ((3, 2),), {"indices": [1, 1], "axis": 1}, "the axis of time and that of the sequences"),
        ("one_hot", ((3,),), {}, "needs the attribute 'classes'"),
        ("one_hot", ((3,),), {"classes": 2, "axis": 2}, "axis 2: expected -2 to 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(op, shapes, raw, message):
    with pytest.raises(InputError, match=message):
        complete(OPS[op], shapes, raw)


# -- graphs ---------------------------------------------------------------------------------------------


def chosen(op="gather", shape=(2,), indices=(1, -1), **attributes):
    """Return a graph in which whole numbers come from an input and from a constant."""
    return {
        "vertices": {
            "x": {"op": "input", "shape": [4, 3]},
            "i": {"op": "input", "shape": list(shape), "format": "whole"},
            "k": {"op": "constant", "value": list(indices), "format": "whole"},
            "h": {"op": "affine", "inputs": ["x"], "units": 3, "activation": "tanh"},
            "a": {"op": op, "inputs": ["h", "i"], **attributes},
            "b": {"op": op, "inputs": ["h", "k"], **attributes},
            "c": {"op": op, "inputs": ["h"], "indices": list(indices), **attributes},
            "o": {"op": "one_hot", "inputs": ["i"], "classes": 4},
            "w": {"op": "affine", "inputs": ["o"], "units": 3, "activation": "tanh"},
            "s": {"op": "sum", "inputs": ["w"], "axis": 0},
            "y": {"op": "add", "inputs": ["a", "b", "c", "s"]},
        }
    }


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ["zil", "bp"])
def test_updates_are_those_of_backprop(engine, row, dtype):
    task = make_task(chosen(), row, "delay", dtype, away=1.0)
    run = run_task(engine, task)
    assert max(differences(run.learnt, backprop(task).gradients)) <= {"float64": 1e-12, "float32": 5e-6}[dtype]
    assert {array.dtype for array in run.learnt.values()} == {np.dtype(dtype)}


def test_a_constant_of_whole_numbers_is_exact():
    graph = graph_from({"vertices": {
        "k": {"op": "constant", "value": [2**62 + 1, 0], "format": "whole"},
        "x": {"op": "input", "shape": [2]},
        "y": {"op": "gather", "inputs": ["x", "k"]},
    }})  # fmt: skip
    assert graph.vertices["k"].call["value"].array.tolist() == [2**62 + 1, 0]
    with pytest.raises(InputError, match=r"vertices.k: op 'constant': expected whole numbers \(format: whole\)"):
        graph_from({"vertices": {"k": {"op": "constant", "value": [0.5], "format": "whole"}}})


@pytest.mark.parametrize("size", [3, 2000])
def test_constants_of_files_are_sought_beside_the_document_and_travel_with_the_graph(tmp_path, size):
    """Paths are those of the folder of each document; a graph goes to networkx and to pickle and back, to the bit."""
    inner = tmp_path / "inner"
    inner.mkdir()
    rng = np.random.default_rng(0)
    np.savez(inner / "w.npz", a=rng.normal(size=size), i=rng.integers(0, size, 4))
    (inner / "part.yaml").write_text(
        f"vertices:\n  c: {{op: constant, value: {{file: w.npz, key: a}}}}\n"
        f"  x: {{op: input, shape: [{size}]}}\n  m: {{op: multiply, inputs: [x, c]}}\n"
        f"  k: {{op: constant, value: {{file: w.npz, key: i}}, format: whole}}\n  g: {{op: gather, inputs: [m, k]}}\n"
        "  h: {op: gather, inputs: [m], indices: {file: w.npz, key: i}}\n  y: {op: add, inputs: [g, h]}\n"
    )
    (tmp_path / "whole.yaml").write_text("vertices:\n  p: {use: inner/part.yaml}\n")
    graph = pcsim.load_graph(tmp_path / "whole.yaml")
    with np.load(inner / "w.npz") as arrays:
        np.testing.assert_array_equal(graph.vertices["p.c"].call["value"].array, arrays["a"])
        np.testing.assert_array_equal(graph.vertices["p.h"].call["indices"].array, arrays["i"])
    for again in (pickle.loads(pickle.dumps(graph)), pcsim.Graph.from_networkx(graph.to_networkx())):
        assert again == graph
        assert again.vertices["p.k"].call == graph.vertices["p.k"].call
        tasks = [make_task(each, "zil", "delay") for each in (graph, again)]
        assert backprop(tasks[0]).loss == backprop(tasks[1]).loss > 0
    given = {"rule": "zil", "batch": 2, "inputs": {"p.x": 1.0}, "targets": {"p.y": 0.5}}
    assert pcsim.simulate({**given, "graph": {"file": str(tmp_path / "whole.yaml")}}).summary["ticks"] > 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"file": "none.npz"}, r"vertices.c.value.*none.npz"),
        ({"file": "w.npz", "key": "b"}, r"vertices.c.value.key: .*w.npz has no array 'b'"),
        ({"files": "w.npz"}, r"vertices.c.value: got .*expected numbers, or {file: w.npz, key: name}"),
    ],
)
def test_files_of_constants_that_do_not_fit_are_named(tmp_path, value, message):
    np.savez(tmp_path / "w.npz", a=np.zeros(2))
    document = {"vertices": {"c": {"op": "constant", "value": value}, "y": {"op": "tanh", "inputs": ["c"]}}}
    with pytest.raises(InputError, match=message):
        graph_from(document, tmp_path)
