"""Cyclic graphs: standard inference runs them on every engine, and comes to rest where algebra says."""

from __future__ import annotations

import numpy as np
import pytest

import pcsim
from pcsim.engines import ENGINES, fastest, open_engine
from pcsim.errors import InputError
from pcsim.graph.levels import vertex_levels
from pcsim.rules import RULES

RULE = {"name": "il", "step_size": 0.3, "ticks": 3000}


def affine(units, *inputs, **more):
    """Return an affine vertex of one input, or one for each of several inputs that is added up."""
    return {"op": "affine", "units": units, "inputs": list(inputs), "init": {"weight": {"normal": [0, 0.25]}}, **more}


def ring(length, *, delay=0, activation="identity", units=3):
    """Return a graph whose cycle has so many vertices: x drives r1, the last one feeds r1, and an output reads it."""
    vertices = {"x": {"op": "input", "shape": [units]}, "drive": affine(units, "x", activation=activation)}
    last = f"r{length}"
    if length == 1:
        vertices["back"] = affine(units, {"from": last, "delay": delay})
    vertices["r1"] = {"op": "add", "inputs": ["drive", {"from": last if length > 1 else "back", "delay": delay}]}
    for place in range(2, length + 1):
        vertices[f"r{place}"] = affine(units, f"r{place - 1}", activation=activation)
    return {"vertices": {**vertices, "y": affine(2, last)}}


def scenario(graph, **more):
    """Return a scenario of a graph with sources ``x`` and an output ``y``."""
    return {"graph": graph, "inputs": {"x": {"normal": [0, 1]}}, "targets": {"y": {"normal": [0, 1]}}, "batch": 2,
            "rule": RULE, "initial": "zeros", "record": [], "measure": [], **more}  # fmt: skip


def random_linear(seed):
    """Return a random linear graph of 4 vertices, each of several affine lines that are added up, with cycles."""
    rng = np.random.default_rng(seed)
    names = [f"v{place}" for place in range(4)]
    vertices = {"x": {"op": "input", "shape": [3]}}
    for place, name in enumerate(names):
        pres = ["x", *rng.choice(names, 2, replace=False).tolist()] if place else ["x", names[-1]]
        lines = {f"{name}.{number}": affine(3, pre) for number, pre in enumerate(pres)}
        vertices |= {**lines, name: {"op": "add", "inputs": list(lines)}}
    return {"vertices": {**vertices, "y": affine(2, names[-1])}, "outputs": ["y"]}


def at_rest(source):
    """Return {free vertex: value} at the minimum of F, solved for: eps = A x + b, and the slope A^T eps is zero."""
    read = pcsim.load(source, {"rule.ticks": 1, "rule.step_size": 1.0, "batch": 1})
    free = [name for name in read.graph.active if read.graph.role(name) == "free"]
    sizes = [int(np.prod(read.graph.vertices[name].shape)) for name in free]
    ends = np.cumsum(sizes)

    def errors(flat):
        given = {name: part[None] for name, part in zip(free, np.split(flat, ends[:-1]), strict=True)}
        session = open_engine("actors")(read.task(initial=given))
        session.predict(0)
        return np.concatenate([session.reader("error", [name])().ravel() for name in read.graph.active])

    zero = errors(np.zeros(ends[-1]))
    matrix = np.stack([errors(row) - zero for row in np.eye(ends[-1])], axis=1)
    found = np.linalg.lstsq(matrix, -zero, rcond=None)[0]
    return dict(zip(free, np.split(found, ends[:-1]), strict=True))


@pytest.mark.parametrize(
    "make",
    [(ring, 1), (ring, 2), (ring, 4), (random_linear, 4), (random_linear, 5)],
    ids=lambda make: f"{make[0].__name__}-{make[1]}",
)
def test_a_linear_cyclic_graph_rests_where_a_dense_solve_says(make):
    source = scenario(make[0](make[1]), batch=1, rule={**RULE, "step_size": 0.3, "ticks": 6000})
    wanted = at_rest(source)
    run = pcsim.simulate(source, engine=fastest())
    for name, values in wanted.items():
        np.testing.assert_allclose(run.state[name].ravel(), values, rtol=0, atol=1e-10)


def series(name, task, ticks):
    """Return what an engine computes at every tick, and what it learns."""
    session = open_engine(name)(task)
    seen = []
    for tick in range(ticks):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        seen += [session.reader(what, names)().copy() for what in ("value", "prediction", "error")
                 for names in session.layout()]  # fmt: skip
        session.learn(tick, last=tick == ticks - 1)
        session.move()
    return seen, session.updates()


