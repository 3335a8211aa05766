"""The command line as people and machines use it: every command, what it prints where, and how it exits."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.engines import ENGINES, EngineRow, open_engine
from pcsim.view.listing import LISTS
from pcsim.view.sweep_results import sweep_tables

ROOT = Path(__file__).parents[1]
FILES = sorted(
    str(path.relative_to(ROOT)) for folder in ("scenarios", "graphs") for path in (ROOT / folder).glob("*.yaml")
)
FIRST, SKIP, CHAIN = (f"scenarios/{name}.yaml" for name in ("first-steps", "skip-connection", "linear-chain"))


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run in which everything was recorded."""
    target = tmp_path_factory.mktemp("runs") / "first"
    pcsim.simulate(ROOT / FIRST, out=target)
    return str(target)


def apart(*arguments: str) -> str:
    """Return what ``pcsim compare`` prints of runs that differ: its exit code is 1, and nothing is wrong."""
    result = CliRunner().invoke(app, ["compare", *arguments])
    assert (result.exit_code, result.stderr) == (1, "")
    return result.stdout


def call(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    if code == 0:
        assert result.stderr == "" or "ticks" in result.stderr or "runs" in result.stderr
    else:
        assert result.stderr.strip()
        assert "Traceback" not in result.stderr
    return result


def data(*arguments: str) -> Any:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    return json.loads(call(*arguments, "--json").stdout, parse_constant=refuse)


# -- run ----------------------------------------------------------------------------------------------------


def test_run_prints_measures_beside_theory():
    text = call("run", FIRST).stdout
    assert text.splitlines()[0] == "First steps, a small graph with a skip edge and a delay"
    assert "17 (theory: 17), gradient within 0.001" in text
    assert "all 20 ticks done" in text


def test_run_as_json():
    found = data("run", FIRST, "--set", "rule.ticks=5")
    assert (found["status"], found["ticks"]) == ("done", 5)
    assert found["divergence"]["vertices"].keys() == {"h1", "h2", "mix", "y"}


def test_run_out_says_what_to_do_next(tmp_path):
    target = tmp_path / "a folder"
    text = call("run", FIRST, "--out", str(target)).stdout
    assert f"pcsim trace {target}" in text.replace("'", "")
    assert pcsim.open_run(target).manifest["status"] == "done"


def test_run_names_every_engine():
    assert " | ".join([*ENGINES, "auto"]) in call("run", "--help").stdout


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_run_beyond_all_memory_is_refused_in_a_line_before_it_is_taken(tmp_path, monkeypatch, command):
    monkeypatch.setattr("pcsim.engines.array.memory.available", lambda: 2**30)
    sweep = ["--set", "sweep={seed: [1, 2]}"] if command == "sweep" else []
    settings = ["--set", "batch=100000000", *sweep]
    result = call(command, FIRST, *settings, "--out", str(tmp_path / "out"), code=1)
    assert len(result.stderr.strip().splitlines()) == 1
    assert "this machine has 1,024.0 MiB" in result.stderr
    assert "the run needs at least 2,288.8 MiB" in result.stderr  # three numbers a sample
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["numpy", "actors"])
def test_an_engine_takes_no_more_than_there_is(monkeypatch, engine):
    monkeypatch.setattr("pcsim.engines.array.memory.available", lambda: 2**29)
    result = call("run", FIRST, "--set", "batch=2000000", "--engine", engine, code=1)
    assert "the run needs at least" in result.stderr
    assert "MiB (values" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_what_is_measured_takes_no_more_than_there_is(monkeypatch):
    monkeypatch.setattr("pcsim.run.evaluation._backprop_bytes", lambda _: 2**50)
    assert "(backprop, " in call("run", FIRST, code=1).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space")
def test_memory_that_runs_out_is_a_line_and_no_traceback():
    code = "import pcsim.simulate; from pcsim.cli import main; import resource; "
    code += "held = 4096 * int(open('/proc/self/statm').read().split()[0]); "
    code += "resource.setrlimit(resource.RLIMIT_AS, (held + 2**28,) * 2); "
    arguments = ["run", FIRST, "--set", "batch=20000000", "--set", "rule.ticks=5"]
    checked, unchecked = (
        subprocess.run([sys.executable, "-c", code + more, *arguments], capture_output=True, text=True, check=False)
        for more in ("main()", "from pcsim.engines.array import memory; memory.available = lambda: None; main()")
    )
    for done in (checked, unchecked):
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "the run needs at least" in checked.stderr
    assert unchecked.stderr.startswith("the memory ran out: ")


def test_run_takes_an_engine(tmp_path):
    call("run", FIRST, "--engine", "actors", "--out", str(tmp_path / "run"))
    assert pcsim.open_run(tmp_path / "run").manifest["engine"] == "actors"


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("rule.step_size=0.25", "step_size", 0.25),
        ("rule.step_size=1e-1", "step_size", 0.1),
        ("rule=zil", "rule", "zil"),
        ("rule={name: il, ticks: 3}", "horizon", 3),
        ("rule.ticks=levels", "horizon", 4),
        ("title=a=b [c]", "title", "a=b [c]"),
        ("title='5'", "title", "5"),
        (" rule.ticks = 7", "horizon", 7),
    ],
)
def test_set_reads_values_as_a_document_does(setting, key, value):
    assert data("run", FIRST, "--set", setting)[key] == value


