"""``alm``: a multiplier at each vertex becomes backprop's error, and travels as fast as errors do."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import opened
from strategies import PER_TICK, Features, make_task, random_document, run_task
from test_engines import scaled_difference
from test_state import assert_same_bits, follow, through_a_file

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.engines import ENGINES, open_engine
from pcsim.errors import InputError
from pcsim.rules import rule

ABLE = [name for name, row in ENGINES.items() if "multipliers" in row.dynamics]
SEEN = (*PER_TICK, "credit", "multiplier")


def chain(depth, width=1, weight=1.0, activation="none"):
    init = {"weight": {"values": (weight * np.eye(width)).tolist()}}
    vertices = {"h0": {"op": "input", "shape": [width]}}
    for layer in range(1, depth + 1):
        vertices[f"h{layer}"] = {"op": "affine", "units": width, "bias": False, "inputs": [f"h{layer - 1}"],
                                 "activation": activation, "init": init}  # fmt: skip
    return {"vertices": vertices}


@pytest.mark.parametrize("name", [name for name in ABLE if name != "actors"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_engines_agree_with_actors_tick_by_tick(name, dtype):
    start, tolerance = opened(name), {"float64": 1e-12, "float32": 2e-5}[dtype]
    for seed in range(20):
        document = random_document(seed, Features(size=7, precision=seed % 2 == 1, dead_ends=seed % 3 == 0))
        row = rule("alm", step_size=0.03)
        form = ("none", "delay", "identity")[seed % 3]
        task = make_task(document, row, form, dtype, seed, 2, ticks=7, away=0.01, losses="mixed")
        got, wanted = run_task(start, task, SEEN), run_task(open_engine("actors"), task, SEEN)
        for what in SEEN:
            for name, series in wanted.seen[what].items():
                assert scaled_difference(got.seen[what][name], series) <= tolerance, (seed, what, name)
        for name, series in wanted.taught.items():
            assert scaled_difference(got.taught[name], series) <= tolerance, (seed, name)


@pytest.mark.parametrize("after", ABLE)
@pytest.mark.parametrize("before", ABLE)
def test_a_run_that_is_taken_up_is_the_same_run(before, after, tmp_path):
    """Bit for bit in one engine, through a file; in another as near as engines agree."""
    for seed in range(4):
        task = make_task(random_document(seed, Features(size=6)), rule("alm", step_size=0.03), ticks=9, away=0.01)
        whole, first, second = follow(opened(before)(task), task, 0), opened(before)(task), opened(after)(task)
        follow(first, task, 0, 5)
        state = through_a_file(first.snapshot(), tmp_path)
        free = [name for name in task.graph.active if task.graph.role(name) == "free"]
        assert sorted(state.multipliers) == sorted(free)
        second.load(state)
        ended = follow(second, task, 5)
        if before == after:
            assert_same_bits(ended, whole[5:])
        for (ours, *_), (theirs, *_) in zip(ended, whole[5:], strict=True):
            assert all(np.allclose(ours[key], theirs[key], rtol=1e-9, atol=1e-12) for key in theirs)


@pytest.mark.parametrize("ops", [("affine", "add", "concat", "identity"), ("affine", "add", "tanh", "multiply")])
def test_at_rest_multipliers_are_errors_of_backprop_and_values_those_of_the_sweep(ops):
    """Steps are below the bound of the docstring of ``rules``; what is left shrinks by a rate, not by luck."""
    for seed in range(3):
        document = random_document(seed, Features(size=4, ops=(*ops, "input"), delays=False, shared=False))
        task = make_task(document, rule("alm", step_size=0.1, ticks=4000), away=0.1, seed=seed, keep_values=False)
        session, wanted = open_engine("numpy")(task), backprop(task)
        session.advance(0, task.ticks, last=True)
        for name, error in wanted.errors.items():
            if task.graph.role(name) == "free":
                held = session.reader("multiplier", [name])()[0]
                assert np.abs(held - error).max() <= 1e-9 * max(np.abs(error).max(), 1e-3), (seed, name)
                assert np.abs(session.reader("error", [name])()).max() <= 1e-9
        for name, gradient in wanted.gradients.items():
            assert np.abs(session.updates()[name] - gradient).max() <= 1e-9 * max(np.abs(gradient).max(), 1e-3)


@pytest.mark.parametrize(("rho", "alpha"), [(2.0, 1.0), (1.0, 0.3), (1.5, 1.4)])
def test_alone_a_vertex_follows_the_recurrence_of_the_docstring(rho, alpha):
    """Where nothing comes back: z^2 - (2 - gamma rho) z + 1 - gamma (rho - alpha)."""
    gamma, task = 0.25, make_task(chain(2, weight=0.0), rule("alm", rho=rho, multiplier_step=alpha), ticks=40, batch=1)
    task.initial.update({"h1": np.full((1, 1), 0.7)})
    run = run_task(open_engine("actors"), task)
    away = run.values["h1"][:, 0, 0]
    assert away[0] == 0.7
    expected = (2 - gamma * rho) * away[1:-1] - (1 - gamma * (rho - alpha)) * away[:-2]
    np.testing.assert_allclose(away[2:], expected, atol=1e-13)


def test_the_papers_order_is_the_same_run_with_rho_less_by_alpha():
    """Values first, then multipliers from the new errors (rho 1, alpha 1), is this rule at rho 2, alpha 1."""
    depth, gamma, rng = 5, 0.25, np.random.default_rng(0)
    weights = rng.normal(0, 0.6, (depth, 3, 3))
    document = chain(depth, 3)
    for layer in range(1, depth + 1):
        document["vertices"][f"h{layer}"]["init"] = {"weight": {"values": weights[layer - 1].tolist()}}
    task = make_task(document, rule("alm", step_size=gamma), ticks=30, away=0.5)
    run = run_task(open_engine("actors"), task)
    x = [task.inputs["h0"]]
    for weight in weights:
        x.append(x[-1] @ weight.T)
    x[-1], held = task.targets[f"h{depth}"], [np.zeros((3, 3)) for _ in range(depth + 1)]
    for tick in range(task.ticks):
        error = [None, *(x[k] - x[k - 1] @ weights[k - 1].T for k in range(1, depth + 1))]
        held = [None, *(held[k] + error[k] for k in range(1, depth)), None]
        credit = [None, *(held[k] + error[k] for k in range(1, depth)), error[depth]]
        for k in range(1, depth):
            np.testing.assert_allclose(run.errors[f"h{k}"][tick], error[k], atol=1e-12)
        moved = [x[k] + gamma * (-credit[k] + credit[k + 1] @ weights[k]) for k in range(1, depth)]
        x = [x[0], *moved, x[-1]]


def ticks_until_half(depth, row):
    """Return the tick at which the first layer has half of backprop's gradient, on a chain of identities."""
    ticks = 40 * depth + 100
    task = make_task(chain(depth), rule(row, ticks=ticks), ticks=ticks, batch=1, away=1.0, keep_values=False)
    session, wanted = open_engine("numpy")(task), backprop(task).errors["h1"]
    read = session.reader("credit", ["h1"])
    for tick in range(ticks):
        session.predict(tick)
        session.send(tick)
        session.deliver(tick)
        if float((read()[0] * wanted).sum() / (wanted**2).sum()) >= 0.5:
            return tick
        session.move()
    return None