@pytest.mark.parametrize("name", [name for name in ENGINES if name not in ("actors", "cupy")])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "graph", [ring(1, activation="tanh"), ring(3, activation="relu", delay=2)], ids=["loop", "ring"]
)
@pytest.mark.parametrize("rule", ["il", "incremental", "il-variance"])
def test_engines_agree_with_actors_tick_by_tick(graph, dtype, rule, name):
    pytest.importorskip({"numba": "numba"}.get(name, "numpy"))
    read = pcsim.load(scenario(graph, initial={"normal": 0.3}, dtype=dtype), {"rule": {"name": rule, "ticks": 12}})
    tolerance = {"float64": 1e-12, "float32": 2e-5}[dtype]
    (seen, learnt), (wanted, taught) = (series(each, read.task(), 12) for each in (name, "actors"))
    for ours, theirs in zip(seen, wanted, strict=True):
        # engines lay vertices of one shape in their own order
        np.testing.assert_allclose(np.sort(ours, axis=0), np.sort(theirs, axis=0), atol=tolerance, rtol=tolerance)
    for key, update in taught.items():
        np.testing.assert_allclose(learnt[key], update, atol=10 * tolerance, rtol=10 * tolerance)
    session = open_engine(name)(read.task())
    session.advance(0, 12, last=True)
    for key, update in session.updates().items():
        assert np.array_equal(update, learnt[key])


@pytest.mark.parametrize("name", ["actors", "numpy", "numba"])
def test_a_run_on_a_cycle_is_taken_up_bit_for_bit(name):
    source = scenario(ring(3, activation="tanh", delay=1), initial={"normal": 0.5}, rule={**RULE, "ticks": 30})
    whole, first = pcsim.simulate(source, engine=name), pcsim.simulate(source, engine=name, until=11)
    again = pcsim.simulate(source, engine=name, resume=first)
    assert all(np.array_equal(whole.state[key], again.state[key]) for key in whole.state)


def test_updates_at_rest_are_minus_the_slope_of_the_free_energy():
    source = scenario(ring(2, activation="tanh"), rule={**RULE, "ticks": 4000})
    read = pcsim.load(source)
    run, step = pcsim.simulate(read), 1e-5

    def energy(weight):
        there = read.with_parameters({"r2.weight": weight})
        asked = {"rule.ticks": 1, "measure": ["energy"], "initial": "given"}
        again = pcsim.load(source, asked).with_parameters(there.parameters())
        return pcsim.simulate(again, initial=run.state).summary["energy"]["first"]

    weight = np.array(read.parameters()["r2.weight"])
    slope = np.empty_like(weight)
    for place in np.ndindex(weight.shape):
        nudge = np.zeros_like(weight)
        nudge[place] = step
        slope[place] = (energy(weight + nudge) - energy(weight - nudge)) / (2 * step)
    np.testing.assert_allclose(run.updates["r2.weight"], -slope, atol=1e-8)


REFUSED = [
    *(({"rule": {"name": name}}, "rule") for name in RULES if name not in ("il", "incremental", "il-variance")),
    ({"rule": {"name": "il", "ticks": "levels"}}, "rule.ticks"),
    ({"initial": "feedforward"}, "initial"),
    ({"initial": "carried"}, "initial"),
    ({"initial": "given"}, "initial"),
    ({"level": "delay"}, "level"),
    ({"solve": "equilibrium"}, "solve"),
    ({"solve": "closed_form"}, "solve"),
    ({"measure": ["divergence"]}, "measure"),
    ({"measure": ["credit"]}, "measure"),
    ({"record": [{"what": "divergence"}]}, "record"),
    ({"converged": "gradient"}, "converged"),
    ({"train": {"compare": {"every": 1}}}, "train.compare"),
]


@pytest.mark.parametrize(("asked", "place"), REFUSED, ids=str)
def test_what_a_cycle_has_not_is_refused_by_name(asked, place):
    with pytest.raises(InputError) as caught:
        pcsim.simulate(scenario(ring(2), **asked))
    (problem,) = [each for each in caught.value.problems if str(each).startswith(place)]
    assert "r1 -> r2 -> r1" in str(problem) or place == "initial"


def test_what_needs_an_order_says_so():
    graph = pcsim.load(scenario(ring(2))).graph
    assert graph.cyclic == {"r1", "r2"}
    assert vertex_levels(graph) == {"x": None, "drive": None, "r1": None, "r2": None, "y": 0}
    for ask in (lambda: pcsim.gradients(scenario(ring(2))), lambda: pcsim.level(graph, "delay")):
        with pytest.raises(InputError, match="r1 -> r2 -> r1"):
            ask()
    found = pcsim.plan(scenario(ring(2)))
    assert found["levels"] is None
    assert found["cycle"] == "r1 -> r2 -> r1"
    assert any("cycle" in said for said in found["warnings"])


