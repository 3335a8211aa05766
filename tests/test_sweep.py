"""Sweeps: the grid, its rows, what is kept and what is run again."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.sweep import _longest_first, _worthwhile, grid, label_of, overrides_of, replicates, table
from pcsim.view.sweep_results import no_picture, sweep_picture, sweep_tables

ROOT = Path(__file__).parents[1]
DEPTHS = ROOT / "scenarios/ticks-against-depth.yaml"
SKIP = ROOT / "scenarios/skip-connection.yaml"
CHAIN = ROOT / "scenarios/linear-chain.yaml"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The overrides of each cell that is really run."""
    module = importlib.import_module("pcsim.sweep")
    calls: list[dict[str, Any]] = []
    simulate = module.simulate
    monkeypatch.setattr(module, "simulate", lambda *args, **kwargs: calls.append(args[1]) or simulate(*args, **kwargs))
    return calls


def steps(axes: dict[str, list[Any]], **overrides: Any) -> dict[str, Any]:
    return {"sweep": axes, "measure": ["ticks_to_convergence"], **overrides}


def same(first: Any, second: Any) -> bool:
    def plain(found: Any) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in found.rows]

    return plain(first) == plain(second)


def test_a_grid_is_every_combination_in_order():
    assert grid({"a": [1, 2], "b": ["x", "y"]}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert grid({}) == [{}]


def test_a_case_stands_for_its_overrides():
    case = {"label": "slow", "rule.step_size": 0.1}
    assert overrides_of({"graph.depth": 2, "cases": case}) == {"graph.depth": 2, "rule.step_size": 0.1}
    assert label_of(case) == "slow"
    assert label_of({"rule": "il", "seed": 1}) == "rule=il, seed=1"
    with pytest.raises(pcsim.InputError, match="expected a case such as"):
        label_of("slow")


def test_the_main_scenario_measures_what_theory_says():
    axes = {"graph.depth": [1, 2, 4], "rule": [
        {"name": "fpa", "step_size": 0.1, "ticks": 600}, {"name": "fpa", "step_size": 0.5, "ticks": 200},
        {"name": "fpa", "step_size": 1.0, "ticks": 40}, {"name": "zil"},
    ]}  # fmt: skip
    found = pcsim.sweep(DEPTHS, {"sweep": axes, "batch": 8})
    assert found.complete
    assert found.keys == ("graph.depth", "rule")
    assert len(found.rows) == 12
    for row in table(found):
        assert row["measured"] == row["predicted"] is not None
        assert row["levels"] == row["graph.depth"] + 1
        if row["rule"] == "zil":
            assert row["ticks_run"] == row["levels"]
            assert row["measured"] == row["graph.depth"]
        if row["step_size"] == 1.0:
            assert row["measured"] == row["graph.depth"]
    assert [row["graph.depth"] for row in found.rows] == [1] * 4 + [2] * 4 + [4] * 4


def test_progress_is_told_with_each_row():
    told: list[tuple[int, int, str]] = []
    pcsim.sweep(SKIP, progress=lambda done, cells, row: told.append((done, cells, row["rule"])))
    assert told == [(1, 3, "zil"), (2, 3, "zil"), (3, 3, "zil")]


def test_overrides_of_the_caller_fix_what_would_be_swept():
    found = pcsim.sweep(
        DEPTHS, {"graph.depth": 2, "batch": 2, "sweep": {"graph.depth": [1, 2, 4], "rule.step_size": [0.5, 1.0]}}
    )
    assert found.keys == ("rule.step_size",)
    assert [row["levels"] for row in found.rows] == [3, 3]


def test_a_setting_of_the_caller_also_changes_a_section_that_is_swept():
    axes = {"rule": [{"name": "fpa", "step_size": 0.5, "ticks": 600}, {"name": "fpa", "step_size": 1.0, "ticks": 600}]}
    found = pcsim.sweep(DEPTHS, {"sweep": axes, "batch": 2, "rule.ticks": 77})
    assert [(row["step_size"], row["horizon"]) for row in found.rows] == [(0.5, 77), (1.0, 77)]


def test_more_workers_give_the_same_rows(tmp_path):
    axes = {"graph.edges": [2, 3, 4], "rule.step_size": [0.3, 0.4]}
    one = pcsim.sweep(CHAIN, steps(axes), out=tmp_path / "one")
    two = pcsim.sweep(CHAIN, steps(axes), out=tmp_path / "two", workers=2)
    assert same(one, two)
    assert two.complete
    again = pcsim.sweep(CHAIN, steps(axes), out=tmp_path / "two", resume=True)
    assert same(one, again)


def test_a_cell_that_fails_is_a_row_with_the_reason(tmp_path):
    found = pcsim.sweep(CHAIN, steps({"rule.step_size": [0.4, 3.0]}), out=tmp_path)
    assert found.complete
    good, bad = found.rows
    assert "error" not in good
    assert "grew beyond float64" in bad["error"]
    assert (bad["rule"], bad["step_size"], bad["horizon"]) == ("il", 3.0, 6000)
    assert [row["measured"] is None for row in table(found)] == [False, True]
    assert table(found)[1]["error"] == bad["error"]


def test_resume_runs_only_what_is_not_there(tmp_path, counted):
    axes = {"graph.edges": [2, 3]}
    first = pcsim.sweep(CHAIN, steps(axes), out=tmp_path)
    assert len(counted) == 2
    assert same(pcsim.sweep(CHAIN, steps(axes), out=tmp_path, resume=True), first)
    assert len(counted) == 2
    # a longer sweep is the same scenario in each cell that it had before
    longer = pcsim.sweep(CHAIN, steps({"graph.edges": [2, 3, 4]}), out=tmp_path, resume=True)
    assert [call["graph.edges"] for call in counted[2:]] == [4]
    assert longer.complete
    # but another seed is another scenario
    pcsim.sweep(CHAIN, steps(axes, seed=1), out=tmp_path, resume=True)
    assert len(counted) == 5


def test_a_line_cut_short_is_run_again_and_spoils_no_other(tmp_path, counted):
    axes = {"graph.edges": [2, 3, 4]}
    whole = pcsim.sweep(CHAIN, steps(axes), out=tmp_path)
    path = tmp_path / "sweep.jsonl"
    path.write_text(path.read_text()[:-40])
    assert same(pcsim.sweep(CHAIN, steps(axes), out=tmp_path, resume=True), whole)
    assert len(counted) == 4
    assert same(pcsim.sweep(CHAIN, steps(axes), out=tmp_path, resume=True), whole)
    assert len(counted) == 4


def test_rows_on_disk_are_json_by_digest(tmp_path):
    pcsim.sweep(SKIP, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"digest", "coordinates", "row"}] * 3
    assert len({line["digest"] for line in lines}) == 3
    assert lines[0]["digest"] == pcsim.load(SKIP, {"level": "none", "sweep": {}}).digest


