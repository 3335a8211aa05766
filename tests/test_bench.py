"""The benchmark: baselines compute the same numbers, costs are counted right, results are whole, ratios are honest."""

from __future__ import annotations

import json
import platform
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binom
from typer.testing import CliRunner

from pcsim.analysis.cost import cost_of, tick_work, update_work
from pcsim.bench.baselines import Candidate, load_baselines
from pcsim.bench.bench import request
from pcsim.bench.comparison import Comparisons, disagreement, read_after_a_run
from pcsim.bench.engine_timers import engine_timer, errors
from pcsim.bench.families import FAMILIES, RULES, Case, scenario_of
from pcsim.bench.terminal import Rows
from pcsim.bench.timing import LEAST_ROUNDS, race, ratio
from pcsim.cli import app
from pcsim.engines import open_engine
from pcsim.errors import InputError
from pcsim.ops.op import Cost

FILE = Path(__file__).parent / "bench" / "baselines.py"
BASELINES = load_baselines(FILE)
SLOW = (pytest.mark.bench, pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"))
"""torch.compile starts a C++ compiler: half a minute for each graph."""
COMPARISONS = [
    pytest.param(
        baseline, family, rule, id=f"{baseline.name}-{family}-{rule}", marks=SLOW if "compiled" in baseline.name else ()
    )
    for baseline in BASELINES
    for family in baseline.families
    for rule in baseline.rules
]


def task_of(case, rule, ticks=9, **settings):
    return scenario_of(case, RULES[rule], ticks).task(**settings)


@pytest.mark.parametrize(("baseline", "family", "rule"), COMPARISONS)
def test_baselines_compute_the_same_numbers(baseline, family, rule):
    if baseline.missing:
        pytest.skip(f"needs {', '.join(baseline.missing)}")
    for sizes in FAMILIES[family].small:
        task = task_of(Case(FAMILIES[family], sizes), rule)
        made = engine_timer("numpy", task, RULES[rule], 0.0)
        wanted = read_after_a_run(made.candidate)
        found = baseline.make(task)
        assert disagreement(read_after_a_run(found), wanted) < 5e-5
        assert disagreement(read_after_a_run(found), wanted) < 5e-5  # again, after a reset
        assert found.read().keys() == wanted.keys()


def test_baselines_whose_numbers_differ_are_not_timed():
    case = Case(FAMILIES["layered"], {"batch": 2})
    right = next(row for row in BASELINES if row.meets("layered", "fpa", np.dtype("float32")))
    wrong = replace(right, name="wrong", make=lambda task: doubled(right.make(task)))
    failing = replace(right, name="failing", make=lambda task: 1 // 0)
    comparisons = Comparisons(["numpy"], [right, wrong, failing], "small", 0.01)
    comparisons.add(case, RULES["fpa"])
    (row,) = comparisons.rows
    assert [other.baseline for other in row.against] == [right.name]
    assert [line.split(": ", 1)[1] for line in comparisons.missing] == [
        "wrong differs by 1.0e+00 of the largest number",
        "failing: ZeroDivisionError: integer division or modulo by zero",
    ]


def doubled(candidate):
    return replace(candidate, read=lambda: {name: 2 * value for name, value in candidate.read().items()})


def test_ratio_encloses_the_median_and_decides():
    other = np.random.default_rng(0).lognormal(0.0, 0.5, 101)
    noise = np.random.default_rng(1).lognormal(0.0, 0.05, 101)
    found = ratio(0.8 * other * noise, other)  # what both share in a round cancels
    assert found.low < 0.8 < found.high
    assert found.high - found.low < 0.04
    assert found.decided(0.9)
    assert found.decided(0.7)
    assert not found.decided(0.8)
    assert ratio([1.0] * 5, [1.0] * 5).low is None
    assert ratio([1.0] * 6, [1.0] * 6).decided(1.1)


@pytest.mark.parametrize("count", [6, 7, 20, 51])
def test_enclosing_order_statistics_cover_95_percent_and_no_fewer_would(count):
    found = ratio(np.arange(1.0, count + 1), np.ones(count))
    rank = int(found.low)
    assert found.high == count + 1 - rank
    assert 1 - 2 * binom.cdf(rank - 1, count, 0.5) >= 0.95 > 1 - 2 * binom.cdf(rank, count, 0.5)


def test_race_interleaves_until_it_is_decided():
    calls = []

    def candidate(name, seconds):
        return Candidate(lambda: calls.append(f"reset {name}"), lambda: time.sleep(seconds), dict)

    samples = race({"a": candidate("a", 0.03), "b": candidate("b", 0.06)}, seconds=30.0, decided=lambda found: True)
    assert [len(found) for found in samples.values()] == [LEAST_ROUNDS] * 2
    # after two runs each to see how long one takes, one that is not counted and one that is
    assert calls[4:] == ["reset a", "reset a", "reset b", "reset b"] * LEAST_ROUNDS
    assert 1.5 < ratio(samples["b"], samples["a"]).median < 2.5
    assert [len(found) for found in race({"a": candidate("a", 0.006)}, seconds=0.0).values()] == [1]


def test_cost_counts_the_products_of_a_tick():
    depth, width, batch = 5, 7, 3
    case = Case(FAMILIES["deep-chain"], {"depth": depth, "width": width, "batch": batch})
    one = 2 * width * width * batch
    assert tick_work(task_of(case, "fpa")).products == (depth - 1) * one
    assert tick_work(task_of(case, "il")).products == (2 * depth - 1) * one
    assert update_work(task_of(case, "zil")).products == (3 * depth - 1) * one
    assert tick_work(task_of(case, "fpa")).messages == depth - 1


def test_cost_counts_a_message_for_each_synapse():
    case = Case(FAMILIES["population"], {"neurons": 50, "synapses": 300, "most_delay": 3, "batch": 2})
    assert tick_work(task_of(case, "fpa")).messages == 300
    assert tick_work(task_of(case, "fpa")).products == 2 * 300 * 2


def test_an_op_that_declares_no_cost_counts_its_parameters_and_is_never_free():
    task = task_of(Case(FAMILIES["layered"], {"batch": 1}), "fpa")
    layer = next(vertex for vertex in task.graph.vertices.values() if vertex.op.name == "affine")
    unknown = replace(layer, op=replace(layer.op, cost=lambda call: Cost()))
    numbers = sum(task.parameters[f"{layer.name}.{slot}"].size for slot in ("weight", "bias"))
    assert cost_of(unknown).multiply_adds == numbers == layer.op.cost(layer.call).multiply_adds + layer.shape[0]
    assert all(tick_work(task_of(Case(row, row.small[0]), "fpa")).elementwise > 0 for row in FAMILIES.values())


def test_families_hold_what_it_says():
    unit = scenario_of(Case(FAMILIES["unit-net"], {"batch": 1}), RULES["fpa"], 1).graph
    ops = Counter(vertex.op.name for vertex in unit.vertices.values())
    assert ops == {"input": 784, "weighted_sum": 58}
    assert {vertex.shape for vertex in unit.vertices.values()} == {()}
    assert len(unit.outputs) == 10
    scalar = scenario_of(Case(FAMILIES["scalar-dag"], {"vertices": 1000, "batch": 1}), RULES["fpa"], 1).graph
    assert len(scalar.active) == 1000
    assert len({scalar.vertices[name].op.name for name in scalar.active}) == 10
    mixed = scenario_of(Case(FAMILIES["mixed-delays"], FAMILIES["mixed-delays"].full[0]), RULES["fpa"], 1).graph
    assert {edge.error_delay for edge in mixed.edges} == set(range(8))


def as_units(layers, units):
    """Return the task of the net by units with the numbers of the net by layers: one row, or one column, a unit."""
    rows = {}
    for number, name in enumerate(layers.graph.active, 1):
        for slot in ("weight", "bias"):
            found = layers.parameters[f"{name}.{slot}"]
            rows |= {f"u{number}_{place}.{slot}": row for place, row in enumerate(found)}
    (x,), (target,) = layers.inputs.values(), layers.targets.values()
    inputs = {f"u0_{place}": column for place, column in enumerate(x.T)}
    targets = {f"u3_{place}": column for place, column in enumerate(target.T)}
    assert rows.keys() == units.parameters.keys()
    assert inputs.keys() == units.inputs.keys()
    assert targets.keys() == units.targets.keys()
    return replace(units, parameters=rows, inputs=inputs, targets=targets)


def gathered(layers, found, slot, axis):
    """Return what was read of the net by units as the net by layers has it: units of a layer side by side."""
    widths = {name: layers.graph.vertices[name].shape[0] for name in layers.graph.active}
    return {
        name + slot: np.stack([found[f"u{number}_{place}{slot}"] for place in range(width)], axis)
        for number, (name, width) in enumerate(widths.items(), 1)
    }


@pytest.mark.parametrize("name", list(RULES))
def test_a_net_by_units_computes_what_it_does_by_layers(name):
    layers, units = (task_of(Case(FAMILIES[family], {"batch": 3}), name) for family in ("layered", "unit-net"))
    layers, units = (replace(task, dtype=np.dtype("float64")) for task in (layers, as_units(layers, units)))
    assert tick_work(units).products == tick_work(layers).products
    assert update_work(units).products == update_work(layers).products
    sessions = [open_engine("numpy")(task) for task in (layers, units)]
    for session, task in zip(sessions, (layers, units), strict=True):
        session.advance(0, task.ticks, last=True)
    wanted, updates = (session.updates() for session in sessions)
    found = gathered(layers, updates, ".weight", 0) | gathered(layers, updates, ".bias", 0)
    assert found.keys() == wanted.keys()
    for parameter, update in wanted.items():
        np.testing.assert_allclose(found[parameter], update, rtol=1e-9, atol=1e-13)
    if not RULES[name].whole:
        wanted, values = (at_the_end(session, layers.ticks) for session in sessions)
        for vertex, error in gathered(layers, values, "", 1).items():
            np.testing.assert_allclose(error, wanted[vertex], rtol=1e-9, atol=1e-13)


def at_the_end(session, tick):
    """Return the errors that a session begun anew has at a tick."""
    session.restart()
    session.advance(0, tick, last=False)
    session.predict(tick)
    session.send(tick)
    session.deliver(tick)
    return errors(session)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the command writes for a family with baselines."""
    folder = tmp_path_factory.mktemp("bench")
    command = ["bench", "--family", "layered", "--engine", "numpy", "--rule", "fpa", "--rule", "bp", "--seconds", "0.5"]
    done = CliRunner().invoke(app, [*command, "--baselines", str(FILE), "--out", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), folder


def test_command_stores_what_it_prints(results):
    printed, folder = results
    stored = json.loads((folder / "results.json").read_text())
    assert stored == printed
    assert stored["pcsim"] == "bench/1"
    assert [(row["rule"], row["engine"], row["whole"]) for row in stored["rows"]] == [
        ("fpa", "numpy", False),
        ("bp", "numpy", True),
    ]
    for row in stored["rows"]:
        assert row["seconds"]["least"] <= row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        assert row["ticks_per_second"] == pytest.approx(row["ticks"] / row["seconds"]["median"], rel=0.5)
        assert row["gflops"] > 0
        assert 0 < row["of_product_rate"] < 2
    assert [other["baseline"] for other in stored["rows"][0]["against"]] == ["dense mask"]
    assert {rate["name"] for rate in stored["rates"]} == {"matrix product", "copy"}
    (cold,) = stored["cold"]
    assert cold["imports"] > 0
    assert cold["peak_mib"] > 10
    assert {curve["axis"] for curve in stored["growth"]} == {"depth", "width", "edges", "batch", "ticks", "delay"}


def test_results_name_no_host_and_no_folder(results):
    printed, folder = results
    text = json.dumps(printed) + (folder / "index.html").read_text()
    assert platform.node() not in text
    assert str(Path.home()) + "/" not in text
    assert str(Path(__file__).parents[1]) not in text
    assert printed["machine"]["cores"] >= 1
    assert printed["machine"]["versions"]["numpy"] == np.__version__


def test_page_needs_nothing_else(results):
    _, folder = results
    page = (folder / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)|url\((?!#)|@import|<script', page)
    assert page.count("<svg") == 1
    for text in ("dense mask", "slope", "matrix product", "Start-up"):
        assert text in page
    assert len(re.findall(r"<table>", page)) == 4


def test_command_prints_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no baselines are here, and a new folder is made
    command = ["bench", "--zoo", "deep-chain", "--engine", "numpy", "--rule", "zil", "--rule", "il", "--seconds", "0.2"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "over the baseline's time" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    grown = json.loads((tmp_path / "runs" / "bench" / "results.json").read_text())["growth"]
    assert {curve["rule"] for curve in grown} == {"il"}
    for text in ("this machine", "engines", "how cost grows", "runs/bench"):
        assert text in done.stdout
    assert (tmp_path / "runs" / "bench" / "results.json").is_file()


def test_ctrl_c_keeps_what_was_measured(tmp_path, monkeypatch):
    add = Comparisons.add

    def interrupted(comparisons, case, rule):
        add(comparisons, case, rule)
        if rule.name == "il":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Comparisons, "add", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = ["bench", "--zoo", "deep-chain", "--engine", "numpy", "--seconds", "0.2", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert done.exit_code == 130
    assert "interrupted" in done.stdout
    stored = json.loads((tmp_path / "results.json").read_text())
    assert [row["rule"] for row in stored["rows"]] == ["fpa", "il"]
    assert (stored["interrupted"], stored["cold"], stored["growth"]) == (True, [], [])
    assert "interrupted" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("wide", [True, False])
def test_rows_are_a_table_where_it_fits(wide):
    console = Console(width=100 if wide else 20, record=True, file=StringIO())
    console.print(Rows([{"case": "deep", "ms": "1.5 (1 to 2)"}, {"case": "deep", "ms": "2"}]))
    text = console.export_text()
    assert ("│" in text) == wide
    assert text.count("deep") == 1 + wide
    assert "ms 1.5 (1 to 2)" in text or wide


def test_threads_are_looked_at_before_anything_is_measured(monkeypatch):
    monkeypatch.setenv("PCSIM_THREADS", "many")
    with pytest.raises(InputError, match="PCSIM_THREADS"):
        request((), (), (), "small", 1.0, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--family", "deep-chian"], "unknown family 'deep-chian'; did you mean 'deep-chain'?"),
        (["--rule", "fpa1"], "unknown rule 'fpa1'; did you mean 'fpa'?"),
        (["--engine", "nunpy"], "unknown engine 'nunpy'; did you mean 'numpy'?"),
        (["--size", "ful"], "is 'ful', expected 'small' or 'full'"),
        (["--seconds", "0"], "is 0, expected a number above 0"),
        (["--baselines", "none.py"], "there is no file none.py"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(options, said):
    done = CliRunner().invoke(app, ["bench", *options])
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name", "No module named"),
        ("x = (", "cannot import"),
        ("BASELINES = [1]", "has no tuple BASELINES"),
    ],
)
def test_files_that_hold_no_baselines_are_refused(tmp_path, text, said):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        load_baselines(file)
    assert str(tmp_path) not in sys.path


def test_installed_packages_need_no_baselines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert request((), (), (), "small", 1.0, None).baselines == ()