def test_titles_are_printed_as_they_are():
    assert "a [b] [/b] :smile:" in call("run", FIRST, "--set", "title='a [b] [/b] :smile:'").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "rule.step_size"], "expected key=value"),
        (["--set", "=3"], "--set '=3': expected key=value"),
        (["--set", "a..b=3"], "not of the form a.b.c"),
        (["--set", "batch="], "--set 'batch=': nothing was given"),
        (["--set", "rule.step_size=[1"], "not valid YAML"),
        (["--set", "rule.step_size=abc"], "rule.step_size"),
        (["--set", "rule.stepsize=1"], "did you mean 'step_size'"),
        (["--set", "ruel.step_size=1"], "did you mean 'rule'"),
        (["--set", "rule=nix"], "(pcsim list rules)"),
        (["--set", "inputs.x=[1,2,3]"], "inputs.x"),
        (["--set", "measure=[divergense]"], "(pcsim list measures)"),
        (["--set", "record=[{what: value, vertices: h9}]"], "no vertex is named 'h9'"),
        (["--engine", "nump"], "did you mean 'numpy'"),
    ],
)
def test_wrong_settings_exit_with_2_and_say_how_to_mend_them(arguments, said):
    result = call("run", FIRST, *arguments, code=2)
    assert said in result.stderr
    assert result.stdout == ""


def test_mistakes_name_their_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text((ROOT / FIRST).read_text().replace("[0.5, -1.0]", "[0.5, -1.0, 3]").replace("op: add", "op: ad"))
    assert f"{path}:9:" in call("run", str(path), code=2).stderr
    path.write_text(path.read_text().replace("op: ad,", "op: add,"))
    assert f"{path}:12:" in call("run", str(path), code=2).stderr


@pytest.mark.parametrize("file", ["scenarios/nix.yaml", "scenarios", "pyproject.toml"])
def test_files_that_are_no_scenario_exit_with_2(file):
    call("run", file, code=2)


def test_a_run_that_fails_exits_with_1(tmp_path):
    result = call(
        "run", "scenarios/millidge-figure-2.yaml", "--set", "inputs.v0=-5", "--out", str(tmp_path / "run"), code=1
    )
    assert "square root of a negative number: -10.0" in result.stderr
    assert pcsim.open_run(tmp_path / "run").manifest["status"] == "failed"


# -- sweep --------------------------------------------------------------------------------------------------


def test_sweep_prints_a_table_and_draws_a_picture(tmp_path):
    text = call("sweep", CHAIN, "--set", "sweep={graph.edges: [2, 4]}", "--out", str(tmp_path / "out")).stdout
    assert "measured (theory)" in " ".join(text.split())
    assert "il γ=0.4" in text
    assert "5 (5)" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"sweep.json", "sweep.jsonl", "ticks.png", "ticks.svg"}
    assert f"in {tmp_path / 'out'}: sweep.jsonl, ticks" in text


def test_sweep_without_a_number_is_a_row_per_run(tmp_path):
    text = call("sweep", SKIP, "--out", str(tmp_path / "out")).stdout
    assert "g3->out" in text
    assert "A skip connection needs levelling (rule zil, step size 1, levels 4, horizon 4)" in text
    assert "no picture: no swept key is a number" in text.splitlines()
    assert "…" not in text


UNEVEN = """
pcsim: graph/1
args: {activation: tanh}
vertices:
  x: {op: input, shape: [2]}
  h1: {op: affine, units: 3, activation: $activation, inputs: [x]}
  h2: {op: affine, units: 3, activation: $activation, inputs: [h1]}
  mix: {op: add, inputs: [h2, h1]}
  y: {op: affine, units: 1, inputs: [mix]}
outputs: [y]
"""
MANY_KEYS = """
pcsim: scenario/1
title: Many keys
graph: {file: graph.yaml}
inputs: {x: [0.5, -1.0]}
targets: {y: 1.0}
rule: {name: il, ticks: 50}
converged: gradient
measure: [ticks_to_convergence, divergence]
sweep: {rule: [il]}
"""


def test_a_sweep_of_several_keys_breaks_no_word(tmp_path):
    axes = "sweep={rule: [il, fpa, zil], level: [none, delay], graph.activation: [tanh, relu]}"
    file = tmp_path / "many.yaml"
    file.write_text(MANY_KEYS)
    (tmp_path / "graph.yaml").write_text(UNEVEN)
    text = call("sweep", str(file), "--set", axes, "--out", str(tmp_path / "out")).stdout
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith("in ")) <= 80
    assert lines[0].startswith("Many keys (")
    assert all(line.endswith(line[0]) for line in lines if line[0] in "┃│")
    heads = " ".join(" ".join(line.split("┃")) for line in lines if line.startswith("┃")).split()
    words = ["rule", "level", "activation", "step", "size", "measured", "theory", "update", "difference"]
    assert sorted(word for word in heads if word in words) == sorted(words)
    assert not {"euclidean", "levels", "run", "horizon", "criterion"} & set(heads)
    rows = [line.split("│")[1:4] for line in lines if line.startswith("│")]
    cells = [[cell.strip() for cell in row] for row in rows if row[0].strip()]
    assert cells == [[a, b, c] for a in ("il", "fpa", "zil") for b in ("none", "delay") for c in ("tanh", "relu")]


