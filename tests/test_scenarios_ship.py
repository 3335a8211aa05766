"""Every graph and scenario that ships is right, runs, and shows what it says in its ``about``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pcsim
from pcsim.errors import RunError
from pcsim.run.validate import validate_file
from pcsim.scenario.data import DataRequest, entry_of, load
from pcsim.sweep import table
from pcsim.trace.entries import QUANTITIES, recorded

ROOT = Path(__file__).parents[1]
GRAPHS, SCENARIOS = (sorted((ROOT / folder).glob("*.yaml")) for folder in ("graphs", "scenarios"))
SMALL: dict[str, dict[str, Any]] = {
    "zil-ablations": {"batch": 4},
    "ticks-against-depth": {"batch": 4, "graph.depth": 3},
    "lstm": {"graph.T": 6},
    "millidge-cnn": {"batch": 2, "rule.ticks": 20},
    "label-inference": {"batch": 8},
}


def name(path: Path) -> str:
    return path.stem


def scenario(stem: str) -> Path:
    return ROOT / f"scenarios/{stem}.yaml"


def rows(stem: str, **overrides: Any) -> list[dict[str, Any]]:
    return table(pcsim.sweep(scenario(stem), overrides))


@pytest.mark.parametrize("path", GRAPHS, ids=name)
def test_every_graph_is_right_and_says_where_it_is_from(path):
    assert ": ok: " in validate_file(path)
    graph = pcsim.load_graph(path)
    assert graph.title
    assert graph.outputs
    assert "source: " in path.read_text()
    assert any(f"graphs/{path.name}" in other.read_text() for other in SCENARIOS)


@pytest.mark.parametrize("path", SCENARIOS, ids=name)
def test_every_scenario_is_right_and_says_what_it_shows(path):
    assert ": ok: " in validate_file(path)
    document = pcsim.load(path).document
    assert document.title
    assert document.about
    assert f"test_{path.stem.replace('-', '_')}" in Path(__file__).read_text(), "no test keeps what it says"


@pytest.mark.parametrize("path", SCENARIOS, ids=name)
@pytest.mark.parametrize("engine", ["actors", "numpy"])
def test_every_scenario_runs(path, engine, tmp_path):
    overrides = {**SMALL.get(path.stem, {}), **({"batch": 2} if engine == "actors" else {})}
    run = pcsim.simulate(path, overrides, engine=engine, out=tmp_path / "run")
    assert run.manifest["status"] == "done"
    assert pcsim.open_run(tmp_path / "run").summary == run.summary


def test_first_steps_records_everything():
    run = pcsim.simulate(scenario("first-steps"))
    kept = {what.removeprefix("value ").removeprefix("error ") for what in recorded(run.trace)}
    assert kept >= {*QUANTITIES} - {"multiplier"}
    assert run.series("message", "h1->mix", kind="error").sizes["tick"] == 20
    assert run.summary["ticks_to_convergence"]["ticks"] == run.summary["ticks_to_convergence"]["predicted"] == 17


def test_sparse_population_is_reached_synapse_by_synapse():
    """Errors of b come over synapses of delay 0 to 7: a has backprop's once the last of them is in, and not before."""
    run = pcsim.simulate(scenario("sparse-population"))
    error = run.series("error", "a").values
    reached = (error != 0).any(axis=1).sum(axis=-1)
    settled = np.isclose(error, error[-1], rtol=1e-12).all(axis=1).sum(axis=-1)
    assert not reached[:2].any()
    assert 500 < reached[2] < 900
    assert (np.diff(settled) >= 0).all()
    assert settled[8] < 500
    assert (settled[9:] == 1000).all()
    assert run.summary["ticks_to_convergence"]["ticks"] == run.summary["ticks_to_convergence"]["predicted"] == 9
    assert run.summary["divergence"]["updates"]["relative"] < 1e-12


def test_infinite_variance_falls_as_one_over_k():
    found = {row["rule.output_variance"]: row["updates_relative"] for row in rows("infinite-variance")}
    assert found[1] > 0.1
    for k in (100, 1000):
        assert found[10 * k] * 10 == pytest.approx(found[k], rel=0.05)


def test_light_cone_is_exactly_zero_before():
    run = pcsim.simulate(scenario("light-cone"))
    for vertex, away in {"h16": 1, "h8": 9, "h1": 16}.items():
        errors = run.series("error", vertex).values
        assert not errors[:away].any()
        assert errors[away].any()
    vertices = run.summary["first_arrival"]["vertices"]
    assert [vertices[f"h{number}"]["tick"] for number in range(1, 17)] == list(range(16, 0, -1))
    assert run.summary["first_arrival"]["before_light_cone"] == []