def test_credit_travels_ballistically_to_depth_128():
    """Twice the depth takes twice the ticks, where ``il`` takes four times as many to do less."""
    taken = {depth: ticks_until_half(depth, "alm") for depth in (8, 16, 32, 64, 128)}
    assert taken[128] <= 4 * 128
    for depth in (16, 32, 64):
        assert taken[2 * depth] / taken[depth] == pytest.approx(2.0, rel=0.15)
    assert ticks_until_half(32, "il") is None


def test_credit_is_what_divergence_and_convergence_are_measured_by():
    document = {"graph": chain(4, 3, 0.8), "inputs": {"h0": [[1.0, -1.0, 0.5]]}, "targets": {"h4": [[0.0, 0.2, 0.1]]},
                "rule": {"name": "alm", "ticks": 500}, "tolerance": 1e-3}  # fmt: skip
    runs = [pcsim.simulate(document, engine=engine) for engine in ("actors", "numpy")]
    for run in runs:
        found = run.summary["ticks_to_convergence"]
        assert found["criterion"] == "gradient"
        assert 0 < found["ticks"] < 400
        assert run.summary["divergence"]["worst_vertex"] < 1e-6
        assert run.summary["credit"]["parameters"]["h1.weight"]["share"] == pytest.approx(1, abs=1e-6)
        assert run.summary["parallel_ticks"]["parallel_ticks"] == 504
        assert run.summary["first_arrival"]["before_light_cone"] == []
    assert runs[0].summary["ticks_to_convergence"] == runs[1].summary["ticks_to_convergence"]
    assert pcsim.load(document).rule.rho == 2.0
    shown = pcsim.simulate(document, {"record": [{"what": ["multiplier", "error"]}]})
    wanted = backprop(pcsim.load(document).task()).errors["h2"]
    np.testing.assert_allclose(shown.series("multiplier", "h2").values[-1], wanted, rtol=1e-5)
    halves = pcsim.simulate(document, until=200)
    assert np.array_equal(pcsim.simulate(document, resume=halves).updates["h2.weight"], runs[1].updates["h2.weight"])


