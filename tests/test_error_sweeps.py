"""``epc`` and ``solve: equilibrium``: where standard inference comes to rest, by sweeps in errors."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import Features, make_task, random_document, run_task
from test_state import assert_same_bits, follow, through_a_file

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.analysis.equilibrium import EquilibriumSession, equilibrium
from pcsim.credit import residual_net
from pcsim.engines import open_engine
from pcsim.engines.sweeps import start
from pcsim.errors import InputError, RunError
from pcsim.rules import rule
from pcsim.view.figures import cone_by_level

TAME = ("affine", "add", "input", "tanh", "concat", "multiply", "sigmoid")


def document_of(seed, size=6, **features):
    return random_document(seed, Features(size=size, ops=TAME, delays=False, **features))


def ended(session, ticks):
    session.advance(0, ticks, last=True)
    return session.updates()


def apart(got, wanted):
    """Return the greatest difference of any update, relative to the largest number of all."""
    most = max(np.abs(each).max() for each in wanted.values())
    return max(np.abs(got[name] - wanted[name]).max() for name in wanted) / most


def chain(depth, width=4, **layer):
    vertices = {"h0": {"op": "input", "shape": [width]}}
    for number in range(1, depth + 1):
        vertices[f"h{number}"] = {"op": "affine", "units": width, "inputs": [f"h{number - 1}"], **layer}
    return {"vertices": vertices}


def test_epc_comes_to_rest_where_il_does():
    for seed, size in ((0, 3), (1, 3), (3, 4)):
        parts = {"document": document_of(seed, size, precision=seed % 2 == 0), "away": 0.1, "keep_values": False,
                 "losses": "mixed"}  # fmt: skip
        il = make_task(row=rule("il", step_size=0.1, ticks=3000), **parts)
        epc = make_task(row=rule("epc", step_size=0.1, ticks=500), **parts)
        wanted = ended(open_engine("numpy")(il), il.ticks)
        assert apart(ended(start(epc), epc.ticks), wanted) <= 1e-10, seed
        assert apart(ended(equilibrium(il), 1), wanted) <= 1e-10, seed


def ticks_until_settled(engine, row, depth, most):
    """Return the ticks until every error is within 1 % of its limit, on a net in the mu parametrisation."""
    task = make_task(residual_net(depth, 32, mu=True), row, ticks=most, away=0.5, batch=2, keep_values=False)
    limit = EquilibriumSession(task)
    limit.predict(0)
    session = engine(task)
    reads = {name: session.reader("error", [name]) for name in limit.free}
    for tick in range(most):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        if all(np.linalg.norm(read() - limit.errors[name]) <= 0.01 * np.linalg.norm(limit.errors[name])
               for name, read in reads.items()):  # fmt: skip
            return tick
        session.move()
    return None


def test_ticks_of_epc_do_not_grow_with_depth_as_those_of_il_do():
    epc = [ticks_until_settled(start, rule("epc", step_size=0.3), depth, 100) for depth in (4, 16, 64)]
    assert max(epc) <= 3 * min(epc)
    il = [ticks_until_settled(open_engine("numpy"), rule("il", step_size=0.4), depth, 2000) for depth in (4, 8, 16)]
    assert il[2] >= 3 * il[1] >= 8 * il[0]


def test_the_first_step_at_step_size_one_is_backprop():
    """Errors begin at zero, so what comes back is backprop's error, and a whole step of it is the error at tick 1."""
    for seed in range(4):
        task = make_task(document_of(seed), rule("epc", step_size=1.0, ticks=2), away=0.1)
        run = run_task(start, task)
        for name, error in backprop(task).errors.items():
            if task.graph.role(name) == "free":
                assert not run.errors[name][0].any()
                np.testing.assert_allclose(run.errors[name][1], error, rtol=1e-12, atol=1e-15)
        for edge in (edge for edge in task.graph.edges if task.graph.carries_errors(edge)):
            assert f"{edge.name}" in run.seen["error message"]


def test_a_run_that_is_taken_up_is_the_same_run(tmp_path):
    for seed in range(4):
        task = make_task(document_of(seed), rule("epc", step_size=0.2, ticks=7), away=0.05)
        whole, session = follow(start(task), task, 0), start(task)
        follow(session, task, 0, 3)
        fresh = start(task)
        fresh.load(through_a_file(session.snapshot(), tmp_path))
        assert_same_bits(follow(fresh, task, 3), whole[3:])
        session.restart()
        assert_same_bits(follow(session, task, 0), whole)


