"""Ops that couple samples, draw at random or take whole numbers: alone, against PyTorch, and in random graphs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from strategies import BATCH_OPS, SEPARATE, VALUE_RULES, Features, make_task, random_document, run_task
from test_backprop import TOLERANCE, differences, distance, late_vertices, punctual
from test_engines import tame
from test_ops import BATCH, STACK, Case, layouts
from test_rows import assert_agree

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.analysis.measures import predicted_ticks
from pcsim.engines.ensembles import together
from pcsim.engines.operands import draws_of
from pcsim.errors import DomainError, InputError
from pcsim.graph import graph_from, level
from pcsim.ops import OPS, complete, parse_attributes
from pcsim.rules import rule

NORMS = [
    Case("batch_norm", (shape,), None, {"axis": axis, "statistics": statistics, "affine": affine, "epsilon": 0.1})
    for (shape, axis), statistics, affine in product(
        [((3,), 0), ((2, 3), -1), ((2, 3, 2), 1)], ["batch", "frozen"], [True, False]
    )
    if affine or shape == (2, 3)
]
CASES = [
    *NORMS,
    Case("dropout", ((3,),), None, {"rate": 0.4}),
    Case("dropout", ((),), None, {"rate": 0.25}),
    Case("dropout", ((2, 3),), None, {"rate": 0.0}),
    Case("dropout", ((2, 3),), None, {"rate": 0.4, "active": False}),
    Case("embedding", ((),), None, {"entries": 5, "units": 3}),
    Case("embedding", ((2, 2),), None, {"entries": 4, "units": 2}),
]
SITUATIONS = [pytest.param(case, layout, id=f"{case}-{i}") for case in CASES for i, layout in enumerate(layouts(case))]
every_situation = pytest.mark.parametrize(("case", "layout"), SITUATIONS)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def operands(case, layout, dtype=np.float64):
    """Return parameters, buffers and draws together, and the inputs, with these leading extents."""
    op, call, rng = OPS[case.op], case.call, np.random.default_rng(7)
    specs = op.params(call)
    params = {name: rng.uniform(-1, 1, (n, *specs[name].shape)) for name, n in layout[0].items()}
    params |= {name: rng.uniform(0.5, 2, (STACK, *spec.shape)) for name, spec in op.buffers(call).items()}
    ((front, shape),) = zip(layout[1], case.shapes, strict=True)
    if op.inputs[0].format == "whole":
        inputs = rng.integers(0, call["entries"], (*front, *shape))
    else:
        inputs = rng.uniform(-2, 2, (*front, *shape)).astype(dtype)
        drawn = [op.draws(call, BATCH, np.random.default_rng(row)) for row in range(STACK)]
        params |= {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
    return {name: value.astype(dtype) for name, value in params.items()}, (inputs,)


def cotangent(case, dtype=np.float64):
    return np.random.default_rng(8).normal(size=(STACK, BATCH, *case.call.shape)).astype(dtype)


def derivatives(case, params, inputs, g):
    known = (np, case.call, params, inputs)
    mu, saved = OPS[case.op].forward(*known)
    known = (*known, np.broadcast_to(mu, g.shape) if mu.shape[0] == 1 else mu, saved, g)
    return mu, OPS[case.op].to_inputs(*known), OPS[case.op].to_params(*known)


# -- one op ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("case", "layout"), [each for each in SITUATIONS if each.values[0].op == "batch_norm"])
def test_compiled_functions_of_an_op_do_what_its_own_do(case, layout, dtype):
    pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    from pcsim.engines.jit.compiled_ops import COMPILED

    own, compiled, call = OPS[case.op], COMPILED[case.op], case.call
    params, inputs = operands(case, layout, dtype)
    found = []
    for op in (own, compiled):
        mu, saved = op.forward(np, call, params, inputs)
        g = np.random.default_rng(3).normal(size=mu.shape).astype(dtype)
        back = op.to_inputs(np, call, params, inputs, mu, saved, g)
        learnt = op.to_params(np, call, params, inputs, mu, saved, g)
        found.append({"mu": mu, "message": back[0], **learnt, **op.to_buffers(np, call, params, inputs)})
    bound = 1e-13 if dtype == np.float64 else 1e-5
    assert found[0].keys() == found[1].keys()
    for name, wanted in found[0].items():
        assert (found[1][name].shape, found[1][name].dtype) == (wanted.shape, wanted.dtype), name
        np.testing.assert_allclose(found[1][name], wanted, rtol=bound, atol=bound, err_msg=name)


@every_situation
def test_adjoint(case, layout):
    """<w, J v> = <J^T w, v>, with J v by central differences; buffers and draws stay."""
    params, inputs = operands(case, layout)
    rng, step, w = np.random.default_rng(9), 1e-6, cotangent(case)
    whole = OPS[case.op].inputs[0].format == "whole"
    ways = {name: rng.normal(size=params[name].shape) for name in layout[0]}
    way = None if whole else rng.normal(size=inputs[0].shape)

    def along(h):
        moved = params | {name: params[name] + h * v for name, v in ways.items()}
        return OPS[case.op].forward(np, case.call, moved, inputs if whole else (inputs[0] + h * way,))[0]

    _, to_inputs, to_params = derivatives(case, params, inputs, w)
    left = np.sum(w * (along(step) - along(-step))) / (2 * step)
    right = sum(np.sum(to_params[name] * v) for name, v in ways.items())
    right += 0 if whole else np.sum(to_inputs[0] * way)
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)
    assert to_params.keys() == layout[0].keys()
    assert all(to_params[name].shape == params[name].shape for name in to_params)
    assert to_inputs == (None,) if whole else to_inputs[0].shape == inputs[0].shape


@every_situation
def test_agrees_with_pytorch(case, layout):
    """Value and derivatives row by row of the stack, with the same mask and the same statistics."""
    tg = pytest.importorskip("torch_graph", reason="PyTorch is not installed")
    params, inputs = operands(case, layout)
    g = cotangent(case)
    mu, to_inputs, to_params = derivatives(case, params, inputs, g)
    leaves = {name: tg.tensor(params[name]).requires_grad_() for name in layout[0]}
    x = tg.tensor(inputs[0])
    x = x if x.dtype == tg.torch.int64 else x.requires_grad_()
    rows = []
    for row in range(STACK):
        mine = {name: (leaves[name] if name in leaves else tg.tensor(value))[row if len(value) > 1 else 0]
                for name, value in params.items()}  # fmt: skip
        here = x[row if len(x) > 1 else 0].expand(BATCH, *case.shapes[0])
        if case.op == "batch_norm":
            rows.append(tg.batch_norm(case.call, mine, here, (mine["running_mean"], mine["running_variance"])))
        else:
            rows.append(tg.WHOLE[case.op](case.call, mine, here))
    wanted = tg.torch.stack(rows)
    np.testing.assert_allclose(np.broadcast_to(mu, g.shape), wanted.detach().numpy(), rtol=1e-12, atol=1e-13)
    named = dict(leaves) if x.dtype == tg.torch.int64 else {**leaves, "x": x}
    if named:
        found = tg.torch.autograd.grad((wanted * tg.tensor(g)).sum(), list(named.values()))
        for (name, _), gradient in zip(named.items(), found, strict=True):
            got = to_inputs[0] if name == "x" else to_params[name]
            np.testing.assert_allclose(got, gradient.numpy(), rtol=1e-11, atol=1e-12)


@every_case
def test_float32_stays(case):
    params, inputs = operands(case, layouts(case)[0], np.float32)
    mu, to_inputs, to_params = derivatives(case, params, inputs, cotangent(case, np.float32))
    saved = OPS[case.op].forward(np, case.call, params, inputs)[1]
    moved = OPS[case.op].to_buffers(np, case.call, params, inputs)
    made = [mu, *saved, *to_params.values(), *moved.values(), *(back for back in to_inputs if back is not None)]
    assert {array.dtype for array in made} == {np.dtype(np.float32)}
    assert mu.shape == (STACK, BATCH, *case.call.shape)


@every_case
def test_rows_say_what_they_are(case):
    op, call = OPS[case.op], case.call
    assert len({call, case.call}) == 1
    assert op.couples(call) == (case.op == "batch_norm" and call["statistics"] == "batch")
    assert set(op.buffers(call)) == ({"running_mean", "running_variance"} if case.op == "batch_norm" else set())
    assert op.slot(5) is op.inputs[0]
    assert op.cost(call).multiply_adds >= 0
    assert op.cost(call).weights == (0 if case.op != "embedding" else np.prod(call.shape))


@pytest.mark.parametrize(
    ("op", "raw", "message"),
    [
        ("batch_norm", {"axis": 1.5}, "got 1.5, expected a whole number"),
        ("batch_norm", {"statistics": "frozn"}, "did you mean 'frozen'"),
        ("batch_norm", {"affine": 1}, "got 1, expected true or false"),
        ("batch_norm", {"epsilon": -1e-5}, "got -1e-05, expected a number of at least 0"),
        ("batch_norm", {"momentum": 1.5}, "got 1.5, expected a number from 0"),
        ("dropout", {"rate": 1}, "got 1, expected a number from 0 up to, but not including, 1"),
        ("dropout", {"rate": -0.1}, "expected a number from 0"),
        ("dropout", {"rat": 0.1}, "did you mean 'rate'"),
        ("dropout", {"active": "no"}, "expected true or false"),
        ("embedding", {"units": 3}, "needs the attribute 'entries'"),
        ("embedding", {"entries": 0, "units": 3}, "got 0, expected a positive whole number"),
    ],
)
def test_bad_attributes(op, raw, message):
    with pytest.raises(InputError, match=message):
        parse_attributes(OPS[op], raw)


@pytest.mark.parametrize(
    ("op", "shapes", "raw", "message"),
    [
        ("batch_norm", ((),), {}, "expected an input with axes"),
        ("batch_norm", ((3,),), {"axis": 1}, "axis 1"),
        ("batch_norm", ((3,), (3,)), {}, "got 2 inputs, expected 1"),
        ("dropout", (), {}, "got 0 inputs, expected 1"),
        ("embedding", ((2,),), {"entries": 10**9, "units": 10}, "too large"),
    ],
)
def test_bad_inputs(op, shapes, raw, message):
    with pytest.raises(InputError, match=message):
        complete(OPS[op], shapes, raw)


def test_a_mask_keeps_what_it_expects():
    call = complete(OPS["dropout"], ((1000,),), {"rate": 0.3})
    mask = OPS["dropout"].draws(call, 50, np.random.default_rng(0))["mask"]
    assert mask.shape == (50, 1000)
    assert set(np.unique(mask)) == {0.0, 1 / 0.7}
    assert (mask == 0).mean() == pytest.approx(0.3, abs=0.01)
    for raw in ({"rate": 0}, {"active": False}):
        assert OPS["dropout"].draws(complete(OPS["dropout"], ((3,),), raw), 5, None) == {}


# -- buffers --------------------------------------------------------------------------------------------


def normed(statistics="batch", shape=(3,), axis=0, **attributes):
    return {
        "vertices": {
            "x": {"op": "input", "shape": list(shape)},
            "h": {"op": "tanh", "inputs": ["x"]},
            "n": {"op": "batch_norm", "inputs": ["h"], "axis": axis, "statistics": statistics, **attributes},
            "y": {"op": "sum", "inputs": ["n"]},
        }
    }


@pytest.mark.parametrize(("shape", "axis"), [((3,), 0), ((2, 3), 1), ((2, 3), 0)])
def test_running_statistics_are_those_of_pytorch(engine, shape, axis):
    """After one batch, and after another that begins with what the first left."""
    tg = pytest.importorskip("torch_graph", reason="PyTorch is not installed")
    task = make_task(normed(shape=shape, axis=axis, momentum=0.3), "il", batch=5, ticks=3)
    session = engine(task)
    assert session.buffers().keys() == {"n.running_mean", "n.running_variance"}
    extent = shape[axis]
    kept = [tg.torch.zeros(extent, dtype=tg.torch.float64), tg.torch.ones(extent, dtype=tg.torch.float64)]
    for batch in range(2):
        inputs = {"x": np.random.default_rng(batch).normal(size=(5, *shape))}
        before = session.buffers() if batch else {}
        session.restart(inputs=inputs, batch_number=batch, buffers=before or None)
        session.advance(0, 3, last=True)
        call = task.graph.vertices["n"].call
        tg.batch_norm(call, {}, tg.tensor(np.tanh(inputs["x"])), kept)
        found = session.buffers()
        np.testing.assert_allclose(found["n.running_mean"], kept[0].numpy(), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(found["n.running_variance"], kept[1].numpy(), rtol=1e-13)


def test_frozen_statistics_are_used_and_stay(engine):
    task = make_task(normed("frozen", affine=False, epsilon=0.0), "fpa", batch=4, ticks=2)
    given = {"n.running_mean": np.array([0.1, 0.2, -0.3]), "n.running_variance": np.array([4.0, 1.0, 0.25])}
    task = replace(task, buffers=given)
    run = run_task(engine, task)
    wanted = (np.tanh(task.inputs["x"]) - given["n.running_mean"]) / np.sqrt(given["n.running_variance"])
    np.testing.assert_allclose(run.seen["prediction"]["n"][0], wanted, rtol=1e-14)
    assert all(np.array_equal(run.session.buffers()[name], array) for name, array in given.items())


def test_buffers_that_do_not_fit_are_refused(engine):
    session = engine(make_task(normed(), "fpa", batch=4, ticks=2))
    with pytest.raises(InputError, match=r"n.running_mea: is not part of the task; did you mean 'n.running_mean'"):
        session.restart(buffers={"n.running_mea": np.zeros(3)})
    with pytest.raises(InputError, match=r"n.running_mean: has shape \[2\], expected \[3\]"):
        session.restart(buffers={"n.running_mean": np.zeros(2)})


@pytest.mark.parametrize("users", [3, 10])
@pytest.mark.parametrize("statistics", ["batch", "frozen"])
def test_what_vertices_share_takes_what_all_of_them_contribute(engine, users, statistics):
    """One weight for all, a bias for each, of a parameter that all normalise; few users and many."""
    vertices = {"w": {"op": "parameter", "shape": [2, 3]}, "x": {"op": "input", "shape": [2, 3]}}
    norm = {"op": "batch_norm", "statistics": statistics, "params": {"weight": "g"}}
    for number in range(users):
        vertices[f"n{number}"] = {**norm, "inputs": ["w"]}
        vertices[f"m{number}"] = {"op": "multiply", "inputs": [f"n{number}", "x"]}
        vertices[f"k{number}"] = {**norm, "inputs": [f"m{number}"]}
    vertices["y"] = {"op": "add", "inputs": [f"k{number}" for number in range(users)]}
    for row in ("zil", "bp"):
        task = make_task({"vertices": vertices, "parameters": {"g": {"shape": [2]}}}, row, "delay", away=1.0)
        given = {f"n{number}.running_variance": np.full(2, 1.0 + number) for number in range(users)}
        task = replace(task, buffers=given)
        assert max(differences(run_task(engine, task).learnt, backprop(task).gradients)) <= 1e-12


def test_running_statistics_are_of_the_sweep_whatever_is_learnt_after(engine):
    """A parameter that learns within the run is normalised: its statistics are those with which the batch began."""
    vertices = {
        "x": {"op": "input", "shape": [2, 3]},
        "w": {"op": "parameter", "shape": [2, 3]},
        "n": {"op": "batch_norm", "inputs": ["w"]},
        "y": {"op": "add", "inputs": ["n", "x"]},
    }
    task = make_task({"vertices": vertices}, rule("incremental", learning_rate=0.5), ticks=5, away=2.0)
    session = engine(task)
    before = session.buffers()
    session.advance(0, 5, last=True)
    assert np.abs(session.parameters()["w"] - task.parameters["w"]).max() > 1e-3
    assert {name: array.tolist() for name, array in session.buffers().items()} == {
        name: array.tolist() for name, array in before.items()
    }
    np.testing.assert_allclose(before["n.running_mean"], 0.1 * task.parameters["w"].mean(axis=1), rtol=1e-14)


# -- whole numbers --------------------------------------------------------------------------------------


def looked_up(entries=4, **more):
    vertices = {
        "i": {"op": "input", "shape": [2], "format": "whole"},
        "e": {"op": "embedding", "inputs": ["i"], "entries": entries, "units": 3},
        "h": {"op": "tanh", "inputs": ["e"]},
        "y": {"op": "add", "inputs": ["h", "e"]},
    }
    return {"vertices": {**vertices, **more}, "outputs": ["y"]}


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_an_index_outside_the_table_is_refused_by_name_before_the_run(engine, bad):
    task = make_task(looked_up(), "il", ticks=3)
    inputs = {"i": np.array([[0, 1], [2, 3], [0, 0]])}
    session = engine(replace(task, inputs=inputs))
    wrong = {"i": np.array([[0, 1], [2, bad], [0, 0]])}
    message = rf"inputs.*i.*: index outside the table of vertex 'e': {bad}"
    with pytest.raises(InputError, match=message):
        session.restart(inputs=wrong)
    scenario = {"pcsim": "scenario/1", "graph": looked_up(), "rule": "il", "batch": 3, "targets": {"y": 0.0}}
    assert pcsim.simulate({**scenario, "inputs": {"i": inputs["i"].tolist()}}).summary["ticks"]
    with pytest.raises(InputError, match=message):
        pcsim.simulate({**scenario, "inputs": {"i": wrong["i"].tolist()}})
    with pytest.raises(InputError, match=r"inputs.i: expected whole numbers"):
        session.restart(inputs={"i": np.array([[0, 1], [2, 0.5], [0, 0]])})


@pytest.mark.parametrize("pre", ["h", "w", "z"])
def test_what_moves_and_what_holds_other_numbers_is_refused_by_name(pre):
    """A free vertex, a parameter, and an input of floating-point numbers, with the place in the document."""
    more = {
        "z": {"op": "input", "shape": [2]},
        "w": {"op": "parameter", "shape": [2]},
        "f": {"op": "embedding", "inputs": [pre], "entries": 4, "units": 3},
    }
    said = {
        "h": "no error returns over 'indices' of op 'embedding': it takes an input, and 'h' moves",
        "w": "no error returns over 'indices' of op 'embedding': it takes an input, and 'w' moves",
        "z": "op 'embedding' takes whole numbers .* and 'z' holds floating-point numbers",
    }
    with pytest.raises(InputError, match=rf"vertices\.f\.inputs\[?\.?0\]?: {said[pre]}"):
        graph_from(looked_up(**more))


def test_whole_numbers_into_an_op_of_floats_are_refused_by_name():
    with pytest.raises(InputError, match=r"op 'tanh' takes floating-point numbers, and 'i' holds whole numbers"):
        graph_from(looked_up(t={"op": "tanh", "inputs": ["i"]}))


def test_large_indices_are_not_rounded(engine):
    """2^24 + 1 has no float32 of its own."""
    entries = 2**24 + 3
    document = looked_up(entries)
    document["vertices"]["e"] |= {"units": 1, "params": {"weight": "table"}}
    document["parameters"] = {"table": {"shape": [entries, 1], "init": {"constant": 0.0}}}
    task = make_task(document, "il", dtype="float32", batch=1, ticks=2)
    task.targets["y"][...] = 3.0
    table = np.zeros((entries, 1), np.float32)
    table[2**24 :, 0] = [0.25, 0.5, 0.75]
    task = replace(task, parameters={"table": table})
    task.inputs["i"][...] = [[2**24 + 1, 2**24 + 2]]
    session = engine(task)
    session.advance(0, 2, last=True)
    np.testing.assert_array_equal(session.reader("prediction", ["e"])()[0, 0, :, 0], np.float32([0.5, 0.75]))
    assert np.flatnonzero(session.updates()["table"]).tolist() == [2**24 + 1, 2**24 + 2]


@pytest.mark.parametrize("form", ["delay", "identity"])
def test_levelling_leaves_edges_of_whole_numbers_alone(form):
    """Two users at different levels: the edges from the indices are as they were, those of numbers are levelled."""
    document = looked_up(f={"op": "embedding", "inputs": ["i"], "entries": 4, "units": 3})
    document["vertices"]["y"]["inputs"] = ["h", "f", "e"]
    graph = graph_from(document)
    levelled = level(graph, form)
    assert {edge.name: edge for edge in levelled.edges if edge.pre == "i"} == {
        edge.name: edge for edge in graph.edges if edge.pre == "i"
    }
    assert len(levelled.edges) > len(graph.edges) or levelled.edges != graph.edges


def test_edges_of_whole_numbers_may_delay(engine):
    """A source stands still: what travels over such an edge is what is there already."""
    document = looked_up()
    plain = make_task(document, rule("il", step_size=0.3), ticks=6, away=1.0)
    document["vertices"]["e"]["inputs"] = [{"from": "i", "delay": {"value": 3, "error": 2}}]
    late = make_task(document, rule("il", step_size=0.3), ticks=6, away=1.0)
    runs = [run_task(engine, task) for task in (plain, late)]
    assert all(np.array_equal(runs[0].errors[name], error) for name, error in runs[1].errors.items())


# -- draws ----------------------------------------------------------------------------------------------


def dropped(*names):
    """Return a graph with a dropout of each of these names, and something else beside."""
    vertices = {"x": {"op": "input", "shape": [20]}}
    vertices |= {name: {"op": "dropout", "inputs": ["x"], "rate": 0.5} for name in names}
    return {"vertices": vertices | {"y": {"op": "concat", "inputs": list(names)}}}


def test_draws_depend_on_seed_vertex_and_batch_number_alone():
    task = make_task(dropped("a", "b"), "fpa", seed=3, batch=4)
    drawn = draws_of(task)
    other = make_task(dropped("c", "b", "a"), "il", dtype="float32", seed=3, batch=4)
    for name in ("a", "b"):
        assert np.array_equal(drawn[name]["mask"], draws_of(task)[name]["mask"])
        assert np.array_equal(drawn[name]["mask"], draws_of(other)[name]["mask"])
    assert not np.array_equal(drawn["a"]["mask"], drawn["b"]["mask"])
    for changed in (replace(task, seed=4), replace(task, batch_number=1)):
        assert not np.array_equal(drawn["a"]["mask"], draws_of(changed)["a"]["mask"])


def masks(session, names=("a", "b")):
    """Return which of the inputs came through."""
    return np.stack([session.reader("prediction", [name])()[0] != 0 for name in names])


def test_a_batch_number_draws_anew(engine):
    task = make_task(dropped("a", "b"), "il", batch=4, ticks=2)
    session, seen = engine(task), []
    for given in ({}, {"batch_number": 7}, {"inputs": {"x": 1 + task.inputs["x"]}}, {"batch_number": 0}):
        session.restart(**given)
        session.advance(0, 2, last=True)
        seen.append(masks(session))
    assert np.array_equal(seen[0], seen[3])
    assert np.array_equal(seen[1], seen[2])
    assert not np.array_equal(seen[0], seen[1])
    fresh = engine(replace(task, batch_number=7))
    fresh.advance(0, 2, last=True)
    assert np.array_equal(masks(fresh), seen[1])


def test_runs_side_by_side_draw_each_its_own(engine):
    """Of other seeds and other numbers of batch: each as alone; also begun again, and with buffers of their own."""
    vertices = normed()["vertices"] | {"d": {"op": "dropout", "inputs": ["n"]}}
    vertices["y"]["inputs"] = ["d"]
    tasks = [make_task({"vertices": vertices}, rule("il", step_size=0.2), batch=4, ticks=4, seed=s) for s in (0, 1)]
    tasks.append(replace(tasks[0], batch_number=5, buffers={"n.running_mean": np.ones(3)}))
    ensemble = together(tasks, engine)
    for number in (None, 9):
        if number is not None:
            ensemble.members[1].restart(batch_number=number)
            tasks[1] = replace(tasks[1], batch_number=number)
        ensemble.members[0].advance(0, 4, last=True)
        for member, task in zip(ensemble.members, tasks, strict=True):
            alone = engine(task)
            alone.advance(0, 4, last=True)
            for name in alone.updates():
                np.testing.assert_allclose(member.updates()[name], alone.updates()[name], rtol=1e-12, atol=1e-14)
            assert member.buffers().keys() == alone.buffers().keys()
            for name, array in alone.buffers().items():
                np.testing.assert_allclose(member.buffers()[name], array, rtol=1e-13)
            for quantity in ("error", "value"):
                got, wanted = (each.reader(quantity, ["d"])() for each in (member, alone))
                np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


# -- random graphs --------------------------------------------------------------------------------------

OFTEN = (*SEPARATE, *BATCH_OPS * 8)


def random_tasks(row, form, dtype, seeds):
    for seed in seeds:
        document = random_document(seed, Features(size=9, ops=OFTEN, dead_ends=seed % 2 == 0))
        if {entry["op"] for entry in document["vertices"].values()} & set(BATCH_OPS):
            away = distance(seed, dtype)
            yield make_task(document, row, form, dtype, seed, 3 + seed % 6, away=away, losses="mixed")


def test_backprop_equals_pytorch_on_random_graphs():
    """The reference against torch.autograd over an interpreter that shares no op with pcsim."""
    tg = pytest.importorskip("torch_graph", reason="PyTorch is not installed")
    counted = 0
    for dtype in ("float64", "float32"):
        for task in random_tasks("zil", "none", dtype, range(100)):
            wanted, loss = tg.gradients(task)
            found = backprop(task)
            assert found.loss == pytest.approx(loss, rel=1e-12 if dtype == "float64" else 1e-5)
            assert differences(found.gradients, wanted)[0] <= TOLERANCE[dtype]
            counted += 1
    assert counted > 150


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", ["delay", "identity"])
@pytest.mark.parametrize("row", ["zil", "fa-zil", "bp"])
def test_updates_equal_backprop(engine, row, form, dtype):
    """[S] theorem, with samples that are coupled, masked or looked up; late vertices of fa-zil are exempt."""
    for task in random_tasks(row, form, dtype, range(8)):
        run, wanted = run_task(engine, task, ("error",)), backprop(task).gradients
        names = punctual(task, late_vertices(task, run)) if row == "fa-zil" else None
        whole, single = differences(run.learnt, wanted, names)
        # what a bias before batch statistics takes is zero: terms that cancel, and rounding is all there is of it
        assert whole <= TOLERANCE[dtype]
        assert single <= TOLERANCE[dtype] * (1 if dtype == "float64" else 10)


@pytest.mark.parametrize("row", list(VALUE_RULES))
def test_engines_agree_tick_by_tick(engine, row):
    """Everything that can be read, without levelling too; batch statistics and looked-up rows among the rest."""
    for seed, task in enumerate(random_tasks(row, "none", "float64", range(7))):
        task = replace(task, rule=tame(row), ticks=6)
        form = ("none", "delay", "identity")[seed % 3]
        assert_agree(engine, replace(task, graph=level(task.graph, form)))


def test_what_ends_beside_whole_numbers_is_named(engine):
    """A report looks at every vertex, also where nothing has reached it yet: whole numbers are whole there too."""
    document = looked_up(z={"op": "input", "shape": [2, 3]})
    document["vertices"] |= {
        "t": {"op": "softplus", "inputs": ["z"]},
        "r": {"op": "sqrt", "inputs": ["t"]},
        "q": {"op": "identity", "inputs": ["r"]},
    }
    document["outputs"] = ["y", "q"]
    document["vertices"]["y"] = {"op": "tanh", "inputs": ["h"]}
    task = make_task(document, rule("il", step_size=1.0), ticks=20, batch=2)
    task.inputs["z"][...], task.targets["q"][...] = -4.0, -3.0
    with pytest.raises(DomainError, match=r"vertex 'r' at tick \d+: square root of a negative number"):
        run_task(engine, task)


# -- predictions ----------------------------------------------------------------------------------------


def linear(seed, statistics="frozen", samples=1):
    """Return a scenario on a random linear graph: looked up, normalised by frozen statistics, masked, mixed."""
    rng = np.random.default_rng(seed)
    vertices = {
        "i": {"op": "input", "shape": [], "format": "whole"},
        "x": {"op": "input", "shape": [3]},
        "e": {"op": "embedding", "inputs": ["i"], "entries": 4, "units": 3},
        "a": {"op": "add", "inputs": ["e", "x"]},
    }
    names, drop = ["e", "a"], {"op": "dropout", "rate": 0.3, "active": samples == 1}
    kinds = [
        {"op": "affine", "units": 3}, {"op": "batch_norm", "statistics": statistics}, drop, {"op": "add"},
        {"op": "identity"}, {"op": "batch_norm", "statistics": statistics, "affine": False},
    ]  # fmt: skip
    for number in range(int(rng.integers(3, 7))):
        kind = kinds[number] if number < 3 else kinds[int(rng.integers(len(kinds)))]
        pres = [names[-1], names[int(rng.integers(len(names)))]] if kind["op"] == "add" else [names[-1]]
        names.append(f"h{number}")
        vertices[names[-1]] = {**kind, "inputs": pres}
    vertices["y"] = {"op": "affine", "units": 2, "inputs": [names[-1]]}
    return {
        "graph": {"vertices": vertices, "outputs": ["y"]},
        "inputs": {"x": {"normal": [0, 1]}, "i": rng.integers(0, 4, samples).tolist()},
        "targets": {"y": {"normal": [0, 1]}},
        "batch": samples, "seed": seed, "record": [], "tolerance": 1e-3, "measure": ["ticks_to_convergence"],
        "rule": {"name": "il", "step_size": 0.4, "ticks": 400},
    }  # fmt: skip


@pytest.mark.parametrize("criterion", ["update", "settled"])
@pytest.mark.parametrize("samples", [1, 3])
def test_standard_inference_on_linear_graphs_takes_the_ticks_foretold(criterion, samples):
    """Right to the tick; a mask is linear too, and another for each sample, so of one sample it is foretold."""
    measured = 0
    for seed in range(8):
        summary = pcsim.simulate(linear(seed, samples=samples) | {"converged": criterion}).summary
        found = summary["ticks_to_convergence"]
        assert found["ticks"] == found["predicted"]
        measured += found["ticks"] is not None
    assert measured >= 4


def test_nothing_is_foretold_where_samples_are_coupled():
    for criterion in ("update", "settled"):
        document = linear(0, "batch", 3)
        scenario = pcsim.load(document | {"converged": criterion})
        assert predicted_ticks(scenario.task(), criterion, 1e-3) is None
    assert pcsim.simulate(linear(0, "batch", 3)).summary["ticks_to_convergence"]["predicted"] is None


def test_fixed_predictions_take_the_ticks_foretold_also_where_samples_are_coupled():
    """Fixed predictions are linear in the errors, whatever the Jacobians; so is the closed form."""
    for seed in range(6):
        document = linear(seed, "batch", 4) | {"rule": {"name": "fpa", "step_size": 0.4, "ticks": 120}}
        run, closed = pcsim.simulate(document), pcsim.simulate(document | {"solve": "closed_form"})
        found = run.summary["ticks_to_convergence"]
        assert found["ticks"] == found["predicted"] is not None
        assert closed.summary["ticks_to_convergence"] == found
        for name, update in run.updates.items():
            np.testing.assert_allclose(closed.updates[name], update, rtol=1e-11, atol=1e-13)