def test_linear_chain_takes_ticks_as_the_square_of_its_length():
    found = {row["graph.edges"]: row for row in rows("linear-chain")}
    assert all(row["measured"] == row["predicted"] is not None for row in found.values())
    edges = [8, 16, 32]
    slope = np.polyfit(np.log(edges), np.log([found[number]["measured"] for number in edges]), 1)[0]
    assert slope == pytest.approx(2, abs=0.15)


def test_millidge_figure_2_is_stable_below_step_size_2():
    found = rows("millidge-figure-2")
    assert max(row["step_size"] for row in found) == 1.9
    assert all(row["measured"] == row["predicted"] is not None for row in found)
    assert all(row["updates_relative"] < 1e-5 for row in found)
    beyond = pcsim.simulate(
        scenario("millidge-figure-2"), {"rule.step_size": 2.1, "measure": ["ticks_to_convergence"]}
    ).summary
    assert beyond["ticks_to_convergence"]["ticks"] is None


def test_millidge_figure_2_finds_the_derivative_of_the_formula():
    theta, v0, target = 2.0, 5.0, 3.0
    root = np.sqrt(theta * v0)
    away = target - (np.tan(root) + np.sin(v0**2))
    slope = 1 / np.cos(root) ** 2 / (2 * root)
    run = pcsim.simulate(scenario("millidge-figure-2"))
    np.testing.assert_allclose(run.updates["theta"], away * slope * v0, rtol=1e-12)
    # the figure's own question: the derivative by v0, here a parameter too
    document = {
        "graph": {
            "formula": "tan(sqrt(theta * v0)) + sin(v0**2)",
            "parameters": {"theta": {"init": {"constant": theta}}, "v0": {"init": {"constant": v0}}},
        },
        "rule": {"name": "fpa", "step_size": 0.5, "ticks": 200},
    }
    (output,) = pcsim.load({**document, "targets": {}}).graph.outputs
    update = pcsim.simulate({**document, "targets": {output: target}}).updates["v0"]
    np.testing.assert_allclose(update, away * (slope * theta + np.cos(v0**2) * 2 * v0), rtol=1e-12)


def test_skip_connection_needs_levelling():
    found = {row["level"]: row for row in rows("skip-connection")}
    assert found["none"]["updates_relative"] > 0.1
    assert found["none"]["blame"] == "g3->out"
    assert found["identity"]["updates_relative"] < 1e-14
    assert found["delay"]["updates_relative"] < 1e-14


def test_ticks_against_depth_is_what_theory_says():
    found = rows(
        "ticks-against-depth",
        batch=8,
        sweep={**pcsim.load(scenario("ticks-against-depth")).document.sweep, "graph.depth": [1, 4, 8]},
    )
    ticks = {(row["graph.depth"], row["rule"], row["step_size"]): row["measured"] for row in found}
    for row in found:
        if row["rule"] == "fpa":
            assert row["measured"] == row["predicted"] is not None
        if row["rule"] == "zil":
            assert row["ticks_run"] == row["levels"] == row["graph.depth"] + 1
    for depth in (4, 8):
        assert ticks[depth, "fpa", 1.0] == ticks[depth, "zil", 1.0] == depth
        assert ticks[depth, "il", 0.1] > 2 * ticks[depth, "fpa", 0.1]


def test_zil_ablations_only_the_whole_is_backprop():
    found = {row["cases"]: row["updates_relative"] for row in rows("zil-ablations")}
    assert len(found) == 5
    assert found.pop("Z-IL") < 1e-14
    assert min(found.values()) > 0.1


def test_zil_equals_bp_to_rounding():
    run = pcsim.simulate(scenario("zil-equals-bp"))
    assert run.summary["divergence"]["updates"]["relative"] < 1e-14
    assert run.summary["ticks"] == run.summary["levels"] == 9
    wanted = pcsim.gradients(scenario("zil-equals-bp"))
    for parameter, update in run.updates.items():
        np.testing.assert_allclose(update, wanted[parameter], rtol=0, atol=1e-13)


def test_rnn_many_to_one_is_backprop_as_it_stands():
    for length in (1, 8, 11):
        report = pcsim.simulate(scenario("rnn-many-to-one"), {"graph.T": length}).summary["divergence"]
        assert report["updates"]["relative"] < 1e-13
        assert report["blame"] == []


def test_lstm_over_100_steps_is_backprop_through_time():
    run = pcsim.simulate(scenario("lstm"), {"batch": 2, "graph.units": 8})
    assert run.summary["levels"] == 601
    assert run.summary["divergence"]["updates"]["relative"] < 1e-13


