"""Each measure on graphs where the answer is known by hand, and what is measured beside what theory says."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import opened
from scipy.stats import nbinom

import pcsim
from pcsim.analysis.measures import MEASURES, _read_out, compare
from pcsim.analysis.theory import predicted_gradient_ticks

ROOT = Path(__file__).parents[1]
GAMMAS = [0.05, 0.3, 0.7, 1.0, 1.5, 1.9]


def layers(depth: int, **changes: Any) -> dict[str, Any]:
    """A chain of ``depth`` hidden layers of 3 units, and an output of 2."""
    names = ["x", *(f"h{number}" for number in range(1, depth + 1))]
    hidden = {
        post: {"op": "affine", "units": 3, "activation": "tanh", "inputs": [pre]}
        for pre, post in itertools.pairwise(names)
    }
    document: dict[str, Any] = {
        "graph": {
            "vertices": {
                "x": {"op": "input", "shape": [4]},
                **hidden,
                "y": {"op": "affine", "units": 2, "inputs": [names[-1]]},
            },
            "outputs": ["y"],
        },
        "inputs": {"x": {"normal": [0, 1]}},
        "targets": {"y": {"normal": [0, 1]}},
        "batch": 2,
        "rule": {"name": "fpa", "step_size": 0.5, "ticks": 40},
        "record": [],
    }
    return {**document, **changes}


def skips(**changes: Any) -> dict[str, Any]:
    """A graph with skip edges, one of them late, so that errors come by paths of several lengths."""
    affine = {"op": "affine", "units": 3, "activation": "tanh"}
    vertices = {
        "x": {"op": "input", "shape": [4]},
        "a": {**affine, "inputs": ["x"]},
        "b": {**affine, "inputs": ["a"]},
        "c": {"op": "add", "inputs": ["b", {"from": "a", "delay": {"value": 0, "error": 4}}]},
        "d": {**affine, "inputs": ["c"]},
        "e": {"op": "multiply", "inputs": ["d", "b"]},
        "y": {"op": "affine", "units": 2, "inputs": ["e"]},
    }
    return layers(1, graph={"vertices": vertices, "outputs": ["y"]}, **changes)


def measured(document: Any, **overrides: Any) -> dict[str, Any]:
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    return pcsim.simulate(document, keys).summary


# -- ticks to convergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("make", [lambda **k: layers(4, **k), skips], ids=["chain", "skips"])
def test_fixed_predictions_take_the_ticks_that_theory_says(make, gamma):
    rule = {"name": "fpa", "step_size": gamma, "ticks": 500}
    found = measured(make(rule=rule, tolerance=1e-4, measure=["ticks_to_convergence"]))["ticks_to_convergence"]
    assert found["ticks"] is not None
    assert found["ticks"] == found["predicted"]
    assert found["criterion"] == "gradient"


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0])
def test_on_a_chain_the_ticks_are_those_of_the_negative_binomial(gamma):
    found = measured(layers(5), rule__step_size=gamma, rule__ticks=300)["ticks_to_convergence"]
    t = np.arange(300)
    late = np.nonzero(nbinom.sf(t - 5, 5, gamma) > 1e-3)[0]
    assert found["ticks"] == late[-1] + 1
    if gamma == 1:
        assert found["ticks"] == 5


def test_what_does_not_converge_is_none_beside_the_horizon():
    summary = measured(layers(4), rule__ticks=4)
    assert summary["ticks_to_convergence"] == {
        "ticks": None,
        "criterion": "gradient",
        "tolerance": 1e-3,
        "horizon": 4,
        "predicted": None,
        "no_prediction": "it lies beyond the last tick of this run",
    }


@pytest.mark.parametrize(
    ("rule", "changes", "reason"),
    [
        ("zil", {"rule.step_size": 0.5}, "rule zil has a prediction at step size 1 only"),
        ("zil", {"initial": "zeros"}, "values do not start from the feedforward sweep"),
        ("fpa", {"rule.step_size": 0.1}, "it lies beyond the last tick of this run"),
        ("il", {"converged": "gradient"}, "under rule il predictions move"),
        ("il", {}, "the graph is not linear"),
        ("il", {"converged": "energy"}, "theory says nothing of the change of free energy"),
    ],
)
def test_a_prediction_that_is_missing_has_a_reason(rule, changes, reason):
    document = {
        "graph": {
            "vertices": {
                "x": {"op": "input", "shape": [2]},
                "h": {"op": "affine", "units": 2, "activation": "tanh", "inputs": ["x"]},
                "g": {"op": "affine", "units": 2, "activation": "tanh", "inputs": ["h"]},
                "y": {"op": "affine", "units": 1, "inputs": ["g"]},
            }
        },
        "inputs": {"x": [1.0, 2.0]},
        "targets": {"y": 1.0},
        "rule": {"name": rule, "ticks": 5},
    }
    found = pcsim.simulate(document, changes).summary["ticks_to_convergence"]
    assert (found["predicted"], found["no_prediction"]) == (None, reason)


def test_numbers_in_sentences_are_plain():
    assert [_read_out(value) for value in (0.00123, 3.14159, 2412.0, 3e9)] == ["0.0012", "3.1", "2,400", "3e+09"]


def test_a_criterion_that_is_left_again_does_not_count_before():
    # beyond step size 1 the error swings around its limit: the last entry decides, not the first
    run = pcsim.simulate(
        layers(1, record=[{"what": "divergence"}], tolerance=0.3), {"rule.step_size": 1.7, "rule.ticks": 60}
    )
    worst = run.trace["series"]["divergence"].values.max(axis=1)
    within = worst <= 0.3
    assert run.summary["ticks_to_convergence"]["ticks"] == np.nonzero(~within)[0][-1] + 1


@pytest.mark.parametrize("criterion", ["settled", "update"])
@pytest.mark.parametrize("edges", [2, 3, 5, 8])
def test_standard_inference_on_a_linear_chain_takes_the_ticks_of_its_modes(edges, criterion):
    overrides = {
        "graph.edges": edges,
        "converged": criterion,
        "stop": "converged",
        "tolerance": 1e-4,
        "rule.ticks": 3000,
    }
    found = pcsim.simulate(ROOT / "scenarios/linear-chain.yaml", overrides).summary["ticks_to_convergence"]
    assert found["ticks"] is not None
    assert found["ticks"] == found["predicted"]
    assert found["criterion"] == criterion


def test_no_theory_is_claimed_where_there_is_none():
    summary = measured(layers(3), rule__name="il", rule__ticks=50)
    assert summary["ticks_to_convergence"]["predicted"] is None


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_zil_takes_a_tick_a_level_and_is_there_at_the_last(depth):
    summary = measured(layers(depth), rule={"name": "zil"})
    assert summary["ticks"] == summary["levels"] == depth + 1
    assert summary["ticks_to_convergence"]["ticks"] == summary["ticks_to_convergence"]["predicted"] == depth
    assert summary["divergence"]["updates"]["relative"] < 1e-13
    assert summary["warnings"] == []


# -- the others ---------------------------------------------------------------------------------------------


def test_energy_by_hand():
    graph = {
        "parameters": {"w": {"shape": [1, 1], "init": {"constant": 2}}},
        "vertices": {
            "x": {"op": "input", "shape": [1]},
            "y": {"op": "affine", "units": 1, "bias": False, "inputs": ["x"], "params": {"weight": "w"}},
        },
        "outputs": ["y"],
    }
    summary = measured(layers(1, graph=graph, inputs={"x": [[1], [2]]}, targets={"y": 5}, batch=2))
    # the errors are 5 - 2 and 5 - 4: sums over the batch, not means
    assert summary["energy"] == {"first": 5, "last": 5, "loss": 5}


def test_traffic_by_hand():
    summary = measured(layers(2), rule__ticks=7)
    # forward x->h1 (4), h1->h2 (3), h2->y (3); back y->h2, h2->h1, none to the source; batch 2, 8 bytes
    per_tick = {"value messages": 3, "value bytes": (4 + 3 + 3) * 16, "error messages": 2, "error bytes": (3 + 3) * 16}
    assert summary["traffic"] == {"per_tick": per_tick, "run": {key: 7 * count for key, count in per_tick.items()}}
    assert measured(layers(2), rule__ticks=7, dtype="float32")["traffic"]["per_tick"]["value bytes"] == 80


@pytest.mark.parametrize("rule", [name for name, row in pcsim.RULES.items() if not row.sweeps])
@pytest.mark.parametrize("make", [lambda **k: layers(3, **k), skips], ids=["chain", "skips"])
def test_no_error_comes_before_its_light_cone(make, rule):
    summary = measured(make(rule={"name": rule, "ticks": 12}, level="delay" if rule == "bp" else "none"))
    assert summary["first_arrival"]["before_light_cone"] == []


def test_first_arrivals_by_hand():
    found = measured(layers(3))["first_arrival"]["vertices"]
    assert {name: entry["tick"] for name, entry in found.items()} == {"y": 0, "h3": 1, "h2": 2, "h1": 3}
    assert all(entry["tick"] == entry["light_cone"] for entry in found.values())
    assert measured(layers(3), rule__ticks=3)["first_arrival"]["vertices"]["h1"] == {"tick": None, "light_cone": 3}


def test_compare_by_hand():
    found = compare(np.array([3.0, 4.0]), np.array([3.0, 0.0]))
    assert found == {"relative": 4 / 3, "cosine": 0.6, "euclidean": 4.0, "max_abs": 4.0}
    zero = np.zeros(2)
    assert compare(zero, zero) == {"relative": 0.0, "cosine": None, "euclidean": 0.0, "max_abs": 0.0}
    assert compare(np.ones(1), np.zeros(1))["relative"] is None
    assert compare(np.zeros(0), np.zeros(0))["euclidean"] == 0.0


def test_compare_of_numbers_whose_squares_do_not_fit():
    huge, tiny = (
        compare(np.array([3e200, 4e200]), np.array([3e200, 0.0])),
        compare(np.array([3e-200, 4e-200]), np.array([3e-200, 0.0])),
    )
    for found in (huge, tiny):
        assert found["relative"] == pytest.approx(4 / 3)
        assert found["cosine"] == pytest.approx(0.6)
    assert compare(np.array([1e308]), np.array([-1e308]))["euclidean"] is None


def test_divergence_names_vertices_parameters_and_the_whole():
    found = measured(layers(2), rule__ticks=3)["divergence"]
    # tick 2, step size 1/2: level 1 has 3/4 of its error, level 2 a quarter
    np.testing.assert_allclose([found["vertices"][name] for name in ("y", "h2", "h1")], [0, 1 / 4, 3 / 4], atol=1e-14)
    assert found["worst_vertex"] == pytest.approx(3 / 4)
    assert found["parameters"]["h1.weight"]["relative"] == pytest.approx(3 / 4)
    assert found["parameters"]["h1.weight"]["cosine"] == pytest.approx(1)
    assert found["parameters"]["y.bias"]["relative"] == 0
    assert found["blame"] == []


def test_the_signal_fraction_is_the_closed_form():
    for ticks in (1, 4, 9):
        found = measured(layers(4), rule__ticks=ticks, rule__step_size=0.3)["signal_fraction"]
        assert list(found) == ["0", "1", "2", "3", "4"]
        for level in range(1, 5):
            wanted = nbinom.cdf(ticks - 1 - level, level, 0.3)
            assert found[str(level)]["measured"] == pytest.approx(wanted, abs=1e-13)
            assert found[str(level)]["predicted"] == pytest.approx(wanted, abs=1e-13)


def test_under_converged_names_the_levels_and_what_came():
    summary = measured(layers(3), rule__ticks=4)
    # tick 3, step size 1/2: level 1 has 7/8, level 2 a half, level 3 an eighth
    (said,) = summary["warnings"]
    assert said.startswith("under-converged: the error still differs from backprop by 0.8")
    assert said.endswith("of the error there arrived, at level 1: 87.5%, level 2: 50.0%, level 3: 12.5%")
    assert measured(layers(3), rule__ticks=60)["warnings"] == []
    still = measured(layers(3), rule={"name": "il", "ticks": 5})["warnings"]
    assert "away from its limit (tolerance 0.001)" in still[0]


def test_the_edge_to_blame_is_named():
    document = ROOT / "scenarios/skip-connection.yaml"
    summary = pcsim.simulate(document, {"level": "none"}).summary
    assert summary["divergence"]["blame"] == ["g3->out"]
    assert summary["divergence"]["updates"]["relative"] > 0.1
    assert any(text.startswith("not levelled: g3->out shorter") for text in summary["warnings"])
    for form in ("delay", "identity"):
        summary = pcsim.simulate(document, {"level": form}).summary
        assert summary["divergence"]["blame"] == []
        assert summary["warnings"] == []


def test_a_wrong_step_size_and_too_few_ticks_are_told():
    summary = measured(layers(3), rule={"name": "zil", "step_size": 0.5, "ticks": 3})
    assert any("equals backprop at step_size 1 only, not at 0.5" in text for text in summary["warnings"])
    assert any(text.startswith("1 of the vertices never fired") for text in summary["warnings"])


def test_late_firing_finds_the_unit_that_is_dead_on_arrival():
    # h is below zero, so relu passes nothing back: where the error is due at h, it is exactly zero
    graph = {
        "vertices": {
            "x": {"op": "input", "shape": [1]},
            "h": {
                "op": "affine",
                "units": 1,
                "inputs": ["x"],
                "init": {"weight": {"constant": 1}, "bias": {"constant": -5}},
            },
            "r": {"op": "relu", "inputs": ["h"]},
            "y": {"op": "affine", "units": 1, "inputs": ["r"], "init": {"weight": {"constant": 1}}},
        },
        "outputs": ["y"],
    }
    summary = measured(layers(1, graph=graph, inputs={"x": 1}, targets={"y": 1}, batch=1, rule="fa-zil"))
    assert summary["late_firing"] == {"h": {"fired": None, "expected": 2}}
    assert any(text == "fired late, with an error exactly zero when it was due: h" for text in summary["warnings"])
    assert measured(layers(3), rule="fa-zil")["late_firing"] == {}
    assert measured(layers(3))["late_firing"] == {}


def test_every_measure_is_in_the_summary_and_alone_when_asked_for_alone():
    summary = measured(layers(2))
    assert set(MEASURES) <= set(summary)
    for name in MEASURES:
        alone = measured(layers(2, measure=[name]))
        assert set(MEASURES) & set(alone) == {name}
        assert alone[name] == summary[name]


def test_the_output_variance_is_taken_out_of_the_divergence():
    near, far = (
        measured(layers(2, rule={"name": "il-variance", "output_variance": k, "step_size": 0.2, "ticks": 400}))[
            "divergence"
        ]
        for k in (1e4, 10.0)
    )
    assert near["updates"]["relative"] < 1e-3 < far["updates"]["relative"]
    assert near["worst_vertex"] < 1e-3


def test_standard_inference_without_hidden_vertices_is_measured():
    """Nothing is free to move: the error is where it ends from the first tick on."""
    document = {"vertices": {"x": {"op": "input", "shape": [2]}, "y": {"op": "affine", "units": 2, "inputs": ["x"]}}}
    run = pcsim.simulate(
        {"graph": document, "inputs": {"x": 1.0}, "targets": {"y": 0.0}, "rule": {"name": "il", "ticks": 5}}
    )
    assert run.summary["divergence"]["updates"]["relative"] == 0
    assert run.summary["ticks_to_convergence"]["ticks"] == 0


def test_float32_settles_where_float64_does():
    """What rounding alone moves counts as arrived."""
    path = ROOT / "scenarios" / "ticks-against-depth.yaml"
    settings = {"graph.depth": 3, "rule": {"name": "il", "step_size": 0.1, "ticks": 1200}, "stop": None, "record": []}
    ticks = [
        pcsim.simulate(path, {**settings, "dtype": dtype}).summary["ticks_to_convergence"]["ticks"]
        for dtype in ("float64", "float32")
    ]
    assert abs(ticks[0] - ticks[1]) <= 0.02 * ticks[0]


def test_a_long_horizon_costs_no_theory():
    """No closed form is worked out for more ticks than could be looked at; nor is memory taken for it."""
    task = pcsim.load(ROOT / "scenarios" / "first-steps.yaml", {"rule.ticks": 10**11}).task()
    assert predicted_gradient_ticks(task, 1e-3) is None


def test_no_difference_is_no_negative_zero():
    for size in (1, 8):
        found = compare(np.ones(size), np.ones(size))
        assert (found["relative"], found["euclidean"], found["max_abs"]) == (0, 0, 0)
        assert not np.signbit([found["relative"], found["euclidean"], found["max_abs"]]).any()


def test_a_loss_beyond_float64_is_told_and_the_run_can_be_saved(tmp_path):
    document = {
        "pcsim": "scenario/1",
        "graph": {"vertices": {"x": {"op": "input", "shape": []}, "h": {"op": "identity", "inputs": ["x"]},
                               "y": {"op": "identity", "inputs": ["h"]}}, "outputs": ["y"]},
        "inputs": {"x": 1.0}, "targets": {"y": 1e160}, "rule": "zil",
    }  # fmt: skip
    run = pcsim.simulate(document)
    assert run.summary["energy"]["loss"] is None
    assert any("beyond float64" in text for text in run.summary["warnings"])
    opened = pcsim.open_run(run.save(tmp_path / "run"))
    assert opened.summary == run.summary


@pytest.mark.parametrize("name", ["actors", "numpy", "numba"])
def test_a_share_that_cancels_is_not_known(name):
    """At step size 5 an error grows by 4 a tick; of its share of backprop's, 1 - (-4)^t, no digit is left later."""
    opened(name)
    vertices = {
        "x": {"op": "input", "shape": [2]},
        "h": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
        "y": {"op": "affine", "units": 1, "inputs": ["h"]},
    }
    document = {"graph": {"vertices": vertices}, "inputs": {"x": [0.5, -1.0]}, "targets": {"y": 1.0}}

    def share(ticks):
        rule = {"name": "fpa", "step_size": 5, "ticks": ticks}
        return pcsim.simulate({**document, "rule": rule}, engine=name).summary["signal_fraction"]["1"]["measured"]

    assert share(12) == pytest.approx(1 - (-4) ** 11, rel=1e-6)
    assert share(30) is None
