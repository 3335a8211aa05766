"""The folder of a run: readable while it is written and after any end, true about what it holds."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.run import recorder
from pcsim.trace.columns import Column
from pcsim.trace.store import Folder

ROOT = Path(__file__).parents[1]
FIRST = ROOT / "scenarios/first-steps.yaml"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_can_be_read_while_it_is_written(tmp_path, monkeypatch):
    seen: list[int] = []

    def look(done: int, total: int) -> None:
        monkeypatch.setattr(recorder, "FLUSH_EVERY", 0.0 if done % 3 == 1 else 60.0)
        run = pcsim.open_run(tmp_path / "run")
        assert run.manifest["status"] == "running"
        seen.append(run.series("value", "h1").sizes["tick"])

    whole = pcsim.simulate(
        FIRST, {"record": [{"what": "value"}], "rule.ticks": 13}, out=tmp_path / "run", progress=look
    )
    # the second, fifth, eighth tick is flushed, and what was before with it
    assert seen == [0, 2, 2, 2, 5, 5, 5, 8, 8, 8, 11, 11, 13]
    assert pcsim.open_run(tmp_path / "run").series("value", "h1").identical(whole.series("value", "h1"))


def test_a_killed_writer_leaves_a_folder_that_opens(tmp_path):
    script = f"""
import os, pcsim
from pcsim.run import recorder
recorder.FLUSH_EVERY = 0.0
pcsim.simulate({str(FIRST)!r}, {{"rule.ticks": 100_000, "record": [{{"what": ["value", "error"]}}]}},
               out={str(tmp_path / "run")!r}, progress=lambda done, total: os._exit(9) if done == 40 else None)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    run = pcsim.open_run(tmp_path / "run")
    assert run.manifest["status"] == "running"
    tree = xr.open_datatree(tmp_path / "run/trace.zarr", engine="zarr")
    kept = tree["value/3"]["value"].sel(vertex="h1").values
    assert 30 < len(kept) <= 40
    whole = pcsim.simulate(FIRST, {"rule.ticks": len(kept), "record": [{"what": "value"}]})
    assert np.array_equal(whole.series("value", "h1").values, kept)


def test_the_manifest_says_what_was_run(tmp_path):
    pcsim.simulate(FIRST, {"seed": 3}, out=tmp_path / "run")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["pcsim"] == "run/1"
    assert (manifest["status"], manifest["seed"], manifest["engine"], manifest["dtype"]) == (
        "done",
        3,
        "numpy",
        "float64",
    )
    assert manifest["summary"]["stop_reason"] == "all 20 ticks done"
    assert {"python", "pcsim", "numpy", "xarray", "zarr"} <= manifest["versions"].keys()
    assert manifest["versions"]["pcsim"] == pcsim.__version__
    assert manifest["seconds"] > 0
    assert not list(tmp_path.rglob("*.part*"))
    # the scenario in it is whole: it gives the same run again
    again = pcsim.simulate(manifest["scenario"])
    assert again.manifest["digest"] == manifest["digest"]
    assert again.series("error", "h1").identical(pcsim.open_run(tmp_path / "run").series("error", "h1"))


def test_a_manifest_holds_the_graph_of_a_file_and_no_path_of_this_machine(tmp_path):
    pcsim.simulate(ROOT / "scenarios/zil-equals-bp.yaml", {"graph.depth": 2, "batch": 2}, out=tmp_path / "run")
    text = (tmp_path / "run/manifest.json").read_text()
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert set(json.loads(text)["scenario"]["graph"]["vertices"]) == {"h0", "h1", "h2", "y"}


def test_the_digest_is_stable_and_tells_scenarios_apart():
    base = pcsim.load(FIRST)
    assert base.digest == pcsim.load(FIRST).digest == pcsim.load(base.plain).digest
    changes: list[dict[str, Any]] = [
        {"seed": 1}, {"rule.step_size": 0.4}, {"inputs.x": [0.5, -1.1]}, {"level": "delay"}, {"dtype": "float32"},
        {"graph.vertices.h1.units": 4, "graph.vertices.h2.units": 4},
    ]  # fmt: skip
    digests = {pcsim.load(FIRST, change).digest for change in changes}
    assert len(digests | {base.digest}) == len(changes) + 1


