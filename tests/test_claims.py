"""Claims: every check can agree and disagree, measured rows are what runs say, and what is kept is what was printed."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.claims.claim_files import read_claims
from pcsim.claims.claims_here import claims_here
from pcsim.claims.measured_rows import Rows
from pcsim.claims.measurements import MEASUREMENTS, measured
from pcsim.claims.verdicts import CHECKS, check
from pcsim.cli import app
from pcsim.run.validate import validate_file
from pcsim.scenario.claim_document import METHODS, CheckEntry
from pcsim.scenario.reader import load

ROOT = Path(__file__).parents[1]
CLAIMS = sorted(claims_here())


def made(**columns):
    """Return rows of these columns; ``name`` tells them apart."""
    names = list(columns)
    return Rows(("name",), tuple(dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)))


def verdict(rows, kind, **asked):
    return check(rows, CheckEntry.model_validate({"that": "it is so", kind: asked}))


LINE = {"of": "y", "against": "x"}
CURVES = {**LINE, "column": "rule", "curves": ["fpa", "bp"], "within": 0.05}
PAIR = ["fpa"] * 3 + ["bp"] * 3
CASES = {
    "at_most": ({"of": "y", "bound": 1.0}, made(y=[0.5, 1.0]), made(y=[0.5, 1.1])),
    "at_least": ({"of": "y", "bound": 1.0}, made(y=[1.0, 2.0]), made(y=[0.9, 2.0])),
    "equal": ({"of": "y", "to": "z"}, made(y=[1, 2], z=[1, 2]), made(y=[1, 2], z=[1, 3])),
    "ratio": ({"of": "y", "column": "rule", "over": "fpa", "under": "bp", "at_least": 2, "at_most": 3},
              made(rule=["fpa", "bp"], y=[5.0, 2.0]), made(rule=["fpa", "bp"], y=[7.0, 2.0])),
    "linear_in": (LINE, made(x=[1, 2, 3, 4], y=[1.0, 2.0, 3.1, 4.0]), made(x=[1, 2, 3, 4], y=[1.0, 8.0, 2.0, 9.0])),
    "cliff": ({**LINE, "edge": "L", "drop": 0.1}, made(x=[1, 2, 3], y=[0.2, 0.9, 1.0], L=[2, 2, 2]),
              made(x=[1, 2, 3], y=[0.95, 0.9, 1.0], L=[2, 2, 2])),
    "curves_agree": (CURVES, made(rule=PAIR, x=[1, 2, 3] * 2, y=[3.0, 2.0, 1.0, 3.0, 2.05, 1.0]),
                     made(rule=PAIR, x=[1, 2, 3] * 2, y=[3.0, 2.0, 1.0, 3.0, 2.5, 1.0])),
    "grows_at_most": ({**LINE, "factor": 1.5}, made(x=[1, 2, 3], y=[2.0, 9.0, 2.9]),
                      made(x=[1, 2, 3], y=[2.0, 2.0, 3.1])),
    "falls": (LINE, made(x=[1, 2, 3], y=[3.0, 2.0, 2.0]), made(x=[1, 2, 3], y=[3.0, 2.0, 2.1])),
}  # fmt: skip


def test_there_is_a_case_for_every_check_and_a_function_for_every_name():
    assert set(CASES) == set(CHECKS) == set(CheckEntry.model_fields) - {"that"}
    assert set(MEASUREMENTS) == set(METHODS)


@pytest.mark.parametrize("kind", CASES)
def test_every_check_can_agree_and_disagree(kind):
    asked, right, wrong = CASES[kind]
    assert verdict(right, kind, **asked).agrees
    said = verdict(wrong, kind, **asked)
    assert not said.agrees
    assert said.why.startswith("it is so: NO, ")
    assert said.ours


@pytest.mark.parametrize("kind", CASES)
def test_what_was_not_measured_agrees_with_nothing(kind):
    asked, right, _ = CASES[kind]
    assert not verdict(Rows((), ()), kind, **asked).agrees
    assert not verdict(right, kind, **{**asked, "of": "other"}).agrees
    assert not verdict(right, kind, **asked, where={"y": "nothing of this kind"}).agrees
    lost = Rows((), tuple({**row, "y": None} for row in right.rows))
    assert not verdict(lost, kind, **asked).agrees


def test_a_run_that_grew_beyond_all_numbers_is_above_every_bound_and_below_none():
    rows = made(name=["a", "b"], y=[2.0, None], error=["", "grew beyond float64"])
    assert verdict(rows, "at_least", of="y", bound=1.0).agrees
    said = verdict(rows, "at_most", of="y", bound=10.0)
    assert not said.agrees
    assert "b failed: grew beyond float64" in said.why


def test_groups_are_checked_apart_and_the_one_that_disagrees_is_named():
    rows = made(g=["a"] * 3 + ["b"] * 3, x=[1, 2, 3] * 2, y=[1.0, 2.0, 3.0, 3.0, 2.0, 1.0])
    said = verdict(rows, "linear_in", **LINE, by=["g"])
    assert not said.agrees
    assert "b: y falls" in said.why
    assert "a: y" not in said.why
    assert verdict(rows, "linear_in", **LINE, where={"g": "b"}, slope="falling").agrees


def test_a_line_in_the_logarithm_leaves_rounding_out():
    rows = made(x=list(range(7)), y=[1.0, 1e-2, 1e-4, 1e-6, 1e-8, 2e-16, 1e-16])
    assert not verdict(rows, "linear_in", **LINE, log=True, slope="falling", fit=0.999).agrees
    assert verdict(rows, "linear_in", **LINE, log=True, slope="falling", fit=0.999, above=1e-12).agrees


def test_two_flat_curves_that_differ_do_not_agree():
    rows = made(rule=PAIR, x=[1, 2, 3] * 2, y=[1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    assert not verdict(rows, "curves_agree", **CURVES).agrees


@pytest.mark.parametrize("entry", [{}, {"at_most": {"of": "y", "bound": 1}, "at_least": {"of": "y", "bound": 1}}])
def test_a_check_has_exactly_one_kind(entry):
    with pytest.raises(ValueError, match="exactly one of at_most"):
        CheckEntry.model_validate({"that": "x", **entry})


# -- claims that ship --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_is_right_at_every_size(name):
    path = claims_here()[name]
    try:
        assert ": ok: " in validate_file(path)
    except pcsim.InputError as error:
        if not re.search(r"no such (file|folder)", str(error)):
            raise
        pytest.skip(f"its data are not here: {str(error)[:80]}")
    document = load(path).document
    assert document.title
    assert document.about
    assert re.search(r"20\d\d|arXiv|^pcsim", document.source)
    entry = document.claim
    for size in (entry.quick, entry.full):
        load(path, size.set)
    assert [one.kind for one in entry.checks]


def test_a_claim_decides_no_result():
    path = claims_here()["millidge-figure-2"]
    assert load(path).digest == load(path, {"claim": None}).digest
    assert "claim" not in load(path).plain


# -- reproducing -------------------------------------------------------------------------------------------


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_unrolled_computation_of_zil_agrees(at_root):
    done = pcsim.reproduce("zahid-table-1")
    assert done.agrees
    assert done.verdict == "agrees"
    assert done.rows.numbers("divergence")
    assert done.provenance["versions"]["pcsim"]
    due = done.rows.where({"when": "due"})
    assert {(row["vertex_level"], row["tick"]) for row in due.rows} == {(level, level) for level in range(9)}


def test_branches_side_by_side_disagree_and_chains_do_not(at_root):
    assert pcsim.reproduce("zahid-bounds").agrees
    done = pcsim.reproduce("zahid-bounds-branching")
    assert done.agrees is False
    assert "16 branches side by side" in done.why


def test_counted_work_is_that_of_the_chain():
    document = {
        "graph": {"file": str(ROOT / "graphs/mlp.yaml"), "args": {"depth": 2, "width": 4, "inputs": 3}},
        "inputs": {"h0": 0.5}, "targets": {"y": 0.25}, "rule": "zil", "stop": "converged",
        "sweep": {"seed": [0]},
    }  # fmt: skip
    (row,) = measured("work", document, {}).rows
    assert row["chain"]
    assert row["ticks"] == 2
    assert row["backprop"] == row["forward"] + row["errors"]
    assert row["parallel"] == row["forward"] + 2 * row["slowest"]


TINY = """\
pcsim: scenario/1
title: A product
about: zil is backprop on a product
source: Nobody 2020, Figure 1
graph: {{formula: "a * b", parameters: {{a: {{init: {{constant: 2}}}}}}}}
inputs: {{b: {b}}}
targets: {{v1: 1}}
rule: zil
sweep: {{seed: [0, 1]}}
claim:
  says: It is backprop
  paper: '0'
  checks: [{{that: the update is backprop's, at_most: {{of: updates_relative, bound: {bound}}}}}]
"""


def tiny(folder, name, b="3", bound="1e-12"):
    path = folder / f"{name}.yaml"
    path.write_text(TINY.format(b=b, bound=bound))
    return str(path)


def call(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_keeps_what_it_prints(tmp_path):
    out = tmp_path / "out"
    printed = call("reproduce", tiny(tmp_path, "one"), "--out", str(out))
    assert "It is backprop" in printed
    assert "agrees (quick" in printed
    (record,) = json.loads((out / "claims.json").read_text())["claims"]
    assert record["verdict"] == "agrees"
    assert record["provenance"]["seeds"] == [0, 1]
    assert len(list(csv.DictReader((out / "one.csv").read_text().splitlines()))) == 2
    assert "| Nobody 2020, Figure 1 (`one`) | It is backprop | 0 |" in (out / "claims.md").read_text()
    page = (out / "index.html").read_text()
    assert "It is backprop" in page
    assert "<script" not in page
    call("reproduce", tiny(tmp_path, "two", bound="-1"), "--out", str(out))
    assert {name: one["verdict"] for name, one in read_claims(out).items()} == {"one": "agrees", "two": "disagrees"}
    assert "**disagrees**: the update is backprop's: NO" in (out / "claims.md").read_text()


def test_python_keeps_a_claim_where_it_is_asked_to(tmp_path):
    done = pcsim.reproduce(tiny(tmp_path, "one"), "full", out=tmp_path / "out")
    record = read_claims(tmp_path / "out")["one"]
    assert record["ours"] == done.ours == "0"
    assert record["size"] == "full"
    assert len(record["rows"]) == 2


def test_data_that_are_not_here_are_not_agreed_with(tmp_path):
    path = tiny(tmp_path, "lost", b="{file: nowhere.npz, key: b}")
    done = pcsim.reproduce(path)
    assert (done.agrees, done.status) == (None, "not run")
    assert "nowhere.npz" in done.why
    assert "not run 1" in call("reproduce", path, "--out", str(tmp_path / "out"))


def test_a_claim_that_fails_does_not_end_the_others(tmp_path):
    failing = tiny(tmp_path, "failing", b="{normal: [0, 1], index: 3}")
    printed = call("reproduce", failing, tiny(tmp_path, "one"), "--out", str(tmp_path / "out"), code=1)
    assert "failed" in printed
    assert read_claims(tmp_path / "out")["one"]["verdict"] == "agrees"


def test_ctrl_c_keeps_the_claims_before(tmp_path, monkeypatch):
    asked = []

    def interrupted(source, overrides):
        asked.append(source)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return made(updates_relative=[0.0])

    monkeypatch.setitem(MEASUREMENTS, "sweep", interrupted)
    names = [tiny(tmp_path, name) for name in ("one", "two", "three")]
    assert "1 claim: agrees 1" in call("reproduce", *names, "--out", str(tmp_path / "out"), code=130)
    assert list(read_claims(tmp_path / "out")) == ["one"]
    assert (tmp_path / "out/index.html").exists()


def test_slips_are_told_before_anything_is_run(tmp_path, at_root):
    assert "did you mean 'zahid-table-1'" in call("reproduce", "zahid-table-2", code=2)
    assert "--all" in call("reproduce", code=2)
    with pytest.raises(pcsim.InputError, match="has no key 'claim'"):
        pcsim.reproduce("scenarios/first-steps.yaml")
    with pytest.raises(pcsim.InputError, match="one of quick, full"):
        pcsim.reproduce("zahid-table-1", "huge")
