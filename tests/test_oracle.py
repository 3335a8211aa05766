"""Whether inference converges, and when, is known before the run: against simulation, closed forms and known cases."""

from __future__ import annotations

import numpy as np
import pytest
from oracle_cases import converges, random_document, simulated, task_of

import pcsim
from pcsim.analysis.oracle import NoLimit, Oracle, oracle
from pcsim.analysis.theory import linear_chain_eigenvalues

TOLERANCE = 1e-3


def chain(layers, *, value=0, error=0, rule=None, function="identity"):
    """Return a chain of scalars with weights of 1 whose last edge has delays."""
    vertices = {"x": {"op": "input", "shape": []}}
    for place in range(layers):
        pre = "x" if not place else f"h{place - 1}"
        late = {"from": pre, "delay": {"value": value, "error": error}} if place == layers - 1 and place else pre
        vertices[f"h{place}"] = {"op": "weighted_sum", "bias": False, "inputs": [late], "activation": function,
                                 "init": {"weight": {"constant": 1.0}}}  # fmt: skip
    graph = {"vertices": {name: {k: v for k, v in one.items() if v != "identity"} for name, one in vertices.items()}}
    return {"graph": graph | {"outputs": [f"h{layers - 1}"]}, "inputs": {"x": 1.0}, "targets": {f"h{layers - 1}": 2.0},
            "rule": rule or {"name": "il", "step_size": 0.4, "ticks": 500}, "record": [], "measure": []}  # fmt: skip


def test_the_spectrum_of_a_chain_is_the_closed_form():
    found = oracle(task_of(chain(8), 0.4, 100))
    wanted = 1 - 0.4 * linear_chain_eigenvalues(1.0, 8)
    assert np.allclose(np.sort(found.leading.real), np.sort(wanted), atol=1e-9)
    assert found.stable_below == pytest.approx(2 / linear_chain_eigenvalues(1.0, 8)[-1], rel=1e-9)


def test_the_limit_is_where_a_long_run_ends():
    task = task_of(random_document(0), 0.03, 6000)
    found, last = oracle(task), simulated(task).last
    assert all(np.allclose(found.limit.error_of(name), error, atol=1e-10) for name, error in last.items())


@pytest.mark.parametrize("seed", range(4))
def test_verdict_ticks_and_stable_limit_are_those_of_simulation(seed):
    document = random_document(seed, longest=3)
    at = oracle(task_of(document, 0.1, 100))
    if isinstance(at, NoLimit):
        swing = max(
            np.ptp(each[-300:], axis=0).max() for each in simulated(task_of(document, 0.02, 1500)).errors.values()
        )
        assert at.kink is not None
        assert swing > TOLERANCE
        return
    limit = {name: at.limit.error_of(name) for name in at.limit.dynamics.shown}
    for factor, wanted in ((0.7, True), (0.97, True), (1.03, False)):
        task = task_of(document, factor * at.stable_below, 1500)
        found, run = oracle(task), simulated(task)
        assert found.stable is wanted
        assert converges(run, limit, 1500) is wanted
        if factor == 0.7:
            outside = np.flatnonzero(run.distances(limit) > TOLERANCE)
            assert found.ticks(TOLERANCE) == pytest.approx(outside[-1] + 1, rel=0.25, abs=3)


def test_long_delays_are_the_companion_matrix_without_it():
    """Frequencies alone say where eigenvalues of the whole matrix cross the unit circle."""
    near = oracle(task_of(chain(3, value=5, error=4), 0.1, 100)).linearised
    assert near.radius(0.995 * near.stable_below) < 1 < near.radius(1.005 * near.stable_below)


@pytest.mark.parametrize("value", [2, 3])
def test_a_delay_beside_the_step_size_makes_a_limit_cycle_that_is_told(value):
    document = chain(2, value=value, rule={"name": "il", "step_size": 1.0, "ticks": 300})
    advice = pcsim.advise(document)
    assert advice.verdict == "does not converge"
    assert "does not shrink" in advice.says[0] or "grows" in advice.says[0]
    run = pcsim.simulate(document | {"stop": {"measure": "limit", "below": 1e-3}})
    assert run.summary["ticks"] == 300
    assert "errors go away from their limit" in run.summary["warnings"][0]
    wise = {"rule.step_size": advice.fastest_step}
    assert simulated(task_of(document, advice.fastest_step, 300)).errors
    assert pcsim.advise(document, wise).ticks == advice.fastest_ticks