def test_millidge_figure_9_grows_linearly_and_as_the_closed_form_says():
    """Far from both ends each step adds the same; the closed form of short sequences says how much."""
    small = {"batch": 2, "graph.units": 6}
    short = rows("millidge-figure-9", sweep={"graph.T": [10, 20], "solve": ["simulate", "closed_form"]}, **small)
    distance = {(row["graph.T"], row["solve"]): row["updates_euclidean"] for row in short}
    for length in (10, 20):
        assert distance[length, "simulate"] == pytest.approx(distance[length, "closed_form"], rel=1e-10)
    slope = (distance[20, "closed_form"] - distance[10, "closed_form"]) / 10
    long = rows("millidge-figure-9", sweep={"graph.T": [30, 50]}, **small)
    for row in long:
        expected = distance[20, "closed_form"] + slope * (row["graph.T"] - 20)
        assert row["updates_euclidean"] == pytest.approx(expected, rel=0.01)
    measured = [(length, distance[length, "simulate"]) for length in (10, 20)]
    measured += [(row["graph.T"], row["updates_euclidean"]) for row in long]
    assert np.corrcoef(*zip(*measured, strict=True))[0, 1] > 0.9999


def test_gru_levelled_in_either_form_is_backprop_through_time():
    assert [row["updates_relative"] < 1e-13 for row in rows("gru")] == [True, True]


def test_residual_depth_needs_levelling_at_every_depth():
    for row in rows("residual-depth", batch=2, **{"graph.width": 16}):
        if row["level"] == "delay":
            assert row["updates_relative"] < 1e-13
        else:
            assert row["updates_relative"] > 0.1
            assert row["blame"].split(", ") == [f"h{layer - 1}->h{layer}" for layer in range(1, row["graph.depth"] + 1)]


def test_salvatori_table_1_residual_networks_differ_and_the_skip_edges_are_to_blame():
    found = {row["cases"]: row for row in rows("salvatori-table-1", batch=4)}
    assert "grew beyond" in found.pop("Transformer")["error"]
    assert {name: bool(row["blame"]) for name, row in found.items()} == {
        name: row["updates_relative"] > 1e-12 for name, row in found.items()
    }
    assert [name for name, row in found.items() if row["blame"]] == ["fully connected ResNet", "ResNet-18"]


def test_millidge_cnn_converges_when_theory_says():
    found = pcsim.simulate(
        scenario("millidge-cnn"), {"batch": 2, "measure": ["ticks_to_convergence", "signal_fraction"]}
    )
    ticks = found.summary["ticks_to_convergence"]
    assert ticks["ticks"] == ticks["predicted"] == 159
    shares = found.summary["signal_fraction"].values()
    assert all(share["measured"] == pytest.approx(share["predicted"], rel=1e-9) for share in shares)


def test_gan_updates_both_networks_as_backprop_does():
    run = pcsim.simulate(scenario("gan"))
    assert run.summary["divergence"]["updates"]["relative"] < 1e-13
    assert np.abs(run.updates["g1.weight"]).max() > 0


def test_transformer_levelled_is_backprop_and_as_it_stands_has_no_end():
    found = rows("transformer")
    assert len(found) == 4
    assert all(row["updates_relative"] < 1e-13 for row in found)
    with pytest.raises(RunError, match="say level: delay or level: identity"):
        pcsim.simulate(scenario("transformer"), {"level": "none"})


def test_gpt_is_backprop_with_a_shared_embedding():
    assert pcsim.load(scenario("gpt")).warnings() == []
    run = pcsim.simulate(scenario("gpt"))
    assert run.summary["divergence"]["updates"]["relative"] < 1e-13
    assert pcsim.load(scenario("gpt")).graph.uses["E"] == ("meaning", "next")


def test_random_dag_is_backprop_whatever_the_seed():
    found = rows("random-dag")
    assert len(found) == 8
    assert all(row["updates_relative"] < 1e-13 for row in found)


def digits(field: str) -> Any:
    """Return a field of the data set, whole."""
    request = DataRequest((), 1797, lambda *_: None, ROOT, whole=True)
    return load(entry_of({"dataset": "digits", "field": field}), request)


def inferred(run: Any) -> Any:
    """Return the digit that each sample's label has come to rest at."""
    return run.series("value", "label").values[-1].argmax(axis=-1)


def test_label_inference_finds_the_digit():
    run = pcsim.simulate(scenario("label-inference"))
    labels = digits("labels")[1500:]
    assert (run.series("value", "label").values[0] == 0.1).all()
    assert (inferred(run) == labels).mean() > 0.83


def test_label_inference_with_weights_learnt_here():
    """The same graph learns with labels given and images clamped; what it has learnt then tells labels of others."""
    given = {"inputs": {"prior": {"dataset": "digits", "field": "one_hot"}}, "rule": "zil", "record": [],
             "targets": {"image": {"dataset": "digits"}}, "batch": 300, "parameters": None, "measure": []}  # fmt: skip
    learning = pcsim.load(scenario("label-inference"), given)
    weights = {name: values.copy() for name, values in learning.parameters().items()}
    speed = {name: np.zeros_like(values) for name, values in weights.items()}
    for _ in range(60):
        for name, update in pcsim.simulate(learning.with_parameters(weights)).updates.items():
            speed[name] = 0.9 * speed[name] + update / 300
            weights[name] += 0.1 * speed[name]
    run = pcsim.simulate(pcsim.load(scenario("label-inference"), {"parameters": None}).with_parameters(weights))
    labels = digits("labels")[1500:]
    assert (inferred(run) == labels).mean() > 0.5