def test_rows_that_are_there_are_not_overwritten(tmp_path, counted):
    pcsim.sweep(SKIP, out=tmp_path)
    with pytest.raises(pcsim.InputError, match="resume the sweep"):
        pcsim.sweep(SKIP, out=tmp_path)
    assert len(counted) == 3


@pytest.mark.parametrize(
    ("source", "overrides", "said"),
    [
        (CHAIN, {"sweep": {"graph.edges": [2, "many"]}}, "edges"),
        (CHAIN, {"sweep": {"graph.egdes": [2]}}, "did you mean 'edges'"),
        (CHAIN, {"sweep": {"rule.name": ["il", "li"]}}, "unknown rule 'li'"),
        (CHAIN, {"sweep": {"rule.step_size": [0.1, -1]}}, "above 0"),
        (CHAIN, {"sweep": {"rule.step_size": []}}, "at least one value"),
        (CHAIN, {"sweep": {"cases": ["slow"]}}, "case"),
        (CHAIN, {"measure": ["tick_to_convergence"]}, "did you mean 'ticks_to_convergence'"),
        (CHAIN, {"sweep": {"inputs.x0": [1, [1, 2]]}}, r"inputs\.x0: .*in the sweep at inputs\.x0=\[1, 2\]"),
        (DEPTHS, {"sweep": {"batch": [2, 5000]}}, "fewer than start 0 .* batch 5000"),
        (ROOT / "scenarios/first-steps.yaml", {}, "has no 'sweep'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(source, overrides, said, counted, tmp_path):
    with pytest.raises(pcsim.InputError, match=said):
        pcsim.sweep(source, overrides, out=tmp_path / "out")
    assert counted == []
    assert not (tmp_path / "out").exists()


def test_wrong_arguments(tmp_path):
    with pytest.raises(pcsim.InputError, match="expected 1 or more"):
        pcsim.sweep(SKIP, workers=0)
    with pytest.raises(pcsim.InputError, match="unknown engine 'nump'"):
        pcsim.sweep(SKIP, engine="nump", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(pcsim.RunError, match="cannot write"):
        pcsim.sweep(SKIP, out=tmp_path / "file/out")


def test_the_actors_can_sweep_too():
    assert [row["divergence"]["updates"]["relative"] < 1e-12 for row in pcsim.sweep(SKIP, engine="actors").rows] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_cells_that_tick_together_give_the_rows_that_they_give_alone(workers, counted):
    axes = {"rule.step_size": [0.4, 3.0], "inputs.x0": [1.0, 2.0], "graph.edges": [2, 3]}
    alone = pcsim.sweep(CHAIN, steps(axes), together=False)
    assert len(counted) == 8
    together = pcsim.sweep(CHAIN, steps(axes), workers=workers)
    assert len(counted) == 8
    assert same(alone, together)
    assert sum("error" in row for row in together.rows) == 4


def test_processes_are_taken_where_runs_are_long(monkeypatch):
    long = [pcsim.load(CHAIN, {"sweep": {}, "rule.ticks": 10**6, "rule.step_size": step}) for step in (0.3, 0.4)]
    short = [pcsim.load(CHAIN, {"sweep": {}, "rule.ticks": 10, "rule.step_size": step}) for step in (0.3, 0.4)]
    monkeypatch.setattr(importlib.import_module("pcsim.sweep"), "cores", lambda: 2)
    assert _worthwhile(long, "numpy") == 2
    assert _worthwhile(short, "numpy") == _worthwhile([], "numpy") == _worthwhile(long, "numba") == 1
    monkeypatch.setattr(importlib.import_module("pcsim.sweep"), "available", lambda: 300)
    assert _worthwhile(long, "numpy") == 1
    monkeypatch.setattr(importlib.import_module("pcsim.sweep"), "available", lambda: None)
    assert _worthwhile(long, "numpy") == 2
    groups = [[0], [1]]
    assert _longest_first(groups, [short[0], long[0]], 2) == [[1], [0]]
    assert _longest_first(groups, [short[0], long[0]], 1) == groups


def test_as_many_processes_as_pay_give_the_same_rows(monkeypatch):
    monkeypatch.setattr(importlib.import_module("pcsim.sweep"), "WORTH_A_PROCESS", 1.0)
    axes = {"graph.edges": [2, 3, 4]}
    assert same(pcsim.sweep(CHAIN, steps(axes)), pcsim.sweep(CHAIN, steps(axes), workers=None))


def test_a_sweep_is_a_table_with_its_coordinates(tmp_path):
    axes = {"graph.edges": [2, 3], "rule": [{"name": "il", "ticks": 9}, {"name": "fpa", "ticks": 9}]}
    changes = {"sweep": axes, "measure": ["divergence"]}
    found = pcsim.sweep(CHAIN, changes, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert [line["coordinates"] for line in lines] == list(found.coordinates)
    assert lines[3]["coordinates"] == {"graph.edges": 3, "rule": "name=fpa, ticks=9"}
    table = found.to_dataframe()
    assert table.index.names == ["graph.edges", "rule"]
    assert table.loc[(3, "name=fpa, ticks=9"), "horizon"] == 9
    relative = [row["divergence"]["updates"]["relative"] for row in found.rows]
    assert table["divergence.updates.relative"].tolist() == relative
    data = found.to_xarray()
    assert dict(data.sizes) == {"graph.edges": 2, "rule": 2}
    here = data["divergence.updates.relative"].sel({"graph.edges": 3, "rule": "name=il, ticks=9"})
    assert here.item() == found.rows[2]["divergence"]["updates"]["relative"]
    again = pcsim.sweep(CHAIN, changes, out=tmp_path, resume=True)
    assert again.coordinates == found.coordinates


def test_one_axis_and_runs_that_are_missing(tmp_path):
    axes = {"rule.step_size": [0.4, 3.0]}
    found = pcsim.sweep(CHAIN, steps(axes))
    assert found.to_dataframe().index.tolist() == [0.4, 3.0]
    assert found.to_xarray()["error"].sel({"rule.step_size": 3.0}).item().startswith("vertex")
    twice = pcsim.sweep(CHAIN, steps({"rule.step_size": [0.4, 0.4]}))
    with pytest.raises(pcsim.InputError, match="two runs have the coordinates"):
        twice.to_xarray()


DATA = {
    "graph": {
        "vertices": {
            "x": {"op": "input", "shape": [2]},
            "h": {"op": "affine", "units": 2, "activation": "tanh", "inputs": ["x"]},
            "y": {"op": "affine", "units": 1, "inputs": ["h"]},
        }
    },
    "inputs": {"x": {"file": "x.npz", "key": "a"}},
    "targets": {"y": 0.0},
    "rule": {"name": "il", "ticks": 12},
    "sweep": {"rule.step_size": [0.1, 0.2], "seed": [0, 1]},
}
"""Four cells that tick together, whose data are in a file."""

TRACED = [{"what": ["value", "error", "norm"]}]


@pytest.fixture
def file(tmp_path):
    """Its scenario, in a file beside its data."""
    np.savez(tmp_path / "x.npz", a=np.ones((1, 2)))
    (tmp_path / "s.json").write_text(json.dumps(DATA))
    return tmp_path / "s.json"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_made_from_a_file_that_has_changed_are_run_again(tmp_path, file):
    out = tmp_path / "out"
    before = pcsim.sweep(file, out=out)
    again = pcsim.sweep(file, out=out, resume=True)
    assert (again.replaced, same(again, before)) == (0, True)
    np.savez(tmp_path / "x.npz", a=np.array([[5.0, -3.0]]))
    after = pcsim.sweep(file, out=out, resume=True)
    assert after.replaced == 4
    assert same(after, pcsim.sweep(file))
    assert not same(after, before)
    lines, former = lines_of(out / "sweep.jsonl"), lines_of(out / "sweep.before.jsonl")
    assert len(lines) == len(former) == 4
    assert {line["digest"] for line in lines}.isdisjoint(line["digest"] for line in former)
    # rows that were replaced count again once the file is what it was
    np.savez(tmp_path / "x.npz", a=np.ones((1, 2)))
    assert pcsim.sweep(file, out=out, resume=True).rows == before.rows


def test_the_command_says_how_many_rows_were_run_again(tmp_path, file):
    arguments = ["sweep", str(file), "--out", str(tmp_path / "out")]
    assert "run again" not in CliRunner().invoke(app, arguments).stdout
    result = CliRunner().invoke(app, [*arguments, "--resume", "--set", "tolerance=0.01"])
    assert "4 of 4 rows were run again: the scenario, or a file that it names, has changed since" in result.stdout


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("together", [True, False])
def test_runs_are_kept_where_the_scenario_says_what_to_record(tmp_path, file, workers, together):
    found = pcsim.sweep(file, {"record": TRACED}, out=tmp_path / "out", workers=workers, together=together)
    assert sorted(row["run"] for row in found.rows) == [f"runs/000{number}" for number in range(4)]
    for number, row in enumerate(found.rows):
        cell = {"rule.step_size": row["rule.step_size"], "seed": row["seed"], "record": TRACED, "sweep": {}}
        alone = pcsim.simulate(file, cell)
        assert found.run(number).trace.identical(alone.trace)
        assert found.run(number).summary == alone.summary
    again = pcsim.sweep(file, {"record": TRACED}, out=tmp_path / "out", resume=True)
    assert again == found
    assert len(list((tmp_path / "out/runs").iterdir())) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_are_kept_in_memory_where_there_is_no_folder(file, workers):
    found = pcsim.sweep(file, {"record": TRACED}, workers=workers)
    alone = pcsim.simulate(file, {"rule.step_size": 0.2, "seed": 1, "record": TRACED, "sweep": {}})
    assert found.run(3).trace.identical(alone.trace)


@pytest.mark.parametrize("record", [None, []])
def test_nothing_is_kept_where_nothing_is_to_be_recorded(tmp_path, file, record):
    found = pcsim.sweep(file, {"record": record}, out=tmp_path / "out")
    assert not (tmp_path / "out/runs").exists()
    with pytest.raises(pcsim.InputError, match="this run was not kept"):
        found.run(0)


def test_a_run_that_is_missing_is_run_again_under_a_new_name(tmp_path, file):
    found = pcsim.sweep(file, {"record": TRACED}, out=tmp_path / "out")
    shutil.rmtree(tmp_path / "out/runs/0002")
    (tmp_path / "out/runs/0004").mkdir()
    (tmp_path / "out/runs/0004/half").write_text("left by a run that was killed")
    again = pcsim.sweep(file, {"record": TRACED}, out=tmp_path / "out", resume=True)
    assert [row["run"] for row in again.rows] == ["runs/0000", "runs/0001", "runs/0004", "runs/0003"]
    assert again.run(2).trace.identical(pcsim.sweep(file, {"record": TRACED}).run(2).trace)
    assert same(again, found) is False  # by the name alone
    assert again.complete


def test_a_cell_that_fails_keeps_the_trace_up_to_there(tmp_path):
    axes = {"rule.step_size": [0.4, 3.0]}
    for together in (True, False):
        out = tmp_path / str(together)
        found = pcsim.sweep(CHAIN, steps(axes, record=TRACED, **{"rule.ticks": 3000}), out=out, together=together)
        assert "grew beyond float64" in found.rows[1]["error"]
        assert found.run(1).manifest["status"] == "failed"
        assert found.run(1).series("norm", "x1").sizes["tick"] > 100


def test_a_folder_is_a_sweep_again(tmp_path, file):
    """With rows, coordinates, runs, and all that is to be cited."""
    found = pcsim.sweep(file, {"record": TRACED}, out=tmp_path / "out")
    again = pcsim.open_sweep(tmp_path / "out")
    assert again == found
    assert table(again) == table(found)
    assert again.run(3).trace.identical(found.run(3).trace)
    about = json.loads((tmp_path / "out/sweep.json").read_text())
    assert (about["status"], about["cells"], about["rows"], about["command"]) == ("done", 4, 4, "python")
    assert about["scenario"] == pcsim.load(file, {"record": TRACED}).plain
    assert about["files"] == pcsim.load(file).files
    assert {"commit", "host", "began", "ended", "versions", "seed", "source"} <= set(about)
    pcsim.sweep(file, {"record": TRACED}, out=tmp_path / "out", resume=True)
    (before,) = json.loads((tmp_path / "out/sweep.json").read_text())["resumed"]
    assert (before["began"], before["rows"]) == (about["began"], 4)


def test_a_sweep_that_has_not_ended_opens_with_the_rows_so_far(tmp_path):
    def look(done: int, _cells: int, _row: Any) -> None:
        seen = pcsim.open_sweep(tmp_path)
        assert len(seen.rows) == done
        assert not seen.complete or done == 3
        assert json.loads((tmp_path / "sweep.json").read_text())["status"] == "running"

    pcsim.sweep(SKIP, out=tmp_path, progress=look)
    assert pcsim.open_sweep(tmp_path).complete


def test_the_picture_of_a_sweep_is_drawn_from_its_folder(tmp_path):
    arguments = ["sweep", str(CHAIN), "--set", "sweep={graph.edges: [2, 3]}", "--out", str(tmp_path / "a")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    result = CliRunner().invoke(app, ["plot", str(tmp_path / "a"), "--out", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a/ticks.svg").read_bytes() == (tmp_path / "b/ticks.svg").read_bytes()


# -- replicates ---------------------------------------------------------------------------------------------

RANDOM = {
    "graph": {
        "args": {"depth": 1},
        "vertices": {
            "h0": {"op": "input", "shape": [3]},
            "h$l": {"for": {"l": "1..$depth"}, "op": "affine", "units": 3, "activation": "tanh", "inputs": ["h$(l-1)"]},
            "y": {"op": "affine", "units": 2, "inputs": ["h$depth"]},
        },
        "outputs": ["y"],
    },
    "title": "Random weights",
    "inputs": {"h0": {"normal": [0, 1]}},
    "targets": {"y": {"normal": [0, 1]}},
    "rule": {"name": "il", "step_size": 0.3, "ticks": 54},
    "measure": ["ticks_to_convergence", "divergence"],
    "sweep": {"graph.depth": [1, 3], "seed": [1, 2, 3, 4, 5]},
}


@pytest.fixture(scope="module")
def over_seeds():
    return pcsim.sweep(RANDOM)


def printed(found: Any) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(*sweep_tables(found), sep="\n")
    return console.export_text()


def test_runs_that_differ_in_their_seed_alone_are_one_row(over_seeds):
    near, far = replicates(over_seeds)
    ticks = [row["measured"] for row in table(over_seeds)]
    assert (near["graph.depth"], near["asked"], near["runs"], near["converged"], near["failed"]) == (1, 5, 5, 5, 0)
    assert near["measured"] == {
        "n": 5, "mean": pytest.approx(np.mean(ticks[:5])), "std": pytest.approx(np.std(ticks[:5], ddof=1)),
        "min": min(ticks[:5]), "max": max(ticks[:5]),
    }  # fmt: skip
    reached = [each for each in ticks[5:] if each is not None]
    assert 0 < far["converged"] == far["measured"]["n"] == len(reached) < 5
    assert far["measured"]["mean"] == pytest.approx(np.mean(reached))
    assert far["updates_relative"]["n"] == 5
    assert "seed" not in near
    assert over_seeds.to_dataframe().shape[0] == 10


def test_a_table_over_seeds_has_means_spreads_and_counts(over_seeds):
    text = printed(over_seeds)
    near, far = replicates(over_seeds)
    assert "measured (theory), mean ± standard deviation over 5 seeds" in text
    found = near["measured"]
    assert f"{found['mean']:.4g} ± {found['std']:.2g}, {found['min']} to {found['max']} (" in text
    assert f"{far['converged']} of 5 converged: {far['measured']['mean']:.4g}" in text
    assert "seed " not in text


def test_a_table_without_ticks_has_the_means_of_differences(over_seeds):
    text = printed(pcsim.sweep(RANDOM, {"measure": ["divergence"]}))
    found = replicates(over_seeds)[0]["updates_relative"]
    assert f"{found['mean']:.4g} ± {found['std']:.2g}, {found['min']:.4g} to {found['max']:.4g}" in text


def test_replicates_that_fail_or_are_missing_are_counted(over_seeds):
    row = {**over_seeds.rows[0], "error": "grew"}
    failed = replicates(replace(over_seeds, rows=(row, *over_seeds.rows[1:])))[0]
    assert (failed["runs"], failed["failed"], failed["converged"], failed["measured"]["n"]) == (5, 1, 4, 4)
    cut = replace(over_seeds, rows=over_seeds.rows[:3], coordinates=over_seeds.coordinates[:3])
    assert (replicates(cut)[0]["runs"], replicates(cut)[0]["asked"]) == (3, 5)
    assert "3 of 5 converged, 2 not run: " in printed(cut)
    lost = tuple({**each, "error": "grew"} for each in over_seeds.rows[:5])
    assert "diverged" in printed(replace(over_seeds, rows=(*lost, *over_seeds.rows[5:])))


def test_one_seed_is_no_replicate():
    assert replicates(pcsim.sweep(RANDOM, {"sweep": {"graph.depth": [1, 2], "seed": [1]}})) == []


def test_the_same_seed_twice_is_one_replicate():
    [row] = replicates(pcsim.sweep(RANDOM, {"sweep": {"seed": [1, 2, 2]}}))
    assert (row["asked"], row["runs"]) == (2, 2)


def test_settings_that_share_a_name_are_not_mixed_up():
    axes = {"rule": [{"name": "il", "ticks": 50}, {"name": "il", "ticks": 60}], "seed": [1, 2]}
    assert [row["horizon"] for row in replicates(pcsim.sweep(RANDOM, {"sweep": axes}))] == [50, 60]


def test_a_picture_over_seeds_has_a_bar_for_each_mean(over_seeds, tmp_path):
    svg = sweep_picture(over_seeds, tmp_path)[1].read_text()
    assert "± standard deviation over seeds" in svg
    assert f"{replicates(over_seeds)[1]['converged']} of 5" in svg
    only = pcsim.sweep(RANDOM, {"sweep": {"seed": [1, 2]}})
    assert sweep_picture(only, tmp_path) == []
    assert "only seeds were swept" in no_picture(only)


def test_two_sweeps_do_not_write_to_one_folder_at_once(tmp_path):
    """The second would remove the runs of the first; once the first has ended, another goes on from its rows."""
    asked = steps({"rule.step_size": [0.1, 0.2]})
    refused: list[str] = []

    def second(done: int, cells: int, row: Any) -> None:
        with pytest.raises(pcsim.InputError, match="another sweep is writing to") as error:
            pcsim.sweep(CHAIN, asked, out=tmp_path / "grid", resume=True)
        refused.append(str(error.value))

    found = pcsim.sweep(CHAIN, asked, out=tmp_path / "grid", progress=second)
    assert len(refused) == 2
    assert found.complete
    assert pcsim.sweep(CHAIN, asked, out=tmp_path / "grid", resume=True).rows == found.rows


def test_a_case_is_not_labelled_by_what_is_no_number(tmp_path):
    cases = [{"label": float("nan"), "rule.step_size": 0.1}]
    with pytest.raises(pcsim.InputError, match=r"cases\[0\]\.label: expected a text or a finite number, got nan"):
        pcsim.sweep(CHAIN, steps({"cases": cases}), out=tmp_path)


def test_cases_of_one_label_and_other_values_are_refused(tmp_path):
    file = tmp_path / "s.yaml"
    cases = ["{label: a, rule.step_size: 0.1}", "{label: a, rule.step_size: 0.2}", "{label: a, rule.step_size: 0.10}"]
    head = CHAIN.read_text().split("sweep:")[0].replace("../graphs", str(ROOT / "graphs"))
    file.write_text(head + "sweep:\n  cases:\n" + "".join(f"  - {case}\n" for case in cases))
    line = 1 + file.read_text().splitlines().index("  - " + cases[1])
    said = rf"s.yaml:{line}:\d+: sweep.cases\[1\].label: case number 1 is called 'a' too, with other values"
    with pytest.raises(pcsim.InputError, match=said) as error:
        pcsim.load(file)
    assert len(error.value.problems) == 1
    unnamed = [{"rule.step_size": 1}, {"rule.step_size": "1"}]
    with pytest.raises(pcsim.InputError, match=r"cases\[1\]: "):
        pcsim.load(CHAIN, {"sweep": {"cases": unnamed}})


@pytest.mark.parametrize("label", [["a"], {"a": 1}])
def test_a_label_is_a_text_or_a_number(label):
    with pytest.raises(pcsim.InputError, match=r"cases\[0\]\.label: expected a text or a finite number"):
        pcsim.load(CHAIN, {"sweep": {"cases": [{"label": label, "seed": 1}]}})
    assert label_of({"label": 0, "seed": 1}) == "0"


def test_cells_of_one_scenario_are_run_once_and_have_one_run(tmp_path, counted):
    """Each run that is kept has a row, and every cell has one."""
    told: list[tuple[int, int]] = []
    overrides = steps({"rule.step_size": [0.1, 0.2, 0.1]}, record=[{"what": "energy"}])
    found = pcsim.sweep(CHAIN, overrides, out=tmp_path, together=False, progress=lambda *now: told.append(now[:2]))
    assert len(counted) == 2
    assert told == [(2, 3), (3, 3)]
    assert [row["run"] for row in found.rows] == ["runs/0000", "runs/0001", "runs/0000"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["0000", "0001"]
    assert pcsim.open_sweep(tmp_path).rows == found.rows


def test_a_sweep_is_not_written_into_the_folder_of_a_run(tmp_path):
    pcsim.simulate(CHAIN, {"sweep": {}, "rule.ticks": 2}, out=tmp_path / "run")
    with pytest.raises(pcsim.InputError, match=r"out: .*run holds a run; name another folder"):
        pcsim.sweep(CHAIN, steps({"rule.step_size": [0.1, 0.2]}), out=tmp_path / "run")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_where_the_picture_cannot_be_written_the_table_is_printed_all_the_same(tmp_path, form):
    (tmp_path / "ticks.png").mkdir()
    command = ["sweep", str(CHAIN), "--set", "sweep={graph.edges: [2, 3]}", "--out", str(tmp_path), *form]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "cannot write the figure" in result.stderr
    assert "ticks.png or ticks.svg: Is a directory" in result.stderr
    assert "15" in result.stdout


def test_a_sweep_over_lists_is_a_table_and_a_dataset_too():
    found = pcsim.sweep(CHAIN, steps({"inputs.x0": [[1.0], [2.0]], "rule.step_size": [0.2]}))
    assert found.to_dataframe().index.tolist() == [("[1.0]", 0.2), ("[2.0]", 0.2)]
    assert dict(found.to_xarray().sizes) == {"inputs.x0": 2, "rule.step_size": 1}