@pytest.mark.parametrize("engine", ["actors", "numpy"])
@pytest.mark.parametrize("delays", [{}, {"value": 4, "error": 6}])
def test_a_run_is_judged_by_its_limit_and_beside_it_stands_what_was_predicted(engine, delays):
    document = chain(5, **delays) | {"converged": "limit", "measure": ["ticks_to_convergence"]}
    found = pcsim.simulate(document, {"rule.step_size": 0.2, "rule.ticks": 900}, engine=engine)
    measured = found.summary["ticks_to_convergence"]
    assert measured["ticks"] == measured["predicted"] is not None


def test_other_rules_have_no_limit_of_their_own_to_be_judged_by():
    with pytest.raises(pcsim.InputError, match="'limit' is solved for il"):
        pcsim.simulate(chain(3, rule={"name": "fpa", "step_size": 0.5, "ticks": 50}) | {"converged": "limit"})


def test_advice_of_other_rules():
    fpa = pcsim.advise(chain(6, rule={"name": "fpa", "step_size": 0.5, "ticks": 5}))
    assert (fpa.verdict, fpa.fastest_step, fpa.fastest_ticks) == ("converges", 1.0, 5)
    assert "rule.ticks=" in fpa.says[1]
    grown = pcsim.advise(chain(20, rule={"name": "fpa", "step_size": 1.9, "ticks": 3000}))
    assert grown.verdict == "does not converge"
    assert "roundings grow" in grown.says[0]
    assert pcsim.advise(chain(6, rule={"name": "zil"})).ticks == 5
    with pytest.raises(pcsim.InputError, match="nothing is known of how epc converges"):
        pcsim.advise(chain(3, rule={"name": "epc"}))


def test_what_is_saturated_and_what_rounds_is_told():
    document = chain(3, function="tanh")
    document["graph"]["vertices"]["h0"]["init"]["weight"]["constant"] = 9.0
    assert any("'h0' is saturated" in one or "'h1' is saturated" in one or "vanishes last" in one
               for one in pcsim.advise(document).says)  # fmt: skip
    near = chain(3) | {"targets": {"h2": 1.0 + 1e-6}, "dtype": "float32"}
    assert any("rounding keeps it" in one for one in pcsim.advise(near).says)


def test_a_matrix_that_is_not_written_out_has_the_same_eigenvalues(monkeypatch):
    task = task_of(random_document(3, longest=2), 0.05, 100)
    whole = oracle(task)
    assert isinstance(whole, Oracle)
    monkeypatch.setattr("pcsim.analysis.linearised.MOST_DENSE", 0)
    apart = type(whole.linearised)(whole.limit.dynamics, whole.limit.point)
    assert apart.radius(0.05) == pytest.approx(whole.radius, rel=1e-6)
    monkeypatch.setattr("pcsim.analysis.linearised.MOST_BLOCKS", 0)
    free = type(whole.linearised)(whole.limit.dynamics, whole.limit.point)
    assert free.radius(0.05) == pytest.approx(whole.radius, rel=1e-5)


def test_a_cycle_is_no_other_case():
    vertices = {
        "x": {"op": "input", "shape": [1]},
        "h": {"op": "add", "inputs": ["x", {"from": "back", "delay": {"value": 2}}]},
        "back": {"op": "affine", "units": 1, "bias": False, "inputs": ["h"], "init": {"weight": {"constant": 0.5}}},
        "y": {"op": "affine", "units": 1, "bias": False, "inputs": ["h"], "init": {"weight": {"constant": 1.0}}},
    }
    document = chain(2) | {
        "graph": {"vertices": vertices, "outputs": ["y"]},
        "targets": {"y": [2.0]},
        "inputs": {"x": [1.0]},
        "initial": "zeros",
    }
    found = oracle(task_of(document, 0.1, 2000))
    last = simulated(task_of(document, 0.1, 2000)).last
    assert found.stable
    assert all(np.allclose(found.limit.error_of(name), error, atol=1e-9) for name, error in last.items())
