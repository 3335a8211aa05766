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
