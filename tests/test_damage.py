"""Folders that are damaged, or of another format: one line that names the file and says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app

ROOT = Path(__file__).parents[1]
FIRST = ROOT / "scenarios/first-steps.yaml"
SKIP = ROOT / "scenarios/skip-connection.yaml"
RECORD = {"record": [{"what": ["value", "error", "message", "norm", "energy"]}], "rule.ticks": 600}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a paused run, with chunks of all kinds: compressed, plain, and names."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    pcsim.simulate(FIRST, RECORD, until=500, out=folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "run")


def said(*arguments: str | Path, code: int = 2) -> str:
    """Return the one line that a command says and ends with."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.stderr.strip().splitlines()
    return line


def chunks(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "trace.zarr").rglob("c*") if path.is_file())


def test_every_chunk_that_is_missing_or_cut_short_is_named(whole, folder):
    for path in chunks(folder):
        content = path.read_bytes()
        for damage in (None, content[: len(content) // 2], b"", content + b"more"):
            path.unlink() if damage is None else path.write_bytes(damage)
            with pytest.raises(pcsim.InputError) as caught:
                [node.load() for node in pcsim.open_run(folder).trace.subtree]
            assert str(path) in str(caught.value) or "cannot be read" in str(caught.value)
            path.write_bytes(content)
    assert pcsim.open_run(folder).trace.identical(pcsim.open_run(whole).trace)


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"consolidated_metadata": null}'])
def test_commands_say_in_a_line_that_metadata_are_missing_or_damaged(whole, folder, damage, tmp_path):
    root = folder / "trace.zarr/zarr.json"
    root.unlink() if damage is None else root.write_bytes(damage)
    for command in (["trace", folder], ["plot", folder, "--out", tmp_path / "figures"], ["compare", whole, folder]):
        assert "trace.zarr" in said(*command)
    assert "trace.zarr" in said("run", "--resume", folder)


def test_numbers_that_cannot_be_unpacked_are_an_input_error(folder):
    """The length is right, the content is not."""
    path = max(chunks(folder), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.write_bytes(content[:16] + bytes(byte ^ 255 for byte in content[16:]))
    result = CliRunner().invoke(app, ["trace", str(folder), "--json", "--vertex", "h1"])
    assert isinstance(result.exception, SystemExit | None)
    assert result.exit_code in (0, 2)


MANIFESTS = {
    "": "is not the folder of a run: manifest.json: ",
    "{": "is not the folder of a run: manifest.json: ",
    "[]": "says pcsim: 'None', expected 'run/1'; it is damaged, or of another version of pcsim",
    '{"pcsim": "run/0"}': "says pcsim: 'run/0', expected 'run/1'; it is damaged, or of another version of pcsim",
    '{"pcsim": "run/1"}': "says nothing, or something else, under title, status, engine; it is damaged",
    "[" * 10_000: "is not the folder of a run: manifest.json: ",
}


@pytest.mark.parametrize("text", MANIFESTS, ids=lambda text: text[:20])
@pytest.mark.parametrize("command", [["trace"], ["plot"], ["run", "--resume"]], ids=" ".join)
def test_a_manifest_that_is_damaged_or_of_another_format_is_named(folder, command, text):
    (folder / "manifest.json").write_text(text)
    line = said(*command, folder)
    assert MANIFESTS[text] in line
    assert "run its scenario again" in line


def test_a_manifest_without_what_was_added_later_opens(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("source", "command", "commit", "host", "files", "began", "ended", "resumed", "data_digest"):
        del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert pcsim.simulate(pcsim.load(FIRST, RECORD), resume=folder).summary["ticks"] == 600


def test_a_run_that_kept_no_trace_says_so(folder):
    """It was killed before it had written any."""
    shutil.rmtree(folder / "trace.zarr")
    for command in ("trace", "plot"):
        assert "is not a trace; expected a folder with zarr.json" in said(command, folder)


def test_the_folder_of_a_sweep_is_told_from_that_of_a_run(tmp_path):
    pcsim.sweep(SKIP, out=tmp_path)
    assert "it is the folder of a sweep, whose runs, where it keeps them, are in" in said("trace", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pcsim": "sweep/0"}', '{"pcsim": "sweep/1"}', "\udcff"])
def test_a_sweep_whose_facts_are_damaged_says_what_mends_it(tmp_path, text):
    out = tmp_path / "out"
    found = pcsim.sweep(SKIP, out=out)
    (out / "sweep.json").write_bytes(text.encode(errors="surrogateescape"))
    for command in (["plot", out], ["sweep", SKIP, "--out", out, "--resume"]):
        line = said(*command)
        assert str(out / "sweep.json") in line
        assert f"pcsim sweep FILE --out {out} --resume writes it anew and keeps the rows" in line
    (out / "sweep.json").unlink()
    assert "sweep.json" in said("plot", out)
    again = pcsim.sweep(SKIP, out=out, resume=True)
    assert again.rows == found.rows
    assert pcsim.open_sweep(out) == found


LINES = [
    b'{"digest": "12',
    b"\xff\xfe\x00",
    b"\0" * 100,
    b'{"digest": 1, "row": []}',
    b"[]",
    b'{"digest": "1", "row": {}}',
]


@pytest.mark.parametrize("cut", LINES)
def test_a_line_of_a_sweep_that_is_no_row_is_passed_over_and_replaced(tmp_path, cut):
    found = pcsim.sweep(SKIP, out=tmp_path)
    path = tmp_path / "sweep.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + cut)
    assert (len(pcsim.open_sweep(tmp_path).rows), pcsim.open_sweep(tmp_path).cut) == (2, 1)
    assert CliRunner().invoke(app, ["plot", str(tmp_path)]).exit_code == 2  # no swept key is a number
    result = CliRunner().invoke(app, ["sweep", str(SKIP), "--out", str(tmp_path), "--resume"])
    assert f"1 of the lines in {path} were cut short; their runs were done again" in result.stdout
    again = pcsim.sweep(SKIP, out=tmp_path, resume=True)
    assert again.cut == 0
    assert [row["level"] for row in again.rows] == [row["level"] for row in found.rows]
    assert len(path.read_text().splitlines()) == 3
