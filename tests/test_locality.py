"""The locality report: what actors read, and what rules need, from facts of their rows and runs beside backprop."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from graph_documents import drawn_scenario
from typer.testing import CliRunner

import pcsim
from pcsim.claims.rule_needs import NEEDS
from pcsim.cli import app
from pcsim.errors import InputError
from pcsim.rules import FIRINGS, RULES

IL = {"name": "il", "step_size": 0.1, "ticks": 60}


def report(stem="mlp", args=(("depth", 3), ("width", 12)), rule=IL, **asked):
    document = drawn_scenario(stem, dict(args), rule=rule, level="none", measure=[], record=[])
    return pcsim.locality(document, **asked)


def counts(found, need):
    return {row["rule"]: row["actors"] for row in found.needs if row["need"] == need}


@pytest.fixture(scope="module")
def compared():
    return report()


def test_actors_read_their_neighbours_alone(compared):
    actors = {row["actor"]: row for row in compared.actors}
    assert (actors["h2"]["values_from"], actors["h2"]["errors_from"]) == (["h1"], ["h3"])
    assert actors["h1"]["sends_with_parameters"] is False, "nothing is sent to an input"
    assert all(actors[name]["sends_with_parameters"] for name in ("h2", "h3", "y"))
    assert actors["y"]["sends_with_inputs"] is False, "y is linear: its slopes depend on no input"
    assert compared.outside == []
    assert all(row["distance"] == row["arrival"] for row in compared.cones)


def test_the_points_of_zahid_et_al(compared):
    rows = {row["rule"]: row for row in compared.rules}
    kept, transposed = counts(compared, "feedforward values kept"), counts(compared, "weights transposed")
    trigger, end = counts(compared, "global trigger of learning"), counts(compared, "phase: end of inference")
    assert [kept[name] for name in ("il", "zil", "fpa", "bp")] == [0, 0, 4, 4]  # point 2
    assert {transposed[name] for name in ("il", "zil", "fpa", "bp")} == {3}
    assert [trigger[name] for name in ("zil", "fa-zil", "il")] == [4, 0, 0]
    assert [end[name] for name in ("zil", "fa-zil", "il", "fpa")] == [0, 0, 4, 4]
    assert rows["zil"]["divergence"] <= 1e-12  # point 1
    assert rows["zil"]["divergence_from_zeros"] > 0.1
    assert rows["il-variance"]["motion"] < 0.1 * rows["il"]["motion"]  # result 1
    assert rows["il"]["alignment"] > 0.999999  # result 2
    assert rows["fpa"]["alignment"] < 0.9


def test_no_rule_is_faster_than_backprop():
    """Result 3, with a processor for each actor."""
    found = report(rules=["fpa", "zil", "fa-zil"], times=True)
    times = {row["rule"]: row["time"] for row in found.rules}
    assert min(times.values()) >= 1
    assert times["il"] > times["fpa"] > times["zil"]


def test_a_new_rule_is_asked_for_its_facts(monkeypatch):
    odd = replace(RULES["fpa"], name="odd", fires=FIRINGS["level"], needs="the phase of the moon", step_size=0.5)
    monkeypatch.setitem(RULES, "odd", odd)
    found = report(rules=["odd"])
    assert counts(found, "global trigger of learning") == {"il": 0, "odd": 4}
    assert counts(found, "feedforward values kept") == {"il": 0, "odd": 4}
    assert counts(found, "phase: end of inference") == {"il": 4, "odd": 0}


def test_needs_of_recurrent_and_convolutional_nets():
    recurrent = report("rnn", (), rules=["zil"])
    assert counts(recurrent, "weights shared by vertices")["il"] == 2
    assert counts(recurrent, "weights shared over positions")["il"] == 0
    small = {"channels": 1, "size": 8, "kernel": 3, "units1": 9, "units2": 7}
    assert counts(report("cnn", small.items(), rules=["fpa"]), "weights shared over positions")["il"] == 2
    skip = report("skip-connection", (), rule={"name": "zil"}, rules=["il"])
    assert counts(skip, "paths of equal length")["zil"] == 1
    assert counts(skip, "paths of equal length")["il"] == 0


def test_every_need_is_told_for_every_rule(compared):
    assert {(row["rule"], row["need"]) for row in compared.needs} == {
        (rule, need.name) for rule in RULES for need in NEEDS}  # fmt: skip
    assert counts(compared, "weights transposed")["epc"] is None, "no actor runs epc"


def test_what_is_wrong_is_told_at_once():
    with pytest.raises(InputError) as told:
        report(vertices=["h9", "h1"], rules=["zill", {"name": "fpa", "step": 1}])
    assert all(text in str(told.value) for text in ("'h9'", "'zill'", "'step'"))
    with pytest.raises(InputError, match="has no ticks to look at"):
        pcsim.locality({**drawn_scenario("mlp", {}, rule="fpa", measure=[], record=[]), "solve": "closed_form"})


def test_the_command_prints_tables_and_json(tmp_path):
    path = tmp_path / "net.json"
    document = {
        "graph": {"vertices": {
            "x": {"op": "input", "shape": [3]},
            "h": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
            "y": {"op": "affine", "units": 2, "inputs": ["h"]}}, "outputs": ["y"]},
        "inputs": {"x": {"normal": [0, 1]}}, "targets": {"y": {"normal": [0, 1]}}, "rule": "zil",
    }  # fmt: skip
    path.write_text(json.dumps(document))
    arguments = ["locality", str(path), "--rule", "fpa", "--rule", "{name: il, ticks: 20}", "--vertex", "h"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "no bit differs before its distance" in shown.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert [row["rule"] for row in found["rules"]] == ["zil", "fpa", "il"]
    assert {row["changed"] for row in found["cones"]} == {"h"}
    assert CliRunner().invoke(app, ["locality", str(path), "--vertex", "z"]).exit_code == 2