def test_a_sweep_too_wide_for_a_table_is_text():
    found = pcsim.sweep(SKIP)
    console = Console(width=30, record=True, file=StringIO())
    console.print(*sweep_tables(found), sep="\n")
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 30
    assert "- level none, update difference 7.824, blame g3->out" in " ".join(text.split())


def test_sweep_as_json(tmp_path):
    found = data("sweep", SKIP, "--out", str(tmp_path / "out"))
    assert found["complete"]
    assert [row["level"] for row in found["rows"]] == ["none", "identity", "delay"]
    assert [row["rule"] for row in found["rows"]] == ["zil"] * 3


def test_sweep_names_rules_not_their_settings(tmp_path):
    axes = "sweep={graph.depth: [1, 2], rule: [{name: fpa, step_size: 1.0, ticks: 40}, {name: zil}]}"
    text = call(
        "sweep", "scenarios/ticks-against-depth.yaml", "--set", axes, "--set", "batch=2", "--out", str(tmp_path / "out")
    ).stdout
    assert "fpa γ=1" in text
    assert "zil γ=1" in text
    assert "{" not in text


def test_runs_that_share_a_label_all_have_a_row(tmp_path):
    axes = "sweep={graph.edges: [2, 3], rule: [{name: il, ticks: 50}, {name: il, ticks: 60}]}"
    text = call("sweep", CHAIN, "--set", axes, "--out", str(tmp_path / "out")).stdout
    assert len([line for line in text.splitlines() if line.startswith("│")]) == 4
    other = call(
        "sweep", CHAIN, "--set", "sweep={graph.edges: [2, 3], rule.ticks: [50, 60]}", "--out", str(tmp_path / "more")
    ).stdout
    assert "ticks 50" in other
    assert "ticks 60" in other


def test_a_sweep_has_a_new_folder_each_time_and_resumes_the_last(tmp_path, monkeypatch):
    scenario = str(ROOT / SKIP)
    monkeypatch.chdir(tmp_path)
    call("sweep", scenario)
    call("sweep", scenario)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["skip-connection", "skip-connection-2"]
    before = (tmp_path / "runs/skip-connection-2/sweep.jsonl").read_text()
    call("sweep", scenario, "--resume")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["skip-connection", "skip-connection-2"]
    assert (tmp_path / "runs/skip-connection-2/sweep.jsonl").read_text() == before


def test_a_sweep_in_which_every_run_fails_exits_with_1_and_draws_nothing(tmp_path):
    arguments = ["sweep", CHAIN, "--set", "sweep={rule.step_size: [3.0, 4.0]}", "--out", str(tmp_path / "out")]
    result = call(*arguments, code=1)
    assert result.stderr.splitlines()[-1] == "2 of 2 runs failed"
    assert "no picture: every run failed" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sweep.json", "sweep.jsonl"]


def test_a_sweep_in_which_some_runs_fail_says_how_many(tmp_path):
    axes = "sweep={rule.step_size: [0.4, 3.0]}"
    result = call("sweep", CHAIN, "--set", axes, "--out", str(tmp_path / "out"))
    assert result.stderr.splitlines()[-1] == "1 of 2 runs failed"
    assert (tmp_path / "out/ticks.png").exists()


def test_a_sweep_stopped_before_its_first_run_names_no_file(tmp_path, monkeypatch):
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("pcsim.sweep"), "simulate", interrupted)
    result = call("sweep", SKIP, "--out", str(tmp_path / "out"), code=130)
    assert "interrupted: 0 of 3 runs done; go on with: " in result.stderr
    assert "sweep.jsonl" not in result.stdout
    assert "no picture: no run is done" in result.stdout


def test_a_diverging_cell_is_told_in_the_table(tmp_path):
    text = call("sweep", CHAIN, "--set", "sweep={rule.step_size: [0.4, 3.0]}", "--out", str(tmp_path / "out")).stdout
    assert "diverged" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([FIRST], "has no 'sweep'"),
        ([SKIP, "--workers", "0"], "1 or more"),
        ([SKIP, "--set", "sweep={rule.name: [nix]}"], "nix"),
        ([SKIP, "--workers", "many"], "--workers"),
    ],
)
def test_wrong_sweeps_exit_with_2(arguments, said, tmp_path):
    assert said in call("sweep", *arguments, "--out", str(tmp_path / "out"), code=2).stderr


def test_a_sweep_does_not_write_over_another(tmp_path):
    call("sweep", SKIP, "--out", str(tmp_path))
    assert "--resume" in call("sweep", SKIP, "--out", str(tmp_path), code=2).stderr


# -- trace, compare, plot -----------------------------------------------------------------------------------


