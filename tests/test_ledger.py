"""The ledger of a tick: what arrived at a vertex, what it made of it, and that the numbers add up."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import zarr
from strategies import BOUNDED, Features, random_document
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.errors import InputError
from pcsim.graph import graph_from
from pcsim.run.numbers import AGAIN, RECORDED
from pcsim.run.rerun import rerun_of
from pcsim.run.under_way import moment
from pcsim.view.tick_picture import bar

TAME = (*BOUNDED, "add", "subtract", "affine", "projection", "identity", "negate", "mean")
NAMES = [
    "actors",
    "numpy",
    pytest.param("numba", marks=pytest.mark.skipif(not find_spec("numba"), reason="needs Numba")),
]
RULES = ({"name": "il", "step_size": 0.3, "ticks": 9}, {"name": "fpa", "step_size": 0.5, "ticks": 9}, {"name": "zil"})


def scenario(seed, rule, **more):
    document = random_document(seed, Features(ops=TAME, precision=True, dead_ends=seed % 2 == 0))
    graph = graph_from(document)
    normal = {"normal": [0, 0.7]}
    return {
        "pcsim": "scenario/1",
        "graph": document,
        "inputs": {name: normal for name, vertex in graph.vertices.items() if vertex.op.name == "input"},
        "targets": dict.fromkeys(graph.outputs, normal),
        "batch": 2,
        "rule": rule,
        "level": "delay" if rule["name"] == "zil" else "none",
        "seed": seed,
        **more,
    }


def with_units(run):
    graph = pcsim.load(run.manifest["scenario"]).levelled
    return [name for name, vertex in graph.vertices.items() if vertex.op.role != "parameter"]


EVERYTHING = [{"what": ["value", "prediction", "error", "message"], "vertices": "all"}]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(8))
def test_the_numbers_add_up_to_the_recorded_change(name, seed):
    run = pcsim.simulate(scenario(seed, RULES[seed % 3], record=EVERYTHING[:1]), engine=name)
    last = run.summary["ticks"] - 1
    for vertex in with_units(run):
        values = run.series("value", vertex).values
        for tick in range(last + 1):
            ledger = run.ledger(vertex, tick)
            assert ledger.notes == ()
            assert ledger.adds_up, ledger
            if tick < last:
                change = values[tick + 1] - values[tick]
                assert np.abs(ledger["change"] - change).max() <= 1e-12 * max(1.0, np.abs(values).max())


@pytest.mark.parametrize("seed", range(6))
def test_what_was_not_recorded_is_computed_again_to_the_last_bit(seed):
    rule = RULES[seed % 3]
    whole = pcsim.simulate(scenario(seed, rule, record=EVERYTHING))
    norms = pcsim.simulate(scenario(seed, rule))
    for vertex in with_units(whole):
        one, other = (run.ledger(vertex, 3 % run.summary["ticks"]) for run in (whole, norms))
        assert {message.contents.origin for message in one.inbox} <= {RECORDED}
        assert {message.contents.origin for message in other.inbox} <= {AGAIN}
        for line, again in zip(one.lines, other.lines, strict=True):
            assert np.array_equal(line.numbers, again.numbers)
        for message, again in zip(one.inbox, other.inbox, strict=True):
            assert np.array_equal(message.contents.numbers, again.contents.numbers)


CHAIN = {
    "pcsim": "graph/1",
    "vertices": {
        "x": {"op": "input", "shape": [2]},
        "a": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
        "b": {"op": "affine", "units": 3, "precision": 0.5,
              "inputs": [{"from": "a", "delay": {"value": 2, "error": 3}}]},
        "y": {"op": "affine", "units": 2, "inputs": ["b"]},
    },
    "outputs": ["y"],
}  # fmt: skip


def chain(**more):
    return {
        "pcsim": "scenario/1", "graph": CHAIN, "inputs": {"x": {"normal": [0, 1]}}, "targets": {"y": [1.0, -1.0]},
        "rule": {"name": "il", "step_size": 0.2, "ticks": 12}, **more,
    }  # fmt: skip


def test_messages_say_when_they_were_sent():
    run = pcsim.simulate(chain())
    early, late = run.ledger("b", 1), run.ledger("a", 5)
    assert [(message.kind, message.sender, message.sent) for message in early.inbox] == [
        ("value", "a", -1),
        ("error", "y", 1),
    ]
    assert [(message.kind, message.sender, message.sent) for message in late.inbox] == [
        ("value", "x", 5),
        ("error", "b", 2),
    ]
    np.testing.assert_array_equal(early.inbox[0].contents.numbers, run.ledger("a", 0)["prediction"])
    np.testing.assert_array_equal(late["-Pi eps"], -late["error"])
    np.testing.assert_array_equal(early["-Pi eps"], -0.5 * early["error"])


def test_roles_say_why_a_value_stays():
    run = pcsim.simulate(chain())
    assert [run.ledger(name, 2).role for name in ("x", "a", "y")] == ["source", "free", "clamped"]
    assert np.all(run.ledger("y", 2)["change"] == 0)
    loss = pcsim.simulate(chain(targets={"y": {"values": [[1.0, 0.0]], "loss": "cross_entropy"}}))
    ledger = loss.ledger("y", 4)
    assert ledger.role == "output"
    assert ledger.adds_up
    assert np.any(ledger["change"] != 0)


def test_float32_adds_up_to_rounding_of_float32():
    run = pcsim.simulate(chain(dtype="float32"))
    ledger = run.ledger("a", 6)
    assert ledger["value before"].dtype == np.float32
    assert 0 <= ledger.residual < 1e-6
    assert ledger.adds_up


@pytest.mark.parametrize("name", NAMES)
def test_a_population_whose_synapses_differ_in_delay_adds_up(name):
    overrides = {"graph.neurons": 20, "graph.inputs": 8, "graph.degree": 4, "graph.longest": 3, "rule.ticks": 8}
    run = pcsim.simulate(
        pcsim.load("scenarios/sparse-population.yaml", {**overrides, "rule.step_size": 0.4}), engine=name
    )
    for tick in range(8):
        ledger = run.ledger("a", tick)
        assert ledger.adds_up, ledger
        assert {message.sent for message in ledger.inbox if message.kind == "error"} == {tick - d for d in range(4)}


def test_a_run_started_elsewhere_is_computed_again_from_there(tmp_path):
    first = pcsim.simulate(chain())
    run = pcsim.simulate(chain(record=[{"what": ["value"]}]), initial=first.state)
    np.testing.assert_array_equal(run.ledger("a", 0)["value before"], first.state["a"])
    run.save(tmp_path / "run")
    notes = pcsim.open_run(tmp_path / "run").ledger("a", 1).notes
    assert any("computed again, the value of a at tick 1 differs" in note for note in notes)


def test_what_cannot_be_computed_again_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.5, -0.5]]))
    document = chain(inputs={"x": {"file": str(tmp_path / "x.npy")}}, record=[{"what": ["error"]}])
    pcsim.simulate(document, out=tmp_path / "run")
    run = pcsim.open_run(tmp_path / "run")
    assert run.ledger("a", 1).adds_up
    (tmp_path / "x.npy").unlink()
    with pytest.raises(InputError, match=r"x\.npy"):
        pcsim.open_run(tmp_path / "run").ledger("a", 1)


@pytest.mark.parametrize(
    ("vertex", "tick", "said"),
    [("aa", 1, "no vertex of the graph"), ("a.weight", 1, "is a parameter"), ("a", 12, "ticks 0 to 11"),
     ("a", -1, "ticks")],
)  # fmt: skip
def test_what_is_not_there_is_refused(vertex, tick, said):
    with pytest.raises(InputError, match=said):
        pcsim.simulate(chain()).ledger(vertex, tick)


def test_the_last_tick_of_a_run_that_failed_says_why_its_sum_is_not_known():
    with pytest.raises(pcsim.RunError) as failed:
        pcsim.simulate(chain(rule={"name": "il", "step_size": 40, "ticks": 400}))
    run = failed.value.run
    ledger = run.ledger("a", run.summary["ticks"] - 1)
    assert ledger.residual is None
    assert not ledger.adds_up
    assert any("grew beyond float64" in note for note in ledger.notes)


def test_a_vertex_that_is_frozen_says_so():
    growing = {
        "pcsim": "graph/1",
        "vertices": {
            "x": {"op": "input", "shape": []}, "a": {"op": "exp", "inputs": ["x"]}, "b": {"op": "exp", "inputs": ["a"]},
            "c": {"op": "exp", "inputs": ["b"]}, "d": {"op": "identity", "inputs": ["c"]},
            "y": {"op": "identity", "inputs": ["d"]},
        },
        "outputs": ["y"],
    }  # fmt: skip
    run = pcsim.simulate(
        chain(graph=growing, inputs={"x": 0.4}, targets={"y": 1e200}, rule={"name": "zil"}, exact_dynamics=True)
    )
    roles = {(name, tick): run.ledger(name, tick) for name in "abcd" for tick in range(run.summary["ticks"])}
    assert all(ledger.adds_up for ledger in roles.values())
    assert "frozen" in {ledger.role for ledger in roles.values()}


def test_ticks_may_be_asked_for_in_any_order():
    run, again = pcsim.simulate(chain()), pcsim.simulate(chain())
    for tick in (7, 2, 3, 2, 11, 0):
        other = pcsim.simulate(chain(record=EVERYTHING)).ledger("a", tick)
        for ledger in (run.ledger("a", tick), again.ledger("a", tick)):
            np.testing.assert_array_equal(ledger["change"], other["change"])


def test_edges_of_a_trace_carry_their_ends_and_delays():
    run = pcsim.simulate(chain(record=[{"what": ["message"]}]))
    for kind, delay in (("value", 2), ("error", 3)):
        found = run.series("message", "a->b", kind)
        assert (str(found["pre"].values), str(found["post"].values)) == ("a", "b")
        assert (int(found["slot"]), int(found["delay"])) == (0, delay)


def test_the_messages_under_way_are_those_that_arrive_later():
    run = pcsim.simulate(chain(record=EVERYTHING))
    found = moment(rerun_of(run), 5)
    places = {(each.edge, each.kind): each.norms for each in found.travelling}
    arriving = run.series("message", "a->b", "error").values
    later = [float(np.linalg.norm(arriving[tick])) for tick in (6, 7, 8)]
    np.testing.assert_allclose(places["a->b", "error"], later[::-1], rtol=1e-14)
    values, start = run.series("value", "a").values, run.series("prediction", "a").values[0]
    moved = [float(np.linalg.norm(values[tick] - start)) for tick in (5, 4)]
    np.testing.assert_allclose(places["a->b", "value"], moved, rtol=1e-12)
    assert list(found.levels) == [6, 5, 1, 0]


def test_bars_fall_with_the_logarithm_and_zero_is_a_dot():
    assert [bar(norm, 1.0) for norm in (1.0, 1e-2, 1e-9, 0.0)] == ["█", "▄", "▁", "·"]
    assert bar(5e-324, 1e10) == "▁"  # their quotient is no number above 0
    assert [bar(norm, 1.0) for norm in (np.inf, np.nan)] == ["!", "!"]


@pytest.mark.filterwarnings("error")
def test_a_tick_of_a_run_that_diverges_is_json_without_warnings(tmp_path):
    wild = {"x": {"op": "input", "shape": [1]}, "y": {"op": "affine", "units": 1, "inputs": ["a"]}}
    wild["a"] = {"op": "affine", "units": 1, "inputs": ["x"]}
    wild["y"]["init"] = {"weight": {"constant": 30}}
    scenario = {"graph": {"vertices": wild}, "inputs": {"x": 1.0}, "targets": {"y": 0.0}}
    with pytest.raises(pcsim.RunError):
        pcsim.simulate({**scenario, "rule": {"name": "il", "step_size": 1.0, "ticks": 400}}, out=tmp_path / "run")
    last = pcsim.open_run(tmp_path / "run").series("energy").sizes["tick"] - 1
    answer = told("trace", tmp_path / "run", "--tick", last, "--picture", "--json")
    assert "Infinity" not in answer.stdout
    assert json.loads(answer.stdout)["levels"][-1]["errors"] == {"y": None}


def told(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def test_the_command_shows_the_ledger_and_the_picture(tmp_path):
    pcsim.simulate(chain(), out=tmp_path / "run")
    ledger = told("trace", tmp_path / "run", "--vertex", "a", "--tick", "5")
    assert "error a->b" in ledger.stdout
    assert "value after = value before + change" in ledger.stdout
    plain = json.loads(told("trace", tmp_path / "run", "--vertex", "a", "--tick", "5", "--json").stdout)["ledger"]
    assert plain["adds_up"]
    assert plain["lines"][0]["name"] == "value before"
    assert "messages under way after tick 5" in told("trace", tmp_path / "run", "--tick", "5", "--picture").stdout
    assert told("trace", tmp_path / "run", "--picture").exit_code == 2


def test_a_trace_that_is_not_what_the_run_computes_is_told(tmp_path):
    pcsim.simulate(chain(record=[{"what": ["value"]}]), out=tmp_path / "run")
    assert pcsim.open_run(tmp_path / "run").ledger("a", 5).notes == ()
    group = zarr.open_group(tmp_path / "run" / "trace.zarr", mode="r+", use_consolidated=False)
    group["value/3/value"][5, 0] = group["value/3/value"][5, 0] + 1e-9
    (note,) = pcsim.open_run(tmp_path / "run").ledger("a", 5).notes
    assert note == "computed again, the value of a at tick 5 differs by 1.0e-09"


def test_a_picture_is_of_all_vertices(tmp_path):
    pcsim.simulate(chain(), out=tmp_path / "run")
    asked = ["trace", str(tmp_path / "run"), "--tick", "5", "--picture", "--vertex", "a"]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == 2
    assert "for one vertex leave out --picture" in " ".join(refused.output.split())