def test_nothing_of_a_folder_in_use_is_touched(tmp_path):
    pcsim.simulate(FIRST, out=tmp_path / "run")
    before = files(tmp_path)
    with pytest.raises(pcsim.InputError, match="is not empty"):
        pcsim.simulate(FIRST, {"seed": 1}, out=tmp_path / "run")
    assert files(tmp_path) == before
    result = CliRunner().invoke(app, ["run", str(FIRST), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "is not empty" in result.stderr
    assert files(tmp_path) == before


def test_a_run_in_memory_is_the_run_on_disk_and_needs_neither_xarray_nor_zarr(tmp_path):
    code = f"""
import pcsim, sys
run, _ = pcsim.simulate({str(FIRST)!r}), pcsim.simulate({str(FIRST)!r}, out="disk")
print([name for name in ("xarray", "zarr", "scipy.stats", "pandas") if name in sys.modules])
run.save("saved")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
    kept, disk, saved = (
        pcsim.simulate(FIRST).trace,
        pcsim.open_run(tmp_path / "disk"),
        pcsim.open_run(tmp_path / "saved"),
    )
    assert kept.identical(disk.trace)
    assert kept.identical(saved.trace)
    for node in disk.trace.subtree:
        for name, array in node.variables.items():
            assert array.dtype == kept[node.path].variables[name].dtype
    one, two = (files(tmp_path / name / "trace.zarr") for name in ("disk", "saved"))
    assert one.keys() == two.keys()
    for name, content in one.items():
        assert json.loads(content) == json.loads(two[name]) if name.endswith(".json") else content == two[name]


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    pcsim.simulate(FIRST, out=tmp_path / "empty")
    pcsim.simulate(FIRST, out=tmp_path / "a/b/c")
    assert pcsim.open_run(tmp_path / "a/b/c").summary["ticks"] == 20


def test_a_file_in_the_way_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(pcsim.InputError, match="is a file"):
        pcsim.simulate(FIRST, out=tmp_path / "file")
    with pytest.raises(pcsim.RunError, match="cannot write"):
        pcsim.simulate(FIRST, out=tmp_path / "file/run")


def full(*_args: object, **_kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_ends_the_run_with_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "FLUSH_EVERY", 0.0)
    count = iter(range(10**9))
    write = Column.write

    def filling(column: Column, rows: int) -> None:
        full() if next(count) > 40 else write(column, rows)

    monkeypatch.setattr(Column, "write", filling)
    arguments = [
        "run",
        str(FIRST),
        "--set",
        "rule.ticks=500",
        "--set",
        "record=[{what: value}]",
        "--out",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.output
    run = pcsim.open_run(tmp_path / "run")
    assert run.manifest["status"] == "failed"
    assert "No space left" in run.summary["stop_reason"]
    assert run.series("value", "h1").sizes["tick"] == run.summary["ticks"] + 1  # with the tick that it ended in


def note_of(folder: Path) -> str:
    """Return what ``pcsim trace`` says ahead of its tables."""
    result = CliRunner().invoke(app, ["trace", str(folder)])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.partition("what was recorded")[0].split())


@pytest.mark.parametrize(("ticks", "kept"), [(0, "no tick of what it recorded is kept"), (9, "recorded until tick 8")])
def test_trace_says_that_a_run_ended_early_and_what_is_kept_of_it(tmp_path, monkeypatch, ticks, kept):
    put, full_from = Folder.put, iter(range(10**9))
    monkeypatch.setattr(recorder, "FLUSH_EVERY", 0.0)
    monkeypatch.setattr(
        "pcsim.trace.disk_trace.Rescue.keep", lambda rescue: max(node.kept for node in rescue.nodes) - 1
    )

    def filling(self: Folder, key: str, content: Any) -> None:
        full() if key == "value/3/value/c.0.0.0.0" and next(full_from) >= ticks else put(self, key, content)

    monkeypatch.setattr(Folder, "put", filling)
    with pytest.raises(pcsim.RunError) as caught:
        pcsim.simulate(FIRST, {"record": [{"what": "value"}]}, out=tmp_path / "run")
    said = f"note: this run failed after {ticks} of 20 ticks: {caught.value}; {kept}"
    assert "".join(note_of(tmp_path / "run").split()) == "".join(said.split())
    monkeypatch.undo()
    assert json.loads(CliRunner().invoke(app, ["trace", str(tmp_path / "run"), "--json"]).stdout)["ended"] == {
        "status": "failed", "stop_reason": str(caught.value), "ticks": ticks, "horizon": 20,
    }  # fmt: skip


def test_trace_says_nothing_of_an_end_as_wished_and_what_it_knows_of_others(tmp_path):
    pcsim.simulate(FIRST, out=tmp_path / "run")
    assert note_of(tmp_path / "run") == ""
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    for status, said in (("interrupted", "was interrupted after 20 of 20 ticks"), ("running", "has not said how")):
        (tmp_path / "run/manifest.json").write_text(json.dumps({**manifest, "status": status}))
        assert f"note: this run {said}" in note_of(tmp_path / "run")


def test_a_manifest_that_cannot_be_written_fails_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", full)
    result = CliRunner().invoke(app, ["run", str(FIRST), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "cannot write the manifest" in result.stderr