def test_what_did_a_vertex_hold_at_a_tick(folder):
    rows = data("trace", folder, "--vertex", "h2", "--tick", "7")["rows"]
    assert {row["what"] for row in rows} >= {"value", "prediction", "error", "norm"}
    assert {(row["tick"], row["name"]) for row in rows} == {(7, "h2")}
    (value,) = (row["values"] for row in rows if row["what"] == "value")
    assert value == pcsim.open_run(folder).series("value", "h2").sel(tick=7).values.tolist()
    text = call("trace", folder, "--vertex", "h2", "--tick", "7").stdout
    assert "…" not in text
    assert f"{value[0][0]:.4g}" in text


def test_what_crossed_an_edge(folder):
    rows = data("trace", folder, "--edge", "h1->mix", "--tick", "3:9", "--kind", "error")["rows"]
    assert [row["tick"] for row in rows] == list(range(3, 10))
    assert {row["kind"] for row in rows} == {"error"}
    both = data("trace", folder, "--edge", "h1->mix", "--tick", "3:9")["rows"]
    assert len(both) == 14
    assert "h1->mix" in call("trace", folder, "--edge", "h1->mix", "--tick", "3:4").stdout


def test_without_a_question_trace_says_what_there_is(folder):
    found = data("trace", folder)
    assert found["first_arrival"] == {"y": 0, "mix": 1, "h2": 2, "h1": 3}
    assert found["recorded"]["value"]["ticks"] == {"first": 0, "last": 19, "every": 1, "count": 20}
    text = call("trace", folder).stdout
    assert "0 to 19" in text
    assert "when the error first differed from exactly zero" in text


def test_first_arrivals_are_those_of_every_tick_where_the_run_measured_them(tmp_path):
    record = {"record": [{"what": "error", "every": 10}]}
    pcsim.simulate(ROOT / FIRST, record, out=tmp_path / "measured")
    assert data("trace", str(tmp_path / "measured"))["first_arrival"] == {"y": 0, "mix": 1, "h2": 2, "h1": 3}
    assert "every 10)" not in call("trace", str(tmp_path / "measured")).stdout
    pcsim.simulate(ROOT / FIRST, {**record, "measure": ["energy"]}, out=tmp_path / "coarse")
    assert data("trace", str(tmp_path / "coarse"))["first_arrival"] == {"y": 0, "mix": 10, "h2": 10, "h1": 10}
    assert "(to the recorded ticks, every 10)" in " ".join(call("trace", str(tmp_path / "coarse")).stdout.split())


def test_a_run_that_recorded_no_tick_says_so(tmp_path, monkeypatch):
    pcsim.simulate(ROOT / FIRST, out=tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    del manifest["summary"]["first_arrival"]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    whole = pcsim.open_run(tmp_path / "run").trace
    empty = whole.map_over_datasets(lambda node: node.isel(tick=slice(0)) if "tick" in node.dims else node)
    monkeypatch.setattr("pcsim.run.result.open_trace", lambda store: empty)
    text = call("trace", str(tmp_path / "run")).stdout
    assert "no tick was recorded" in text
    assert "never" not in text
    asked = ["trace", str(tmp_path / "run"), "--vertex", "h1", "--tick", "3:4"]
    assert call(*asked, code=2).stderr.strip().endswith("no tick was recorded")


def test_what_a_parameter_was_updated_by(folder):
    rows = data("trace", folder, "--vertex", "h1.weight", "--tick", "7")["rows"]
    assert [(row["what"], row["name"]) for row in rows] == [("update", "h1.weight")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vertex", "h9"], "vertex: the graph has no vertex 'h9'; known: h1, h1.bias"),
        (["--edge", "h1->nope"], "edge: the graph has no edge 'h1->nope'; known: h1->h2, h1->mix, x->h1\n"),
        (["--edge", "h1->mix", "--kind", "norm"], "nothing of kind 'norm' was recorded of edge 'h1->mix'"),
        (["--tick", "9:3"], "ends before it begins"),
        (["--tick", "x"], "7, 3:9"),
        (["--tick", "50"], "recorded: ticks 0 to 19"),
        (["--edge", "h1:mix"], "did you mean 'h1->mix'"),
        (["--kind", "fish"], "kind 'fish'"),
    ],
)
def test_wrong_questions_exit_with_2(folder, arguments, said):
    assert said in call("trace", folder, *arguments, code=2).stderr


def test_a_folder_that_is_no_run(tmp_path):
    for command in (["trace"], ["plot"], ["compare", str(tmp_path)]):
        assert "is not the folder of a run" in call(*command, str(tmp_path / "nix"), code=2).stderr


def test_compare_two_runs(folder, tmp_path):
    pcsim.simulate(ROOT / FIRST, {"rule.step_size": 0.4}, out=tmp_path / "other")
    found = json.loads(apart(folder, str(tmp_path / "other"), "--json"))
    rows = {(row["what"], row["kind"], row["name"]): row for row in found["rows"]}
    assert (found["equal"], found["first"]["tick"]) == (False, 1)
    assert rows["error", None, "y"]["tick"] is None
    assert rows["error", None, "mix"]["tick"] == 1
    assert rows["error", None, "h1"]["absolute"] > 0
    text = apart(folder, str(tmp_path / "other"))
    assert "0.4" in text
    assert "equal in everything" not in text
    assert text.splitlines()[0].startswith("different in ")
    assert "that both recorded, first at tick 1" in " ".join(text.split())
    assert " 0 │" not in text
    same = call("compare", folder, folder).stdout.splitlines()
    assert same[0] == "equal in everything that both recorded"
    assert len(same) < 12