def test_a_ledger_adds_up():
    document = {"graph": chain(4, 3, 0.8), "inputs": {"h0": [[1.0, -1.0, 0.5]]}, "targets": {"h4": [[0.0, 0.2, 0.1]]},
                "rule": {"name": "alm", "ticks": 12}}  # fmt: skip
    for record in ([], [{"what": ["value", "prediction", "error", "multiplier", "message"]}]):
        found = pcsim.simulate({**document, "record": record}).ledger("h2", 9)
        assert found.adds_up
        assert np.abs(found["multiplier"]).max() > 0
        assert (
            next(line for line in found.lines if line.name == "change").note == "0.25 (-lambda - 2 Pi eps + received)"
        )


def test_runs_side_by_side_are_those_alone():
    document = {"graph": chain(3, 2, 0.7), "inputs": {"h0": {"normal": [0, 1]}}, "targets": {"h3": 0.3}}
    scenarios = [pcsim.load({**document, "rule": {"name": "alm", "ticks": 60}, "seed": seed}) for seed in range(3)]
    for scenario, run in zip(scenarios, pcsim.simulate_many(scenarios, engine="numpy"), strict=True):
        alone = pcsim.simulate(scenario, engine="numpy")
        assert all(np.allclose(run.updates[name], alone.updates[name], atol=1e-13) for name in alone.updates)


def test_what_cannot_be_done_is_refused_by_name():
    document = {"graph": chain(3), "inputs": {"h0": 1.0}, "targets": {"h3": 0.0}, "rule": {"name": "alm", "ticks": 5}}
    said = "engine 'numba' cannot run rule 'alm', whose vertices keep a value and a Lagrange multiplier; take actors or"
    with pytest.raises(InputError, match=said):
        pcsim.simulate(document, engine="numba")
    with pytest.raises(InputError, match="cannot run rule 'alm'"):
        open_engine("numba")(make_task(chain(3), "alm", ticks=3))
    with pytest.raises(InputError, match="rule 'il' keeps no multipliers"):
        pcsim.load({**document, "rule": {"name": "il", "rho": 1.0}})
    with pytest.raises(InputError, match="rule 'il' keeps no multipliers"):
        pcsim.simulate({**document, "rule": "il", "record": [{"what": "multiplier"}]})
    with pytest.raises(InputError, match="must be a finite number above 0"):
        pcsim.load({**document, "rule": {"name": "alm", "rho": -1.0}})
    with pytest.raises(InputError, match="a ledger is of values that move"):
        pcsim.simulate({**document, "rule": {"name": "epc", "ticks": 4}}).ledger("h1", 2)
