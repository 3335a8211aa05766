"""What a run will take, told before it is taken."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.run.forecast import Forecast, announcement, forecast

FIRST = str(Path(__file__).parents[1] / "scenarios/first-steps.yaml")
CHAIN = str(Path(__file__).parents[1] / "scenarios/linear-chain.yaml")


def call(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("rule", ["fpa", "il"])
@pytest.mark.parametrize("every", [1, 3])
def test_the_size_of_a_trace_is_known_before_the_run(rule, every):
    overrides = {"rule": {"name": rule, "step_size": 0.1, "ticks": 8}, "batch": 2}
    what = pcsim.load(FIRST).document.record[0].what
    scenario = pcsim.load(FIRST, {**overrides, "record": [{"what": what, "every": every}]})
    tree = pcsim.simulate(scenario).trace
    recorded = [array for node in tree.subtree for array in node.data_vars.values() if "tick" in array.dims]
    assert forecast(scenario).trace[1] == sum(array.nbytes for array in recorded)


def test_plan_tells_time_memory_and_trace_and_marks_them_as_estimates():
    found = json.loads(call("plan", FIRST, "--set", "rule.ticks=1000000", "--json").stdout)["forecast"]
    assert found["estimate"]
    assert 10 < found["seconds"] < 10_000
    assert found["trace_bytes"] == 1_000_000 * found["trace_bytes_per_tick"] > 0
    text = call("plan", FIRST).stdout
    assert all(f"estimate: {key}" in text for key in ("time", "memory", "trace"))


def test_plan_tells_the_rounding_floor_before_the_run():
    settings = ["--set", "rule={name: fpa, step_size: 1.9, ticks: 10}", "--set", "graph.edges=16"]
    found = json.loads(call("plan", CHAIN, *settings, "--json").stdout)
    assert found["forecast"]["rounding_floor"] > 1
    assert any("roundings grow" in text for text in found["warnings"])
    assert json.loads(call("plan", CHAIN, "--json").stdout)["warnings"] == []


def test_plan_says_that_a_run_does_not_fit(monkeypatch):
    monkeypatch.setattr("pcsim.engines.array.memory.available", lambda: 2**30)
    assert "this machine has 1,024.0 MiB" in " ".join(call("plan", FIRST, "--set", "batch=100000000").stdout.split())


def test_a_long_run_is_announced_in_a_line(monkeypatch, tmp_path):
    scenario = pcsim.load(FIRST)
    assert announcement(forecast(scenario), None) == ""
    said = announcement(Forecast(scenario, "numpy", 10**8), tmp_path)
    assert said.startswith("estimate: about ")
    assert said.count("\n") == 0
    monkeypatch.setattr("pcsim.run.forecast.LONG", 0.0)
    assert "estimate: about" in call("run", FIRST).stderr


def test_a_trace_larger_than_the_disk_is_refused_before_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr("pcsim.run.forecast.free_disk", lambda _: 10_000)
    assert (
        "first-steps.yaml:15:1: record: the trace will take"
        in call("run", FIRST, "--out", tmp_path / "run", code=2).stderr
    )
    assert not (tmp_path / "run").exists()
    call("run", FIRST, "--out", tmp_path / "part", "--until", "3")
    call("run", FIRST, "--out", tmp_path / "thin", "--set", "record=[{what: energy}]")


def test_a_document_that_takes_long_to_read_is_announced(monkeypatch, tmp_path):
    assert call("validate", FIRST).stderr == ""
    monkeypatch.setattr("pcsim.view.progress.LONG_READING", 0.0)
    for command in ("validate", "plan"):
        assert call(command, FIRST).stderr.startswith(f"reading {FIRST}: 0.0 MB, about 0 s")
    assert "reading" not in call("validate", tmp_path / "none.yaml", code=2).stderr


# -- sweeps -----------------------------------------------------------------------------------------------

SWEEP = {"seed": [0, 1, 2], "rule.ticks": [5, 10]}


def test_plan_tells_what_a_sweep_keeps_in_all(tmp_path):
    overrides = {"sweep": SWEEP, "record": [{"what": ["value", "norm"], "every": 2}]}
    planned = pcsim.plan(FIRST, overrides)["sweep"]
    found = pcsim.sweep(FIRST, overrides, out=tmp_path / "sweep")
    sizes = [forecast(pcsim.load(run.manifest["scenario"])).trace[1] for run in map(found.run, range(6))]
    assert planned == {"runs": 6, "kept": 6, "trace_bytes": sum(sizes)}
    assert len(set(sizes)) == 2
    assert pcsim.plan(pcsim.load(FIRST, overrides))["sweep"] == planned
    assert pcsim.plan(FIRST, {**overrides, "rule.ticks": 5})["sweep"] == {
        "runs": 3, "kept": 3, "trace_bytes": 3 * min(sizes)
    }  # fmt: skip


def test_plan_knows_which_runs_of_a_sweep_are_kept():
    assert pcsim.plan(FIRST)["sweep"] is None
    assert pcsim.plan(FIRST, {"sweep": SWEEP, "record": None})["sweep"] == {"runs": 6, "kept": 0, "trace_bytes": 0}
    energy, seeds = [{"what": "energy"}], {"seed": [0, 1]}
    for sweep in ({"cases": [{"record": []}, {"record": energy}], **seeds}, {"record": [[], energy], **seeds}):
        found = pcsim.plan(FIRST, {"sweep": sweep})["sweep"]
        assert found == {"runs": 4, "kept": 2, "trace_bytes": 2 * 8 * pcsim.load(FIRST).ticks}


def test_the_command_line_tells_what_a_sweep_keeps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    settings = ["--set", "sweep={graph.edges: [4, 8], seed: [0, 1]}"]
    kept = ["--set", "record=[{what: norm}]"]
    found = json.loads(call("plan", CHAIN, *settings, *kept, "--json").stdout)["sweep"]
    lengths = [
        json.loads(call("plan", CHAIN, "--set", f"graph.edges={edges}", *kept, "--json").stdout) for edges in (4, 8)
    ]
    assert found == {"runs": 4, "kept": 4, "trace_bytes": 2 * sum(one["forecast"]["trace_bytes"] for one in lengths)}
    said = " ".join(call("plan", CHAIN, *settings, *kept).stdout.split())
    assert "estimate: sweep │ 4 runs, 4 kept with their traces: " in said
    assert "4 runs; no trace is kept" in call("plan", CHAIN, *settings, "--set", "record=null").stdout


def test_plan_tells_which_cell_of_a_sweep_is_wrong():
    cases = "sweep={cases: [{label: ok, graph.edges: 4}, {label: none, graph.edges: 0}]}"
    said = call("plan", CHAIN, "--set", cases, "--set", "record=[{what: norm}]", code=2).stderr
    assert "(in the sweep at cases=none)" in said


def test_a_sweep_that_writes_much_is_announced_before_it_runs(monkeypatch, tmp_path):
    settings = ["--set", "sweep={seed: [0, 1]}", "--set", "rule.ticks=5"]
    assert "estimate" not in call("sweep", FIRST, *settings, "--out", tmp_path / "small").stderr
    monkeypatch.setattr("pcsim.run.forecast.LARGE", 1)
    said = call("sweep", FIRST, *settings, "--out", tmp_path / "large").stderr
    assert said.startswith(
        "estimate: 2 of 2 runs are kept with their traces, about 0.0 MiB in all before compression ("
    )
    assert "estimate" not in call("sweep", FIRST, *settings, "--out", tmp_path / "large", "--resume").stderr
    assert "estimate" not in call("sweep", FIRST, *settings, "--set", "record=[]", "--out", tmp_path / "rows").stderr


def test_a_sweep_is_announced_where_little_of_the_disk_is_free(monkeypatch, tmp_path):
    said = []
    overrides = {"sweep": {"seed": [0, 1]}, "rule.ticks": 5}
    trace = pcsim.plan(FIRST, overrides)["sweep"]["trace_bytes"]
    for name, free in (("much", 11 * trace), ("little", 9 * trace)):
        monkeypatch.setattr("pcsim.run.forecast.free_disk", lambda _, free=free: free)
        pcsim.sweep(FIRST, overrides, out=tmp_path / name, announce=said.append)
    assert len(said) == 1
    assert "2 of 2 runs" in said[0]