def test_train_collapse():
    """What it says is kept by tests/test_spectrum.py, which trains it with and without."""
    entry = pcsim.load(ROOT / "scenarios" / "train-collapse.yaml").document.train
    assert entry is not None
    assert entry.step_size is not None


@pytest.mark.parametrize("data", ["digits", "shakespeare"])
def test_train_gpt(data):
    settings = {"train.steps": 12, "train.compare.every": 4, "engine": "numpy", "train.validate.samples": 32}
    if data == "shakespeare":
        folder = Path(os.environ.get("PCSIM_DATA", "../shared/data"))
        if not (folder / "shakespeare" / "input.txt").exists():
            pytest.skip(f"no text of Shakespeare in {folder}: set PCSIM_DATA")
        text = {"dataset": "text", "length": 8, "shuffle": True}
        settings |= {"graph.vocabulary": 65, "inputs": {"tokens": {**text, "field": "input_labels"}},
                     "targets": {"next": {**text, "field": "targets"}}}  # fmt: skip
    path = ROOT / "scenarios" / "train-gpt.yaml"
    trained = {rule: pcsim.train(path, {"rule": rule, **settings}) for rule in ("zil", "bp")}
    assert float(trained["zil"].log["divergence"].max()) < 1e-10
    assert trained["zil"].log["loss"].values == pytest.approx(trained["bp"].log["loss"].values, rel=1e-9)
    assert float(trained["zil"].log["loss"][-1]) < 0.9 * float(trained["zil"].log["loss"][0])


def test_train_digits():
    document = pcsim.load(ROOT / "scenarios" / "train-digits.yaml").document
    trained = {rule: pcsim.train(ROOT / "scenarios" / "train-digits.yaml", {"rule": rule}) for rule in ("zil", "bp")}
    assert document.train is not None
    assert trained["zil"].summary["test_accuracy"] > 0.95
    assert float(trained["zil"].log["divergence"].max()) < 1e-12
    for name, wanted in trained["bp"].parameters.items():
        np.testing.assert_allclose(trained["zil"].parameters[name], wanted, rtol=1e-10, atol=1e-12)


def test_credit_at_depth_is_late_under_il_and_whole_under_zil():
    found = {row["cases"]: row for row in rows("credit-at-depth")}
    assert found["mu-PC"]["credit_least"] < 1e-10
    assert found["sPC"]["credit_least"] < found["mu-PC"]["credit_least"]
    assert found["mu-PC at equilibrium"]["credit_least"] > 0.1
    assert found["ePC"]["credit_least"] > 0.1
    assert found["PC-ALM"]["credit_cosine"] > 0.9
    assert found["zil"]["updates_relative"] < 1e-12


def test_pc_alm_takes_ticks_as_the_depth_and_il_as_its_square():
    found = {(row["cases"], row["graph.edges"]): row["measured"]
             for row in rows("pc-alm", sweep={"graph.edges": [8, 16, 32], "cases": [
                 {"label": "alm"}, {"label": "il", "rule.name": "il"}]})}  # fmt: skip
    for edges in (8, 16):
        assert found["alm", 2 * edges] / found["alm", edges] == pytest.approx(2, rel=0.1)
        assert found["il", 2 * edges] / found["il", edges] == pytest.approx(4, rel=0.1)


def test_wide_and_deep_nets_learn_backprop_where_they_are_wide():
    found = {(row["graph.width"], row["graph.depth"]): row["credit_cosine"]
             for row in rows("wide-and-deep", sweep={"graph.width": [16, 64, 256], "graph.depth": [4, 16],
                                                     "solve": ["equilibrium"]})}  # fmt: skip
    assert found[16, 16] < found[64, 16] < found[256, 16]
    assert found[64, 16] < found[64, 4] < found[256, 4]
    assert found[256, 4] > 0.999
    assert found[16, 4] == pytest.approx(found[64, 16], abs=0.05)  # of one ratio


def test_early_energy_arrives_with_all_other_once_the_graph_is_levelled():
    """7 edges lead from y to h0 over skips alone, 13 through every branch."""
    for level, first in (("none", 7), ("identity", 13), ("delay", 13)):
        run = pcsim.simulate(scenario("early-energy"), {"level": level})
        assert run.summary["first_arrival"]["vertices"]["h0"]["tick"] == first
        branches = run.series("norm", "f1").values
        assert int((branches != 0).argmax()) == (7 if level == "none" else 12)