def test_on_a_linear_graph_the_equilibrium_is_that_of_one_dense_solve():
    """(I - A)^T (I - A) x = what clamped values say, and in few sweeps: as many as outputs, and some more."""
    depth, width = 24, 4
    task = make_task(chain(depth, width, bias=False), rule("il"), away=1.0, batch=2)
    weights = [task.parameters[f"h{k}.weight"] for k in range(1, depth + 1)]
    size = width * depth
    matrix = np.eye(size)
    for k in range(1, depth):
        matrix[k * width : (k + 1) * width, (k - 1) * width : k * width] = -weights[k]
    begin = np.zeros((size, 2))
    begin[:width] = weights[0] @ task.inputs["h0"].T
    free, clamped = slice(0, size - width), slice(size - width, size)
    right = begin - matrix[:, clamped] @ task.targets[f"h{depth}"].T
    x = np.linalg.solve(matrix[:, free].T @ matrix[:, free], matrix[:, free].T @ right)
    session = EquilibriumSession(task)
    session.advance(0, 1, last=True)
    for k in range(1, depth):
        np.testing.assert_allclose(session.values[f"h{k}"][0].T, x[(k - 1) * width : k * width], rtol=1e-9, atol=1e-12)


def test_coupled_samples_are_solved_as_one():
    vertices = {
        "x": {"op": "input", "shape": [3]},
        "a": {"op": "affine", "units": 3, "inputs": ["x"]},
        "b": {"op": "batch_norm", "inputs": ["a"], "epsilon": 0.5},
        "y": {"op": "affine", "units": 2, "inputs": ["b"]},
    }
    task = make_task({"vertices": vertices}, rule("il", step_size=0.05, ticks=8000), away=0.3, batch=4)
    assert apart(ended(equilibrium(task), 1), ended(open_engine("numpy")(task), task.ticks)) <= 1e-10


def scenario(**more):
    vertices = chain(3, 2)["vertices"]
    return {"graph": {"vertices": vertices}, "inputs": {"h0": [[1.0, 2.0]]}, "targets": {"h3": [[0.5, 0.0]]}, **more}


def test_scenarios_run_in_errors_and_at_equilibrium(tmp_path):
    il = pcsim.simulate(scenario(rule={"name": "il", "step_size": 0.2, "ticks": 6000}))
    epc = pcsim.simulate(scenario(rule={"name": "epc", "ticks": 200}), out=tmp_path / "epc")
    solved = pcsim.simulate(scenario(rule="il", solve="equilibrium"))
    assert (epc.manifest["engine"], solved.manifest["engine"]) == ("sweeps", "equilibrium")
    assert apart(epc.updates, il.updates) <= 1e-10
    assert apart(solved.updates, il.updates) <= 1e-10
    assert solved.summary["ticks"] == 1
    assert not [said for said in solved.summary["warnings"] if "converged" in said]
    assert epc.summary["parallel_ticks"] == {"ticks": 200, "sweep": 3, "parallel_ticks": 1200}
    assert il.summary["parallel_ticks"]["parallel_ticks"] == 6003
    assert solved.summary["parallel_ticks"]["parallel_ticks"] is None
    assert epc.summary["ticks_to_convergence"]["ticks"] < 60
    assert epc.summary["first_arrival"]["before_light_cone"] == []
    assert cone_by_level(pcsim.load(scenario(rule="epc")).graph, moving=True, sweeps=True) == {0: 0, 1: 1, 2: 1}
    assert pcsim.open_run(tmp_path / "epc").summary == epc.summary
    half = pcsim.simulate(scenario(rule={"name": "epc", "ticks": 200}), until=90)
    assert all(
        np.array_equal(array, epc.updates[name])
        for name, array in pcsim.simulate(scenario(rule={"name": "epc", "ticks": 200}), resume=half).updates.items()
    )


@pytest.mark.parametrize(
    ("changed", "engine", "said"),
    [
        ({"rule": "epc"}, "numpy", "engine 'numpy' cannot run rule 'epc', whose vertices keep an error, and"),
        ({"rule": "epc", "level": "delay", "graph": "residual"}, None, "sweeps the whole graph in one tick, and"),
        ({"rule": "zil", "solve": "equilibrium"}, None, "equilibrium needs predictions that move, and updates at the"),
        ({"rule": "alm", "solve": "equilibrium"}, None, "got 'alm'"),
        ({"rule": "epc", "solve": "closed_form"}, None, "closed_form needs fixed predictions"),
        ({"rule": {"name": "epc", "rho": 2.0}}, None, "rule 'epc' keeps no multipliers"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(changed, engine, said):
    skip = {"x": {"op": "input", "shape": [2]}, "a": {"op": "tanh", "inputs": ["x"]},
            "b": {"op": "tanh", "inputs": ["a"]}, "h3": {"op": "add", "inputs": ["a", "b"]}}  # fmt: skip
    document = scenario(**changed)
    if document["graph"] == "residual":
        document |= {"graph": {"vertices": skip}, "inputs": {"x": [[1.0, 2.0]]}}
    with pytest.raises(InputError, match=said):
        pcsim.simulate(document, engine=engine)


def test_steps_that_are_too_large_end_the_run_by_name():
    layer = {"bias": False, "init": {"weight": {"values": (3 * np.eye(2)).tolist()}}}
    document = scenario(rule={"name": "epc", "step_size": 1.0, "ticks": 500})
    document["graph"] = chain(3, 2, **layer)
    with pytest.raises(RunError, match="grew beyond float64"):
        pcsim.simulate(document)