def test_a_run_with_all_measures_leaves_out_those_of_backprop():
    run = pcsim.simulate(scenario(ring(2), rule={**RULE, "ticks": 600}, record=None, measure=None))
    assert run.summary["ticks_to_convergence"]["ticks"] is not None
    assert {"divergence", "credit", "signal_fraction"}.isdisjoint(run.summary)
    assert run.summary["cycle"] == "r1 -> r2 -> r1"


def test_where_a_run_begins_does_not_change_where_it_ends():
    source = scenario(ring(3), rule={**RULE, "ticks": 2000})
    zeros, drawn = (pcsim.simulate(source, {"initial": begins}).state for begins in ("zeros", {"normal": 1.0}))
    again = pcsim.simulate(source, {"initial": "given", "rule.ticks": 1}, initial=zeros).state
    for name in zeros:
        np.testing.assert_allclose(drawn[name], zeros[name], atol=1e-10)
        np.testing.assert_allclose(again[name], zeros[name], atol=1e-10)


@pytest.mark.parametrize(
    ("vertices", "words"),
    [
        ({"a": {"op": "tanh", "inputs": ["b"]}, "b": {"op": "tanh", "inputs": ["a"]}}, "put a vertex with 'units'"),
        ({"a": {**affine(3, "b")}, "b": {"op": "add", "inputs": ["x", "a"]}}, "shape"),
    ],
    ids=["no units", "no fit"],
)
def test_shapes_that_do_not_close_are_told(vertices, words):
    graph = {"vertices": {"x": {"op": "input", "shape": [2]}, **vertices, "y": affine(2, "a")}}
    with pytest.raises(InputError, match=words):
        pcsim.load(scenario(graph))


def test_the_order_of_a_cyclic_document_changes_no_bit():
    graph = ring(3, activation="tanh")
    turned = {"vertices": dict(reversed(graph["vertices"].items()))}
    runs = [pcsim.simulate(scenario(each, rule={**RULE, "ticks": 20})).state for each in (graph, turned)]
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])


def trained(**more):
    """Return a scenario that trains a ring on random data."""
    entry = {"optimiser": {"name": "adam", "rate": 0.01}, "epochs": 3, "samples": 12, "shuffle": False}
    entry |= {"validate": {"samples": 4, "by": {"name": "inference", "ticks": 40, "step_size": 0.3}}}
    source = scenario(ring(3, activation="tanh"), batch=4, rule={**RULE, "ticks": 25}, train=entry)
    data = {"x": {"values": np.random.default_rng(0).normal(size=(16, 3)).tolist()}}
    targets = {"y": {"values": np.random.default_rng(1).normal(size=(16, 2)).tolist()}}
    return {**source, "inputs": data, "targets": targets, **more}


def test_a_cyclic_graph_learns_and_is_judged_by_inference():
    log = pcsim.train(trained(), {"train.epochs": 20}).log
    losses = log["epoch_validation_loss"].values
    assert np.isfinite(losses).all()
    assert log["epoch_loss"].values[-1] < log["epoch_loss"].values[0]
    with pytest.raises(InputError, match="by: inference"):
        pcsim.train(trained(), {"train.validate.by": "sweep"})


@pytest.mark.parametrize("name", ["actors", "numpy", "numba"])
def test_carried_values_are_those_at_which_the_batch_before_ended(name):
    pytest.importorskip({"numba": "numba"}.get(name, "numpy"))
    one = trained(initial="carried")
    done = pcsim.train(one, {"train.steps": 2}, engine=name)
    first = pcsim.load({**one, "initial": "given"}, {"train": None})
    reader = pcsim.load(one).sample_reader()
    parts = [{name: column.take(np.arange(start, start + 4)) for name, column in reader.columns(section, None).items()}
             for start in (0, 4) for section in ("inputs", "targets")]  # fmt: skip
    zeros = {key: np.zeros((4, *first.graph.vertices[key].shape)) for key in done.state.carried}
    half = pcsim.train(one, {"train.steps": 1}, engine=name)
    began = pcsim.simulate(first.with_data(*parts[:2]), engine=name, initial=zeros)
    again = pcsim.simulate(first.with_data(*parts[2:]).with_parameters(half.parameters), engine=name,
                           initial=began.state)  # fmt: skip
    for key, values in done.state.carried.items():
        assert np.array_equal(half.state.carried[key], began.state[key])
        assert np.array_equal(values, again.state[key])


def test_a_training_with_carried_values_goes_on_bit_for_bit(tmp_path):
    whole = pcsim.train(trained(initial="carried"))
    part = pcsim.train(trained(initial="carried"), out=tmp_path / "part", progress=None)
    assert all(np.array_equal(part.parameters[key], whole.parameters[key]) for key in whole.parameters)
    kept = pcsim.learn.training_state.load_state(tmp_path / "part")
    assert kept.carried.keys() == whole.state.carried.keys()
    assert all(np.array_equal(kept.carried[key], whole.state.carried[key]) for key in kept.carried)