def test_compare_runs_that_recorded_different_things(folder, tmp_path):
    for what in ("energy", "value"):
        pcsim.simulate(ROOT / FIRST, {"record": [{"what": what}]}, out=tmp_path / what)
    text = call("compare", folder, str(tmp_path / "energy")).stdout
    assert "only in the first" in " ".join(text.replace("│", " ").split())
    found = data("compare", str(tmp_path / "energy"), str(tmp_path / "value"))
    assert found["verdict"] == "equal in everything that both recorded"  # what was learnt


def test_plot_says_which_figures_are_missing(tmp_path):
    pcsim.simulate(ROOT / FIRST, {"record": [{"what": "value"}]}, out=tmp_path / "run")
    result = CliRunner().invoke(app, ["plot", str(tmp_path / "run")])
    assert result.exit_code == 0
    assert result.stderr.startswith("not drawn: convergence, errors, heat-map, space-time, energy; to record")
    assert "[divergence, norm, energy]" in result.stderr


def test_a_column_of_a_trace_is_headed_by_what_it_holds(folder):
    assert call("trace", folder, "--kind", "norm").stdout.split("\n")[1].split() == [
        "┃",
        "tick",
        "┃",
        "quantity",
        "┃",
        "name",
        "┃",
        "norm",
        "┃",
    ]
    heads = [line for line in call("trace", folder, "--vertex", "h2").stdout.splitlines() if line.startswith("┃")]
    assert [head.strip() for head in heads[0].split("┃")[1:-1]] == [
        "tick", "quantity", "name", "norm", "minimum", "maximum", "entries",
    ]  # fmt: skip


def test_a_long_array_in_a_trace_is_cut_and_its_shape_told(tmp_path):
    pcsim.simulate(ROOT / FIRST, {"batch": 4, "record": [{"what": "value"}]}, out=tmp_path / "run")
    text = call("trace", str(tmp_path / "run"), "--vertex", "h1", "--tick", "3:4").stdout
    assert "(shape 4 x 3)" in " ".join("".join(text.split("│")[7::8]).split())
    assert len(text.splitlines()) < 14


def test_levels_without_a_prediction_have_a_reason():
    text = " ".join(call("run", FIRST).stdout.split())
    assert "no prediction of this share at level 3: errors come over paths of several lengths or delays" in text
    assert "no prediction of this share: under rule il predictions move" in " ".join(
        call("run", FIRST, "--set", "rule=il").stdout.split()
    )


def test_series_of_a_sweep_without_a_prediction_have_a_reason(tmp_path):
    axes = "sweep={graph.edges: [2, 3], rule.name: [il, fpa]}"
    text = call("sweep", CHAIN, "--set", axes, "--set", "converged=energy", "--out", str(tmp_path / "out")).stdout
    assert "no prediction for runs of il γ=0.4, fpa γ=0.4: theory says nothing" in " ".join(text.split())


def test_plot_draws_figures(folder, tmp_path):
    lines = call("plot", folder, "--out", str(tmp_path / "figures")).stdout.split()
    assert {Path(line).suffix for line in lines} == {".png", ".svg"}
    assert all(Path(line).stat().st_size > 1000 for line in lines)


# -- before a run -------------------------------------------------------------------------------------------


def test_validate_all_that_ships():
    lines = call("validate", *FILES).stdout.splitlines()
    assert [line.split(": ok: ")[0] for line in lines] == FILES


def test_validate_tells_every_mistake_of_every_file(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(
            (ROOT / FIRST).read_text().replace("rule: {name: fpa", "rule: {name: fap").replace("units: 3", "unit: 3")
        )
    result = call("validate", str(tmp_path / "one.yaml"), FIRST, str(tmp_path / "two.yaml"), code=2)
    assert f"{FIRST}: ok" in result.stdout
    for name in ("one", "two"):
        mine = [line for line in result.stderr.splitlines() if line.startswith(f"{tmp_path}/{name}.yaml:")]
        assert any("did you mean 'fpa'" in line for line in mine)
        assert any("units" in line for line in mine)


def test_a_run_is_no_scenario(folder):
    for command in ("validate", "run", "level"):
        said = call(command, f"{folder}/manifest.json", code=2).stderr
        assert "this is a run" in said
        assert f"pcsim trace {folder} " in said
        assert len(said.splitlines()) == 1


def test_an_output_that_is_an_input_is_told_in_english(tmp_path):
    (tmp_path / "graph.yaml").write_text(
        "vertices: {x: {op: input, shape: [1]}, y: {op: relu, inputs: [x]}}\noutputs: [x]\n"
    )
    assert "'x' is an input: it cannot be an output" in call("validate", str(tmp_path / "graph.yaml"), code=2).stderr


def test_plan_tells_sizes_as_they_are():
    found = data("plan", "scenarios/zil-equals-bp.yaml")
    assert (found["vertices"], found["edges"], found["levels"], found["ticks"], found["batch"]) == (10, 9, 9, 9, 64)
    assert found["traffic_per_tick"]["value bytes"] == 9 * 64 * 64 * 8
    assert found["memory"]["parameters"] == 8 * sum(
        value.size for value in pcsim.parameters("scenarios/zil-equals-bp.yaml").values()
    )
    text = call("plan", "scenarios/zil-equals-bp.yaml").stdout
    assert "h2 .. h8" in text


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's account of the peak memory of one process"
)
def test_plan_allocates_nothing():
    arguments = [
        "plan",
        "scenarios/ticks-against-depth.yaml",
        "--json",
        "--set",
        "graph.width=3000",
        "--set",
        "graph.depth=1000",
    ]
    code = "import sys; from pathlib import Path; from pcsim.cli import app; app(sys.argv[1:], standalone_mode=False); "
    code += "peak = [line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line]; "
    code += "sys.stderr.write(peak[0].split()[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(done.stdout)["parameters"] == 2002
    assert json.loads(done.stdout)["memory"]["total"] > 2e11
    assert int(done.stderr) < 300 * 1024  # KiB


