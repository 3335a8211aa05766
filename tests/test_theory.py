"""What is known in closed form, held against runs: fixed predictions, linear chains, energies, starts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom
from strategies import Features, documents, make_task, random_document, run_task

from pcsim.analysis.backprop import backprop
from pcsim.analysis.theory import arrived, fpa_errors, linear_chain_eigenvalues, missing, relaxation
from pcsim.errors import NumberOverflowError
from pcsim.rules import rule

STEP_SIZES = (0.05, 0.3, 0.7, 1.0)


def error_norm(reference):
    return np.sqrt(sum(float(np.sum(error.astype(float) ** 2)) for error in reference.errors.values()))


def worst_difference(run, task):
    """Return the greatest difference of an error from the closed form, relative to the backprop norm."""
    wanted = fpa_errors(task, task.ticks)
    return max(np.abs(run.errors[name] - wanted[name]).max() for name in wanted) / error_norm(backprop(task))


# -- fixed predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["none", "delay", "identity"])
@pytest.mark.parametrize("gamma", STEP_SIZES)
def test_fixed_predictions_follow_the_closed_form(numpy_engine, gamma, form):
    """Section 7: each part of the error has come by P(N_h <= t - D), over paths of h edges and delay D."""
    for seed in range(40):
        document = random_document(seed, Features(delays=seed % 2 == 0, dead_ends=True))
        task = make_task(document, rule("fpa", step_size=gamma), form, seed=seed, ticks=25, away=1.0)
        assert worst_difference(run_task(numpy_engine, task, ("error",)), task) <= 1e-12


@given(document=documents(max_size=5), gamma=st.floats(0.05, 1.0))
def test_fixed_predictions_follow_the_closed_form_on_every_engine(engine, document, gamma):
    task = make_task(document, rule("fpa", step_size=gamma), ticks=12, away=1.0, losses="mixed")
    assert worst_difference(run_task(engine, task, ("error",)), task) <= 1e-12


def chain(depth, units=3, activation="tanh"):
    vertices = {"x": {"op": "input", "shape": [units]}}
    for number in range(1, depth + 1):
        pre = "x" if number == 1 else f"h{number - 1}"
        vertices[f"h{number}"] = {"op": "affine", "units": units, "activation": activation, "inputs": [pre]}
    return {"vertices": vertices}


@pytest.mark.parametrize("gamma", [1.2, 1.5, 1.9])
def test_fixed_predictions_converge_up_to_step_size_two(engine, gamma):
    """Section 7: asymptotically stable for 0 < gamma < 2; at level 4 the slowest term is t^3 (1 - gamma)^t."""
    task = make_task(chain(5), rule("fpa", step_size=gamma), ticks=500, away=1.0)
    run, reference = run_task(engine, task, ("error",)), backprop(task)
    assert worst_difference(run, task) <= 1e-10
    for name, error in reference.errors.items():
        assert np.allclose(run.errors[name][-1], error, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", [2.0, 2.1])
def test_fixed_predictions_do_not_converge_from_step_size_two_on(numpy_engine, gamma):
    task = make_task(chain(3), rule("fpa", step_size=gamma), ticks=60, away=1.0)
    run = run_task(numpy_engine, task, ("error",))
    away = np.abs(run.errors["h1"] - backprop(task).errors["h1"]).max(axis=(1, 2))
    assert away[-1] >= away[10]


def overflowing(dtype):
    """Return a chain of 700 with weights 1 at step size 1.9."""
    task = make_task(chain(700, 1, "none"), rule("fpa", step_size=1.9), dtype=dtype, ticks=900, batch=1, away=1.0)
    for name in task.parameters:
        task.parameters[name][...] = 1.0 if name.endswith("weight") else 0.0
    return task


TOO_LARGE = r"vertex 'h\d+' at tick \d+: its error grew beyond "


def test_overflowing_transient_is_named_not_returned(engine):
    """Section 7: above 1 the transient grows, at most as (2 gamma - 1)^t, before it decays; it can overflow."""
    with pytest.raises(NumberOverflowError, match=TOO_LARGE + "float32"):
        run_task(engine, overflowing("float32"), ("error",))


def test_overflowing_transient_in_double_precision(numpy_engine):
    with pytest.raises(NumberOverflowError, match=TOO_LARGE + "float64"):
        run_task(numpy_engine, overflowing("float64"), ())


def test_arrived_is_a_recursion():
    """c_h(t+1) = (1 - gamma) c_h(t) + gamma c_(h-1)(t): the closed forms against the recursion they solve."""
    for gamma in (0.05, 0.5, 1.0, 1.4):
        known = np.ones(60)
        for hops in range(1, 6):
            series = np.zeros(60)
            for t in range(59):
                series[t + 1] = (1 - gamma) * series[t] + gamma * known[t]
            assert np.allclose(arrived(hops, np.arange(60), gamma), series, rtol=1e-12, atol=1e-14)
            assert np.allclose(missing(hops, np.arange(60), gamma), 1 - series, rtol=1e-9, atol=1e-13)
            known = series


# -- standard predictive coding on linear chains --------------------------------------------------------


def linear_chain(weight, edges, gamma, ticks, units=1, scalar=False):
    """Return a task on x_l = w x_(l-1) with ``edges`` edges, both ends clamped."""
    if scalar:
        vertices = {"h0": {"op": "input", "shape": []}, "w": {"op": "constant", "value": weight}}
        vertices |= {f"h{n}": {"op": "multiply", "inputs": ["w", f"h{n - 1}"]} for n in range(1, edges + 1)}
    else:
        vertices = {"h0": {"op": "input", "shape": [units]}}
        init = {"weight": {"values": (weight * np.eye(units)).tolist()}}
        for n in range(1, edges + 1):
            vertices[f"h{n}"] = {"op": "affine", "units": units, "bias": False, "inputs": [f"h{n - 1}"], "init": init}
    return make_task({"vertices": vertices}, rule("il", step_size=gamma), ticks=ticks, away=1.0, batch=2)


@pytest.mark.parametrize("weight", [1.0, 0.6, -1.3])
@pytest.mark.parametrize("edges", [2, 5, 9])
@pytest.mark.parametrize("units", [0, 1, 3])
def test_chain_eigenvalues(weight, edges, units):
    """Section 7: 1 + w^2 - 2 w cos(k pi / L), k = 1 .. L-1, once for each unit."""
    found = relaxation(linear_chain(weight, edges, 0.1, 1, max(units, 1), scalar=units == 0)).eigenvalues
    wanted = np.sort(np.repeat(linear_chain_eigenvalues(weight, edges), max(units, 1)))
    assert np.allclose(found, wanted, rtol=1e-12, atol=1e-13)


def away_from_rest(run, task):
    """Return the distance of the free values from the fixed point at each tick."""
    closed = relaxation(task)
    free = [name for name in task.graph.active if task.graph.role(name) == "free"]
    start = {name: run.values[name][0] for name in free}
    moved = np.concatenate(
        [(run.values[name] - start[name]).reshape(task.ticks, task.batch, -1) for name in free], axis=2
    )
    return np.linalg.norm((moved - closed.fixed.T).reshape(task.ticks, -1), axis=1)


@pytest.mark.parametrize("weight", [1.0, 0.8])
def test_chain_relaxes_at_the_rate_of_its_slowest_mode(engine, weight):
    """Section 7: (1 - gamma lambda_min) per tick, once the faster modes are gone."""
    task = linear_chain(weight, 6, 0.2, 240, units=2)
    away = away_from_rest(run_task(engine, task, ("value",)), task)
    late = slice(150, 200)
    assert np.allclose(away[late][1:] / away[late][:-1], relaxation(task).rate, rtol=1e-5)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
def test_ticks_until_equals_what_is_measured(engine, tolerance):
    task = linear_chain(1.0, 5, 0.3, 250, units=2)
    values = run_task(engine, task, ("value",)).values
    change = np.max([np.abs(np.diff(series, axis=0)).max(axis=(1, 2)) for series in values.values()], axis=0)
    late = np.nonzero(change > tolerance)[0]
    assert relaxation(task).ticks_until("update", tolerance, task.ticks) == late[-1] + 2


def test_chain_is_stable_below_two_over_the_largest_eigenvalue(engine):
    limit = relaxation(linear_chain(1.0, 6, 0.1, 1)).stable_below
    for factor, grows in ((0.98, False), (1.02, True)):
        task = linear_chain(1.0, 6, factor * limit, 400)
        away = away_from_rest(run_task(engine, task, ("value",)), task)
        assert (away[-1] > away[200]) is np.True_ if grows else away[-1] < away[200]


def test_relaxation_is_diffusive():
    """Section 7, w = 1: the slowest mode takes ticks that grow as L^2."""
    ticks = [-1 / np.log(relaxation(linear_chain(1.0, edges, 0.4, 1)).rate) for edges in (16, 32, 64)]
    assert all(3.9 < b / a < 4.1 for a, b in pairwise(ticks))


# -- energy ---------------------------------------------------------------------------------------------


def energies(run):
    return sum(0.5 * np.sum(series.reshape(len(series), -1) ** 2, axis=1) for series in run.errors.values())


@given(document=documents(max_size=7, delays=False))
def test_energy_never_rises_at_small_steps(numpy_engine, document):
    """[M] eq. 1-2: inference descends on F; without delays and at a small step every tick lowers it."""
    run = run_task(numpy_engine, make_task(document, rule("il", step_size=0.01), ticks=40, away=0.05), ("error",))
    energy = energies(run)
    assert np.all(np.diff(energy) <= 1e-12 * energy[0])


def test_energy_may_rise_with_value_delays(engine):
    """Section 5: over a value delay the step is no longer a descent on F: the same chain, slower, climbs."""
    plain = linear_chain(1.0, 3, 0.3, 60)
    edges = tuple(replace(edge, value_delay=6) if edge.pre == "h1" else edge for edge in plain.graph.edges)
    slow = replace(plain, graph=replace(plain.graph, edges=edges))
    rises = [np.diff(energies(run_task(engine, task, ("error",)))).max() for task in (plain, slow)]
    assert rises[0] <= 1e-12
    assert rises[1] > 1e-3


# -- starts, and the limit of large output variance -----------------------------------------------------


def starting(task, start):
    rng = np.random.default_rng(0)
    shapes = {n: (task.batch, *task.graph.vertices[n].shape) for n in task.graph.active if task.graph.role(n) == "free"}
    return replace(task, initial={name: start(rng, shape) for name, shape in shapes.items()})


STARTS = {"zeros": lambda rng, shape: np.zeros(shape), "normal": lambda rng, shape: rng.normal(0.0, 0.1, shape)}


@pytest.mark.parametrize("start", list(STARTS))
def test_other_starts_differ_from_backprop(engine, start):
    """[S] table 3: without the feedforward start, zil is not backprop."""
    task = make_task(chain(4), "zil", away=1.0)
    learnt = run_task(engine, starting(task, STARTS[start]), ()).learnt
    wanted = backprop(task).gradients
    assert np.linalg.norm(learnt["h1.weight"] - wanted["h1.weight"]) > 0.1 * np.linalg.norm(wanted["h1.weight"])


def test_start_at_the_feedforward_values_is_no_start_at_all(engine):
    task = make_task(chain(4), "zil", away=1.0)
    plain = run_task(engine, task)
    given_start = replace(task, initial={name: plain.values[name][0] for name in ("h1", "h2", "h3")})
    assert all(np.array_equal(a, plain.learnt[name]) for name, a in run_task(engine, given_start, ()).learnt.items())


def test_output_variance_brings_the_update_to_backprop(engine):
    """[Z] section 3.3: with output variance k and the update times k, the difference from backprop falls as 1/k."""
    away = []
    for variance in (1e2, 1e3, 1e4):
        task = make_task(chain(3), rule("il-variance", output_variance=variance, step_size=0.2), ticks=400, away=0.3)
        learnt, wanted = run_task(engine, task, ()).learnt, backprop(task).gradients
        away.append(np.sqrt(sum(np.sum((learnt[name] - wanted[name]) ** 2) for name in wanted)))
    assert all(0.09 < b / a < 0.11 for a, b in pairwise(away))


@pytest.mark.parametrize("hops", [1, 2, 7, 64])
@pytest.mark.parametrize("step_size", [0.01, 0.3, 0.5, 0.99, 1.0])
def test_what_has_arrived_is_the_negative_binomial_distribution_bit_for_bit(hops, step_size):
    ticks = np.arange(-3, 500)
    assert np.array_equal(arrived(hops, ticks, step_size), nbinom.cdf(ticks - hops, hops, step_size))
    assert np.array_equal(missing(hops, ticks, step_size), nbinom.sf(ticks - hops, hops, step_size))
