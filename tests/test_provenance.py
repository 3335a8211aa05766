"""Where results come from: what the folder of a run says of its origin, and files that change under a run's hands."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix, save_npz

import pcsim
from pcsim.run.provenance import commit
from pcsim.scenario.named_files import fingerprint

ROOT = Path(__file__).parents[1]
FIRST = ROOT / "scenarios/first-steps.yaml"

SCENARIO = """
graph: {vertices: {x: {op: input, shape: [2]}, y: {op: affine, units: 1, inputs: [x]}}, outputs: [y]}
inputs: {x: {file: x.npz, key: a}}
targets: {y: 0.0}
rule: {name: il, step_size: 0.1, ticks: 20}
"""
SHA = "0123456789" * 4


@pytest.fixture
def file(tmp_path):
    """The file of a scenario whose data are in a file beside it."""
    np.savez(tmp_path / "x.npz", a=np.ones((1, 2)))
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return tmp_path / "s.yaml"


def command(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pcsim", *arguments], capture_output=True, text=True, **more)


def test_a_manifest_tells_the_origin_of_a_run(tmp_path):
    arguments = ["run", "scenarios/first-steps.yaml", "--set", "seed=3", "--out", str(tmp_path / "run")]
    assert command(*arguments, cwd=ROOT).returncode == 0
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["source"] == {"file": "scenarios/first-steps.yaml"}
    assert shlex.split(manifest["command"]) == ["pcsim", *arguments]
    assert manifest["host"]
    began, ended = (datetime.fromisoformat(manifest[key]) for key in ("began", "ended"))
    assert began.tzinfo is not None
    assert began <= ended
    scenario = pcsim.load(FIRST, {"seed": 3})
    assert (manifest["data_digest"], manifest["files"]) == (scenario.data_digest, {})
    assert manifest["data_digest"] != pcsim.load(FIRST, {"inputs.x": [0.5, -1.1]}).data_digest


def test_a_run_from_python_says_so_and_that_it_has_not_ended(tmp_path):
    seen = []

    def look(done: int, _total: int) -> None:
        seen.append(pcsim.open_run(tmp_path / "run").manifest["ended"])

    manifest = pcsim.simulate(FIRST, out=tmp_path / "run", progress=look).manifest
    assert manifest["command"] == "python"
    assert set(seen) == {None}
    assert manifest["ended"] is not None


def test_a_run_that_goes_on_keeps_the_origin_of_the_one_before(tmp_path):
    first = pcsim.simulate(FIRST, until=4, out=tmp_path / "a")
    second = pcsim.simulate(FIRST, resume=tmp_path / "a", until=9, out=tmp_path / "b")
    third = pcsim.simulate(FIRST, resume=second)
    assert [each["ticks"] for each in third.manifest["resumed"]] == [4, 9]
    assert third.manifest["resumed"][0]["began"] == first.manifest["began"]
    assert first.manifest["resumed"] == []


def test_the_commit_of_a_checkout_is_read_wherever_git_keeps_it(tmp_path):
    for name in ("none", "branch", "packed", "detached", "tree"):
        (tmp_path / name).mkdir()
    heads = {"branch": "ref: refs/heads/main", "packed": "ref: refs/heads/main", "detached": SHA}
    for name, head in heads.items():
        (tmp_path / name / ".git/refs/heads").mkdir(parents=True)
        (tmp_path / name / ".git/HEAD").write_text(head + "\n")
    (tmp_path / "branch/.git/refs/heads/main").write_text(SHA + "\n")
    (tmp_path / "packed/.git/packed-refs").write_text(f"# pack-refs\n{SHA} refs/heads/main\n")
    (tmp_path / "tree/.git").write_text("gitdir: ../branch/.git/worktrees/tree\n")
    (tmp_path / "branch/.git/worktrees/tree").mkdir(parents=True)
    (tmp_path / "branch/.git/worktrees/tree/HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "branch/.git/worktrees/tree/commondir").write_text("../..\n")
    assert [commit(tmp_path / name) for name in (*heads, "tree")] == [SHA] * 4
    assert commit(tmp_path / "none") is None
    (tmp_path / "none/.git").write_text("nothing that git wrote")
    commit.cache_clear()
    assert commit(tmp_path / "none") is None


def test_a_run_goes_on_from_any_folder_with_the_data_it_began_with(tmp_path, file):
    """Files are sought where the scenario was, and one that has changed is named."""
    assert command("run", str(file), "--until", "4", "--out", str(tmp_path / "a")).returncode == 0
    manifest = pcsim.open_run(tmp_path / "a").manifest
    assert manifest["files"] == {"x.npz": fingerprint(tmp_path / "x.npz")}
    assert command("run", "--resume", str(tmp_path / "a"), "--out", str(tmp_path / "b"), cwd="/").returncode == 0
    np.savez(tmp_path / "x.npz", a=np.zeros((1, 2)))
    done = command("run", "--resume", str(tmp_path / "a"), cwd="/")
    assert done.returncode == 2
    assert done.stderr.startswith(f"resume: {tmp_path / 'x.npz'} has changed since the run began;")
    assert len(done.stderr.splitlines()) == 1


POPULATION = {
    "graph": {"vertices": {
        "x": {"op": "input", "shape": [2]},
        "y": {"op": "projection", "units": 1, "inputs": ["x"], "connect": {"rule": "from_file", "file": "edges.npz"}},
    }},
    "inputs": {"x": [1.0, 2.0]}, "targets": {"y": 0.5}, "rule": {"name": "il", "ticks": 4},
}  # fmt: skip


def test_every_kind_of_file_is_part_of_the_fingerprint(tmp_path):
    """Data, targets, values at tick 0, parameters, an initialiser, synapses, and data sets that lie in a folder."""
    vertices = {
        "x": {"op": "input", "shape": [2]},
        "h": {"op": "affine", "units": 2, "inputs": ["x"], "init": {"weight": {"file": "w.npz", "key": "w"}}},
        "y": {"op": "affine", "units": 1, "inputs": ["h"]},
    }
    document = {
        "graph": {"vertices": vertices}, "inputs": {"x": {"file": "x.npy"}}, "targets": {"y": {"file": "y.npy"}},
        "parameters": {"file": "p.npz"}, "initial": {"file": "i.npz"}, "rule": {"name": "il", "ticks": 4},
    }  # fmt: skip
    files = {"w.npz": {"w": np.eye(2)}, "p.npz": {"y.bias": np.ones(1)}, "i.npz": {"h": np.ones((1, 2))}}
    files |= {"x.npy": {"": np.ones((1, 2))}, "y.npy": {"": np.ones((1, 1))}}

    def write(name: str, arrays: dict[str, np.ndarray], factor: float) -> None:
        path = tmp_path / name
        if path.suffix == ".npy":
            np.save(path, factor * arrays[""])
        else:
            np.savez(path, **{key: factor * array for key, array in arrays.items()})

    for name, arrays in files.items():
        write(name, arrays, 1.0)
    base = pcsim.load(document, folder=tmp_path)
    assert set(base.files) == set(files)
    for name, arrays in files.items():
        write(name, arrays, 2.0)
        assert pcsim.load(document, folder=tmp_path).digest != base.digest, name
        write(name, arrays, 1.0)
        assert pcsim.load(document, folder=tmp_path).digest == base.digest
    save_npz(tmp_path / "edges.npz", csr_matrix([[0.25, 0.5]]))
    before = pcsim.load(POPULATION, folder=tmp_path).digest
    save_npz(tmp_path / "edges.npz", csr_matrix([[0.75, 0.5]]))
    assert pcsim.load(POPULATION, folder=tmp_path).digest != before


def test_what_is_no_plain_file_has_no_fingerprint(tmp_path):
    assert fingerprint(tmp_path / "missing") == fingerprint(tmp_path) == fingerprint(Path("/dev/zero")) == ""