def test_level_shows_what_levelling_adds():
    found = data("level", SKIP)
    assert found["levels"] == 4
    assert found["uneven_edges"] == [{"edge": "g3->out", "delay_to_level": 2}]
    assert (found["identity_vertices_added"], found["ticks_of_delay_added"]) == (2, 2)
    assert data("level", "graphs/skip-connection.yaml")["vertices"] == found["vertices"]
    assert "delay that levels it" in call("level", SKIP).stdout
    assert "all paths between two vertices are equally long" in call("level", CHAIN).stdout


@pytest.mark.parametrize("what", list(LISTS))
def test_list_tells_all_in_80_columns(what):
    rows = data("list", what)
    text = call("list", what).stdout
    assert rows
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    flat = "".join(text.replace("│", " ").split())
    for row in rows:
        assert "".join(str(next(iter(row.values()))).split()) in flat


def test_list_of_what_is_not_there(tmp_path, monkeypatch):
    assert "did you mean 'rules'" in call("list", "rulez", code=2).stderr
    monkeypatch.chdir(tmp_path)
    assert "no scenarios here" in call("list", "scenarios").stdout
    assert data("list", "scenarios") == []


@pytest.mark.parametrize("what", ["graph", "scenario"])
def test_schema_is_one_and_knows_the_documents(what):
    found = json.loads(call("schema", what).stdout)
    assert found["$schema"].endswith("2020-12/schema")
    assert found["additionalProperties"] is False
    known = set(found["properties"])
    assert {"pcsim", "title"} <= known
    from pcsim.documents import plain, read

    for file in FILES:
        if file.startswith(what):
            assert set(plain(read(file))) <= known, file
            assert set(found.get("required", [])) <= set(plain(read(file))), file


VERTICES = {"x": {"op": "input", "shape": [2]}, "h": {"op": "affine", "units": 1, "inputs": ["x"]}}
SHORT = {
    "graph": [
        {"vertices": {**VERTICES, "y": {"op": "add", "inputs": ["h", {"from": "h", "delay": 1}]}}, "outputs": ["y"]},
        {"vertices": {**VERTICES, "y": {"op": "add", "inputs": [{"from": "h", "delay": {"value": 1, "error": "$d"}}]}}},
        {"args": {"d": 2, "own": [1, {"a": None}], "up": True},
         "parameters": {"w": {"shape": "$own", "for": {"l": [1]}}},
         "vertices": {"h$(l - 1)": {"op": "affine", "units": "$d", "for": {"l": "1..$d"}, "if": "$(l > 1)",
                                    "bias": "$up", "inputs": ["h$(l - 2)", {"from": "x", "delay": "$d", "if": "$up"}]}},
         "outputs": "$own"},
        {"vertices": {**VERTICES, "cell": {"use": "cell.yaml", "args": {"n": [1]}, "inputs": {"a": "h"},
                                           "params": {"w": "v"}, "for": {"l": "1..3"}, "if": "$(l > 1)"}}},
        {"vertices": {"x": {"op": "input", "shape": []}, "y": {"op": "relu", "inputs": ["x"], "precision": "$p"}}},
        {"formula": "a * b", "parameters": {"a": {"shape": [], "init": {"normal": [0, "$s"]}}}},
    ],
    "scenario": [
        {"graph": {"vertices": VERTICES}, "rule": "zil", "record": [{"what": "error", "vertices": "h1"}]},
        {"graph": {"file": "g.yaml", "args": {"n": [1, 2], "m": {"k": None}}},
         "rule": {"name": "il", "ticks": "levels"},
         "record": [{"what": ["error", "norm"], "vertices": ["h*"], "every": 2}], "stop": "converged"},
        {"graph": {"formula": "a * b"}, "rule": "il", "record": [{"what": "energy", "vertices": "all"}]},
    ],
}  # fmt: skip
WRONG = {
    "graph": [
        {"vertices": VERTICES, "output": ["h"]},
        {"vertices": [VERTICES]},
        {"vertices": {"x": {"shape": [2]}}},
        {"vertices": {"x": {"op": "input"}}},
        {"vertices": {"a ": {"op": "input", "shape": [2]}}},
        {"vertices": {"y": {"op": "add", "inputs": "x"}}},
        {"vertices": {"y": {"op": "add", "inputs": [{"form": "x"}]}}},
        {"vertices": {"y": {"op": "add", "inputs": [{"from": "x", "delay": "two"}]}}},
        {"vertices": {"y": {"op": "add", "inputs": [{"from": "x", "delay": -1}]}}},
        {"vertices": {"y": {"op": "add", "for": "1..3"}}},
        {"vertices": {"y": {"use": "cell.yaml", "input": {"a": "h"}}}},
        {"parameters": {"w": {"shape": ["wide"]}}},
        {"parameters": {"w": {"init": {"normal": [0]}}}},
    ],
    "scenario": [
        {"graph": {"file": "g.yaml"}},
        {"graph": {"fill": "g.yaml"}, "rule": "il"},
        {"graph": {"vertices": {"x": {"shape": [2]}}}, "rule": "il"},
        {"graph": {"file": "g.yaml"}, "rule": 3},
        {"graph": {"file": "g.yaml"}, "rule": {"name": "il", "stepsize": 1}},
        {"graph": {"file": "g.yaml"}, "rule": "il", "batch": "many"},
        {"graph": {"file": "g.yaml"}, "rule": "il", "batch": "$n"},
        {"graph": {"file": "g.yaml"}, "rule": "il", "record": [{"what": "eror"}]},
        {"graph": {"file": "g.yaml"}, "rule": "il", "record": [{"what": "error", "every": 0}]},
        {"graph": {"file": "g.yaml"}, "rule": "il", "level": "deep"},
        {"graph": {"file": "g.yaml"}, "rule": "il", "batches": 3},
    ],
}


@pytest.mark.parametrize("what", ["graph", "scenario"])
def test_the_schema_takes_what_people_write_and_nothing_else(what):
    jsonschema = pytest.importorskip("jsonschema")
    from pcsim.documents import plain, read

    found = json.loads(call("schema", what).stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    checker = jsonschema.Draft202012Validator(found)
    for document in [*(plain(read(file)) for file in FILES if file.startswith(what)), *SHORT[what]]:
        assert not [error.message for error in checker.iter_errors(document)], document
    for document in WRONG[what]:
        assert not checker.is_valid(document), document


def test_schema_of_what_is_not_there():
    assert "did you mean 'graph'" in call("schema", "grap", code=2).stderr


def test_doctor_tells_versions_engines_and_what_is_missing(monkeypatch):
    found = data("doctor")
    assert found["versions"]["pcsim"] == pcsim.__version__
    assert {"actors", "numpy"} <= set(found["engines"])
    for engine in ENGINES:
        assert (engine in found["engines"]) != (f"engine {engine}" in found["missing"])
    for engine in found["engines"]:
        assert callable(open_engine(engine))
    assert found["cores"] >= 1
    flat = "".join(call("doctor").stdout.replace("│", "").split())
    for name, text in {**found["versions"], **found["missing"]}.items():
        assert name.replace(" ", "") in flat
        assert "".join(text.split()) in flat
    monkeypatch.setattr("pcsim.view.diagnosis.OPTIONAL", {"no-such-package": "nothing: pip install no-such-package"})
    monkeypatch.setitem(ENGINES, "none", EngineRow("none", "pcsim.engines.none", ""))
    monkeypatch.setattr("pcsim.view.diagnosis._closed", lambda name: "engine 'none' needs it" if name == "none" else "")
    found = data("doctor")
    assert found["missing"] == {
        "no-such-package": "nothing: pip install no-such-package", "engine none": "engine 'none' needs it"
    }  # fmt: skip
    assert "none" not in found["engines"]


def test_doctor_tells_threads_and_says_if_their_number_is_none(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("PCSIM_THREADS", "3")
    assert data("doctor")["threads"] == 3
    monkeypatch.setenv("PCSIM_THREADS", "x")
    said = "PCSIM_THREADS: expected a whole number of at least 1, got 'x'"
    assert data("doctor")["threads"] == said
    assert said in " ".join(call("doctor").stdout.replace("│", " ").split())
    assert "numba" in data("doctor")["versions"]


# -- the program as a whole ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["validate", "plan", "run", "sweep", "trace", "compare", "plot", "level", "list", "schema", "doctor"]
)
def test_every_command_helps(command):
    assert "Usage:" in call(command, "--help").stdout
    if command != "doctor":
        call(command, code=2)


def test_unknown_commands_and_options_exit_with_2():
    call("frobnicate", code=2)
    call("run", FIRST, "--frobnicate", code=2)


def test_a_pipe_gets_the_answer_and_nothing_else():
    """Progress goes to stderr as plain lines; no control characters anywhere."""
    arguments = ["run", CHAIN, "--set", "stop=null", "--set", "rule.ticks=4000"]
    code = "from pcsim.view import progress; progress.WAIT = 0.05; progress.LINE_EVERY = 0.1; "
    code += "from pcsim.cli import main; main()"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("4000/4000 ticks, ")
    assert all(line.split()[1] == "ticks," for line in done.stderr.splitlines())
    assert "ticks," not in done.stdout
    as_json = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json"], capture_output=True, text=True, env=environment, check=True
    )
    assert as_json.stderr == ""
    assert json.loads(as_json.stdout)["ticks"] == 4000


def test_an_answer_that_cannot_be_written_is_no_traceback():
    code = "from pcsim.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "list", "rules"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_help_is_not_cut_off_in_80_columns():
    assert "..." not in call("--help").stdout.split("Commands:")[1]


@pytest.mark.parametrize("arguments", [["level", CHAIN], ["guide"]])
def test_output_in_plain_ascii_is_no_error(arguments):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    code = "from pcsim.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii")


def test_a_paused_run_goes_on_from_the_command_line_and_is_the_whole_run(tmp_path):
    folder = str(tmp_path / "run")
    said = call("run", FIRST, "--until", "7", "--out", folder).stdout
    assert f"go on with: pcsim run --resume {folder}" in said
    assert pcsim.open_run(folder).manifest["status"] == "paused"
    call("run", "--resume", folder)
    resumed = pcsim.open_run(folder)
    assert resumed.manifest["status"] == "done"
    assert resumed.trace.identical(pcsim.simulate(FIRST).trace)
    assert "goes on with the scenario" in call("run", FIRST, "--resume", folder, code=2).stderr
    assert "name a scenario" in call("run", code=2).stderr


def test_a_run_starts_from_the_parameters_of_a_file(tmp_path):
    doubled = {name: 2 * values for name, values in pcsim.parameters(FIRST).items()}
    np.savez(tmp_path / "w.npz", **doubled)
    call("run", FIRST, "--parameters", str(tmp_path / "w.npz"), "--out", str(tmp_path / "run"))
    wanted = pcsim.simulate(pcsim.load(FIRST), parameters=doubled)
    assert pcsim.open_run(tmp_path / "run").series("error", "h1").identical(wanted.series("error", "h1"))
    assert "no such file" in call("run", FIRST, "--parameters", str(tmp_path / "none.npz"), code=2).stderr


def test_plan_shows_what_the_compiled_engine_makes_of_a_scenario():
    pytest.importorskip("numba")
    rows = json.loads(call("plan", FIRST, "--kernels", "--json").stdout)
    assert [row["on"] for row in rows if row["part"] == "step"] == ["h1", "h2", "mix", "y"]
    assert {"sweep", "tick"} <= {row["part"] for row in rows}
    text = call("plan", FIRST, "--kernels").stdout
    assert "steps of the compiled engine" in text
    assert "affine" in text


def test_run_without_a_folder_says_that_nothing_is_kept(tmp_path):
    kept = "nothing of this run is kept: --out FOLDER keeps its trace and its measures"
    assert kept in call("run", FIRST).stdout.splitlines()
    assert kept not in call("run", FIRST, "--out", str(tmp_path / "run")).stdout
    assert json.loads(call("run", FIRST, "--json").stdout)["folder"] is None
    assert json.loads(call("run", FIRST, "--json", "--out", str(tmp_path / "b")).stdout)["folder"] == str(
        tmp_path / "b"
    )


SHARED = """\
graph:
  parameters: {W: {shape: [2, 2]}}
  vertices:
    x: {op: input, shape: [2]}
    h: {op: affine, units: 2, params: {weight: W}, bias: false, inputs: [x]}
    y: {op: affine, units: 2, params: {weight: W}, bias: false, inputs: [h]}
inputs: {x: 1}
targets: {y: 0}
rule: {name: fpa, ticks: 3}
"""


@pytest.mark.parametrize("asked", [["--vertex", "W"], ["--vertex", "x"], ["--edge", "h->y"], ["--vertex", "h"]])
def test_the_record_that_is_advised_answers_the_question(tmp_path, asked):
    file = tmp_path / "s.yaml"
    file.write_text(SHARED)
    call("run", str(file), "--set", "record=[]", "--out", str(tmp_path / "bare"))
    advice = call("trace", str(tmp_path / "bare"), *asked, code=2).stderr
    record = advice.split("'record: ")[1].split("' to the scenario")[0]
    call("run", str(file), "--set", f"record={record}", "--out", str(tmp_path / "full"))
    assert asked[1] in call("trace", str(tmp_path / "full"), *asked).stdout


def test_an_error_is_not_sought_where_none_goes(tmp_path):
    (tmp_path / "s.yaml").write_text(SHARED)
    call("run", str(tmp_path / "s.yaml"), "--set", "record=[{what: message}]", "--out", str(tmp_path / "run"))
    said = call("trace", str(tmp_path / "run"), "--edge", "x->h", "--kind", "error", code=2).stderr
    assert "no error crosses 'x->h'" in said


@pytest.mark.parametrize(
    ("section", "place"), [("targets: {y: 0}\n", "8:1: targets"), ("inputs: {x: 1}\n", "7:1: inputs")]
)
def test_a_missing_section_is_told_where_it_would_stand(tmp_path, section, place):
    (tmp_path / "s.yaml").write_text(SHARED.replace(section, ""))
    assert f"s.yaml:{place}: " in call("validate", str(tmp_path / "s.yaml"), code=2).stderr
