"""One run, from a scenario to its series, updates and summary, checked against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from strategies import VALUE_RULES

import pcsim
from pcsim.analysis.windows import window_of
from pcsim.run import evaluation

ENGINES = ["actors", "numpy"]


def chain(**changes: Any) -> dict[str, Any]:
    """x = 2, h = 0.5 x, y = 3 h, target 1: at first h = 1, y = 3, the output's error -2."""
    document: dict[str, Any] = {
        "graph": {
            "parameters": {
                "w": {"shape": [1, 1], "init": {"constant": 0.5}},
                "v": {"shape": [1, 1], "init": {"constant": 3}},
            },
            "vertices": {
                "x": {"op": "input", "shape": [1]},
                "h": {"op": "affine", "units": 1, "bias": False, "inputs": ["x"], "params": {"weight": "w"}},
                "y": {"op": "affine", "units": 1, "bias": False, "inputs": ["h"], "params": {"weight": "v"}},
            },
            "outputs": ["y"],
        },
        "inputs": {"x": 2.0},
        "targets": {"y": 1.0},
        "rule": {"name": "il", "step_size": 0.5, "ticks": 2},
        "record": [{"what": ["value", "prediction", "error", "energy", "norm", "divergence", "update"]}],
    }
    return {**document, **changes}


def deep(**changes: Any) -> dict[str, Any]:
    """A small nonlinear graph with a skip edge and different delays in the two directions."""
    document: dict[str, Any] = {
        "graph": {
            "vertices": {
                "x": {"op": "input", "shape": [2]},
                "h1": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
                "h2": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["h1"]},
                "mix": {"op": "add", "inputs": ["h2", {"from": "h1", "delay": {"value": 2, "error": 3}}]},
                "y": {"op": "affine", "units": 2, "inputs": ["mix"]},
            },
            "outputs": ["y"],
        },
        "inputs": {"x": {"normal": [0, 1]}},
        "targets": {"y": {"normal": [0, 1]}},
        "batch": 3,
        "rule": {"name": "il", "step_size": 0.2, "ticks": 12},
        "record": [{"what": ["value", "prediction", "error", "energy", "message", "norm", "divergence", "update"]}],
    }
    return {**document, **changes}


def column(run: pcsim.Run, quantity: str, name: str | None = None) -> list[float]:
    return np.ravel(run.series(quantity, name).values).tolist()


# -- by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_standard_inference_by_hand(engine):
    # h moves by 0.5 * 3 * -2 = -3, to -2; then y is predicted as -6, off by 7, and h is off by -3
    run = pcsim.simulate(chain(), engine=engine)
    assert column(run, "value", "x") == [2, 2]
    assert column(run, "value", "h") == [1, -2]
    assert column(run, "value", "y") == [1, 1]
    assert column(run, "prediction", "h") == [1, 1]
    assert column(run, "prediction", "y") == [3, -6]
    assert column(run, "error", "h") == [0, -3]
    assert column(run, "error", "y") == [-2, 7]
    assert column(run, "norm", "h") == [0, 3]
    assert column(run, "energy") == [0.5 * 4, 0.5 * (9 + 49)]
    # learnt in tick 1: error times presynaptic value
    assert run.updates["w"].tolist() == [[-3 * 2]]
    assert run.updates["v"].tolist() == [[7 * -2]]
    assert column(run, "update", "w") == [0, -6]
    # and then h moves once more: by 0.5 * (3 + 3 * 7)
    assert run.state["h"].tolist() == [[10]]
    assert run.summary["energy"] == {"first": 2, "last": 29, "loss": 2}


@pytest.mark.parametrize("engine", ENGINES)
def test_fixed_predictions_by_hand(engine):
    run = pcsim.simulate(chain(), {"rule.name": "fpa"}, engine=engine)
    assert column(run, "error", "h") == [0, -3]
    assert column(run, "error", "y") == [-2, -2]
    assert column(run, "prediction", "y") == [3, 3]
    assert column(run, "energy") == [2, 0.5 * (9 + 4)]
    # backprop says -6 for h: half of it is still missing
    assert column(run, "divergence", "h") == [1, 0.5]
    assert column(run, "divergence", "y") == [0, 0]
    assert run.updates["v"].tolist() == [[-2 * 1]]  # the presynaptic prediction, not the value


@pytest.mark.parametrize("engine", ENGINES)
def test_precisions_weigh_errors_in_the_energy_and_on_the_way(engine):
    document = chain()
    document["graph"]["vertices"]["h"]["precision"] = 2
    document["graph"]["vertices"]["y"]["precision"] = 4
    run = pcsim.simulate(document, {"rule.name": "fpa"}, engine=engine)
    assert column(run, "error", "h") == [0, 0.5 * 3 * 4 * -2]
    assert column(run, "energy") == [0.5 * 4 * 4, 0.5 * (2 * 144 + 4 * 4)]
    assert run.updates["v"].tolist() == [[4 * -2 * 1]]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_energy_of_a_cross_entropy_output_is_its_loss(engine):
    document = chain(loss="cross_entropy", targets={"y": [1.0, 0.0]})
    del document["graph"]["parameters"]
    init = {"weight": {"constant": 0}, "bias": {"values": [0, math.log(3)]}}
    document["graph"]["vertices"] = {
        "x": {"op": "input", "shape": [1]},
        "h": {"op": "affine", "units": 1, "inputs": ["x"]},
        "y": {"op": "affine", "units": 2, "inputs": ["h"], "init": init},
    }
    run = pcsim.simulate(document, engine=engine)
    # softmax [1/4, 3/4]: the loss is log 4, the error [3/4, -3/4]; nothing flows back through a zero weight
    np.testing.assert_allclose(column(run, "energy"), [math.log(4)] * 2, rtol=1e-14)
    np.testing.assert_allclose(run.series("error", "y").values[0, 0], [0.75, -0.75], rtol=1e-14)
    assert run.summary["energy"]["loss"] == pytest.approx(math.log(4), rel=1e-14)
    np.testing.assert_allclose(run.updates["y.bias"], [0.75, -0.75], rtol=1e-14)


# -- messages and delays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["il", "fpa"])
@pytest.mark.parametrize("engine", ENGINES)
def test_messages_arrive_as_many_ticks_later_as_their_edge_says(engine, rule):
    run = pcsim.simulate(deep(), {"rule.name": rule}, engine=engine)
    value, sent = run.series("value", "h1").values, run.series("error", "mix").values
    got = run.series("message", "h1->mix", kind="value").values
    assert np.abs(value[5] - value[0]).max() > 0
    assert np.array_equal(got[2:], value[:-2])
    assert np.array_equal(got[:2], np.stack([value[0]] * 2))  # before tick 0: the feedforward value
    back = run.series("message", "h1->mix", kind="error").values
    assert np.array_equal(back[3:], sent[:-3])  # an addition passes its error on as it is
    assert not back[:3].any()
    assert back[4:].any()
    assert np.array_equal(run.series("message", "h2->mix", kind="error").values, sent)


def test_only_edges_that_carry_errors_have_error_messages():
    run = pcsim.simulate(deep())
    assert run.series("message", "x->h1", kind="value").shape == (12, 3, 2)
    with pytest.raises(pcsim.InputError, match="x->h1"):
        run.series("message", "x->h1", kind="error")


# -- what is recorded ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "name", "shape"),
    [
        ("value", "x", (12, 3, 2)),
        ("value", "y", (12, 3, 2)),
        ("value", "h1", (12, 3, 3)),
        ("prediction", "mix", (12, 3, 3)),
        ("error", "h2", (12, 3, 3)),
        ("norm", "h2", (12,)),
        ("divergence", "h2", (12,)),
        ("energy", None, (12,)),
        ("update", "h1.weight", (12, 3, 2)),
    ],
)
def test_each_quantity_alone(what, name, shape):
    run = pcsim.simulate(deep(record=[{"what": what}]))
    found = run.series(what, name)
    assert found.shape == shape
    assert found.dims[0] == "tick"
    assert found.coords["tick"].values.tolist() == list(range(12))
    other = "error" if what != "error" else "value"
    with pytest.raises(pcsim.InputError, match=rf"no {other} was recorded.*to record it, add"):
        run.series(other, "h1")


def test_the_recorded_update_ends_as_what_was_learnt():
    for rule in ("il", "zil", "fa-zil", "incremental"):
        for engine in ENGINES:
            run = pcsim.simulate(deep(), {"rule": {"name": rule, "ticks": 6}}, engine=engine)
            for name, learnt in run.updates.items():
                assert np.array_equal(run.series("update", name).values[-1], learnt), (rule, engine, name)


def test_patterns_and_rhythm_choose():
    record = [
        {"what": "value", "vertices": ["h*"], "every": 5},
        {"what": "error", "vertices": "y"},
        {"what": "message", "vertices": ["h1->*"]},
    ]
    run = pcsim.simulate(deep(record=record))
    assert run.series("value", "h1").coords["tick"].values.tolist() == [0, 5, 10]
    assert run.series("error", "y").shape == (12, 3, 2)
    for quantity, name in (("value", "mix"), ("error", "h1")):
        with pytest.raises(pcsim.InputError, match="was not recorded"):
            run.series(quantity, name)
    assert set(run.trace["message/value/3"]["message"].coords["edge"].values) == {"h1->h2", "h1->mix"}
    every = pcsim.simulate(deep())
    assert np.array_equal(run.series("value", "h1").values, every.series("value", "h1").values[::5])


def test_the_series_of_backprop_and_of_theory_stand_beside_each_other():
    run = pcsim.simulate(deep(rule={"name": "fpa", "step_size": 0.3, "ticks": 60}))
    theory, measured = (run.trace["series"][what].values for what in ("theory", "divergence"))
    np.testing.assert_allclose(measured, theory, atol=1e-14)
    assert run.trace["series"].coords["level"].dims == ("vertex",)


def test_nothing_is_measured_when_nothing_is_asked_for(monkeypatch):
    def fail(*_args: object) -> None:
        pytest.fail("measured")

    monkeypatch.setattr(evaluation, "start_meter", fail)
    monkeypatch.setattr(evaluation, "reference", fail)
    run = pcsim.simulate(deep(record=[], measure=[]))
    assert run.summary["warnings"] == []
    assert "energy" not in run.summary
    assert set(run.trace.children) == {"learnt", "parameters"}
    assert run.updates.keys() == pcsim.parameters(deep()).keys()


def test_by_default_the_energy_the_norms_and_the_divergence_are_recorded():
    document = deep()
    del document["record"]
    run = pcsim.simulate(document)
    assert set(run.trace.children) == {"series", "learnt", "parameters"}
    assert set(run.trace["series"].data_vars) == {"energy", "norm", "divergence"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"record": [{"what": "value", "vertices": ["h9"]}]}, r"record\[0\]\.vertices\[0\]: no vertex is named 'h9'; "),
        ({"record": [{"what": "message", "vertices": ["h1->h9"]}]}, "no edge is named 'h1->h9'; did you mean 'h1->h2'"),
        ({"record": [{"what": "valeu"}]}, "valeu"),
        ({"record": [{"what": "value", "every": 0}]}, "every"),
        ({"record": [{"what": "value"}, {"what": "value", "every": 2}]}, "give both one rhythm"),
        ({"measure": ["divergense"]}, r"measure\[0\]: unknown measure 'divergense'; did you mean 'divergence'"),
        ({"rule": "fpaa"}, "did you mean 'fpa'"),
        ({"engine": "nump"}, "did you mean 'numpy'"),
        ({"stop": {"measure": "update", "below": 1e-3}, "converged": "energy"}, "converged"),
        ({"inputs": {"x": [1, 2, 3]}}, r"inputs\.x"),
        ({"targets": {}}, "output 'y' has no target"),
    ],
)
def test_what_is_wrong_is_refused_by_name(changes, said):
    with pytest.raises(pcsim.InputError, match=said):
        pcsim.simulate(deep(**changes))


def test_an_unknown_engine_is_refused():
    with pytest.raises(pcsim.InputError, match="did you mean 'numpy'"):
        pcsim.simulate(deep(), engine="nunpy")


# -- where a run ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["gradient", "update", "settled", "energy"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_stop_ends_the_run_where_the_bound_has_held_for_as_long_as_it_must_and_learns_there(engine, criterion):
    rule = {"name": "fpa", "step_size": 0.4, "ticks": 300}
    stopped = pcsim.simulate(deep(rule=rule, stop={"measure": criterion, "below": 1e-4}), engine=engine)
    ticks = stopped.summary["ticks"]
    assert 5 < ticks < 300
    assert stopped.manifest["status"] == "done"
    assert stopped.summary["stop_reason"] == f"{criterion} at or below 0.0001 at tick {ticks - 1}"
    whole = pcsim.simulate(deep(rule={**rule, "ticks": ticks}), engine=engine)
    for name, update in whole.updates.items():
        assert np.array_equal(update, stopped.updates[name])
    assert stopped.series("value", "h1").identical(whole.series("value", "h1"))
    if criterion == "gradient":
        worst = stopped.trace["series"]["divergence"].values.max(axis=1)
        assert worst[-1] <= 1e-4 < worst[-2]
    if criterion == "update":
        moved = [
            np.abs(np.diff(stopped.series("value", name).values, axis=0)).max((1, 2)) for name in ("h1", "h2", "mix")
        ]
        moved = np.max(moved, axis=0)
        window = window_of(pcsim.load(deep(rule=rule)).graph, moving=False)
        assert moved[-window:].max() <= 1e-4
        assert window == 16  # the error of mix takes four ticks to h1


@pytest.mark.parametrize(
    ("rule", "criterion"), [("fpa", "gradient"), ("zil", "gradient"), ("il", "settled"), ("incremental", "settled")]
)
def test_converged_means_what_suits_the_rule(rule, criterion):
    run = pcsim.simulate(deep(), {"rule.name": rule})
    assert run.summary["ticks_to_convergence"]["criterion"] == criterion


def test_stop_converged_uses_the_criterion_and_the_tolerance():
    rule = {"name": "il", "step_size": 0.2, "ticks": 2000}
    run = pcsim.simulate(deep(rule=rule, stop="converged", converged="update", tolerance=1e-5))
    assert run.summary["stop_reason"].startswith("update at or below 1e-05")
    assert run.summary["ticks_to_convergence"]["ticks"] == run.summary["ticks"] - 1


def test_a_run_of_levels_takes_as_many_ticks_as_the_graph_has_levels():
    run = pcsim.simulate(deep(rule="zil", level="delay"))
    assert run.summary["ticks"] == run.summary["levels"] == run.summary["horizon"]


# -- where a run begins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_goes_on_from_the_state_of_another(engine, tmp_path):
    graph = deep()["graph"]
    graph["vertices"]["mix"]["inputs"] = ["h2", "h1"]  # delay lines are not part of a state
    whole = pcsim.simulate(deep(graph=graph), engine=engine)
    first = pcsim.simulate(deep(graph=graph), {"rule.ticks": 7}, engine=engine)
    rest = pcsim.simulate(deep(graph=graph), {"rule.ticks": 5}, engine=engine, initial=first.state)
    np.savez(tmp_path / "state.npz", **first.state)
    read = pcsim.simulate(
        deep(graph=graph, initial={"file": str(tmp_path / "state.npz")}), {"rule.ticks": 5}, engine=engine
    )
    for name in ("h1", "h2", "mix"):
        wanted = whole.series("value", name).values[7:]
        np.testing.assert_allclose(rest.series("value", name).values, wanted, rtol=1e-12, atol=1e-14)
        assert np.array_equal(read.series("value", name).values, rest.series("value", name).values)


def test_other_starts():
    zeros, random = pcsim.simulate(deep(initial="zeros")), pcsim.simulate(deep(initial={"normal": 2.0}))
    assert not zeros.series("value", "h2").values[0].any()
    start = random.series("value", "h2").values[0]
    assert 0.2 < start.std() < 6
    assert np.array_equal(start, pcsim.simulate(deep(initial={"normal": 2.0})).series("value", "h2").values[0])
    assert not np.array_equal(
        start, pcsim.simulate(deep(initial={"normal": 2.0}, seed=1)).series("value", "h2").values[0]
    )


@pytest.mark.parametrize(
    ("initial", "said"),
    [
        ({"y": np.zeros((3, 2))}, "is not a free vertex"),
        ({"h9": np.zeros((3, 3))}, "known: h1, h2, mix"),
        ({"h1": np.zeros((1, 3))}, r"has shape \[1, 3\], expected \[3, 3\]"),
        ({"h1": np.full((3, 3), np.nan)}, r"initial\.h1: data must be finite numbers"),
        ({"h1": [[0, 1], [2]]}, r"initial\.h1: expected numbers of shape \[3, 3\]"),
        (3, r"initial: expected \{free vertex: array\}, .* got 3"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(initial, said):
    with pytest.raises(pcsim.InputError, match=said):
        pcsim.simulate(deep(), initial=initial)


def test_a_run_from_a_folder_has_no_state(tmp_path):
    run = pcsim.open_run(pcsim.simulate(deep()).save(tmp_path / "run"))
    with pytest.raises(pcsim.InputError, match="not kept"):
        _ = run.state


# -- engines, numbers, seeds --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", list(VALUE_RULES))
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_two_engines_give_the_same_series(rule, loss):
    runs = [
        pcsim.simulate(deep(loss=loss, targets={"y": [0.3, 0.7]}), {"rule.name": rule}, engine=engine)
        for engine in ENGINES
    ]
    for quantity, names in {
        "value": ["x", "h1", "mix", "y"],
        "prediction": ["h1", "y"],
        "error": ["h1", "y"],
        "norm": ["h2"],
        "energy": [None],
        "update": ["h1.weight", "y.bias"],
    }.items():
        for name in names:
            a, b = (run.series(quantity, name).values for run in runs)
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14, err_msg=f"{quantity} {name}")
    for kind in ("value", "error"):
        a, b = (run.series("message", "h1->mix", kind=kind).values for run in runs)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    first, second = (run.summary for run in runs)
    assert first["first_arrival"] == second["first_arrival"]
    assert first["traffic"] == second["traffic"]


def test_float32_is_float32_all_the_way_and_near_float64():
    single, double = pcsim.simulate(deep(dtype="float32")), pcsim.simulate(deep())
    assert single.series("value", "h1").dtype == np.float32
    assert all(update.dtype == np.float32 for update in single.updates.values())
    np.testing.assert_allclose(single.series("value", "h1").values, double.series("value", "h1").values, atol=1e-5)
    assert single.manifest["dtype"] == "float32"


def test_seeds_decide_parameters_and_data():
    one, same, other = (pcsim.simulate(deep(seed=seed)) for seed in (5, 5, 6))
    assert one.series("value", "h1").identical(same.series("value", "h1"))
    assert one.manifest["digest"] == same.manifest["digest"] != other.manifest["digest"]
    assert not np.array_equal(one.series("value", "x").values, other.series("value", "x").values)
    assert not np.array_equal(pcsim.parameters(deep(seed=5))["h1.weight"], pcsim.parameters(deep(seed=6))["h1.weight"])


def test_rules_that_fire_once_leave_the_parameters_alone():
    before = pcsim.parameters(deep())
    pcsim.simulate(deep())
    assert all(np.array_equal(value, before[name]) for name, value in pcsim.parameters(deep()).items())


def test_progress_is_told_after_each_tick():
    told: list[tuple[int, int]] = []
    pcsim.simulate(deep(), progress=lambda done, total: told.append((done, total)))
    assert told == [(tick, 12) for tick in range(1, 13)]


# -- runs that fail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_that_become_infinite_end_the_run_and_keep_what_was_recorded(engine, tmp_path):
    document = chain(rule={"name": "il", "step_size": 4.0, "ticks": 100_000})
    with pytest.raises(pcsim.RunError, match=r"at tick \d+.*grew beyond float64.*smaller step_size") as caught:
        pcsim.simulate(document, engine=engine, out=tmp_path / "run")
    for run in (caught.value.run, pcsim.open_run(tmp_path / "run")):
        assert run.manifest["status"] == "failed"
        assert run.summary["stop_reason"] == str(caught.value)
        values = run.series("value", "h").values
        assert 10 < len(values) == run.summary["ticks"]
        assert np.isfinite(values).all()
        assert values[1] == 1 + 4 * 3 * -2
        json.dumps(run.summary, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rule": {"name": "il", "step_size": 40}},
            r"beyond float64; a smaller step_size keeps the transient bounded$",
        ),
        ({"rule": {"name": "il", "step_size": 40}, "dtype": "float32"}, r"bounded; float64 holds larger numbers$"),
        ({"rule": "zil"}, r"beyond float64; zil is defined on levelled graphs: say level: delay or level: identity$"),
        (
            {"rule": {"name": "zil", "step_size": 4}},
            r"beyond float64; zil is defined at step_size 1$",
        ),
        ({"rule": {"name": "il", "step_size": 40}, "solve": "simulate", "engine": "actors"}, r"transient bounded$"),
    ],
)
def test_what_would_keep_numbers_bounded_is_what_the_run_has_not(changes, said):
    graph = deep()["graph"]
    graph["vertices"]["mix"]["inputs"] = ["h2", "h1"]
    wide = {"init": {"weight": {"normal": [0, 1e60 if "dtype" not in changes else 1e6]}}, "activation": "identity"}
    for name in ("h1", "h2", "y"):
        graph["vertices"][name] = {**graph["vertices"][name], **wide}
    with pytest.raises(pcsim.RunError, match=said):
        pcsim.simulate(deep(**{"graph": graph, "record": [], **changes}), {"rule.ticks": 300})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_value_that_leaves_the_domain_of_an_op_ends_the_run(engine):
    document = chain(
        graph={"formula": "sqrt(a * x)", "parameters": {"a": {"init": {"constant": 1.0}}}},
        inputs={"x": 1.0},
        targets={"v2": -9.0},
        rule={"name": "il", "step_size": 1.0, "ticks": 50},
    )
    with pytest.raises(pcsim.RunError, match=r"at tick 1: square root of a negative number: -4.0") as caught:
        pcsim.simulate(document, engine=engine)
    assert caught.value.run.summary["ticks"] == 1
    assert column(caught.value.run, "value", "v1") == [1.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_feedforward_sweep_that_fails_says_so(engine, tmp_path):
    document = {"graph": {"formula": "log(x)"}, "inputs": {"x": -1.0}, "targets": {"v1": 0}, "rule": "fpa"}
    with pytest.raises(pcsim.RunError, match="in the feedforward sweep") as caught:
        pcsim.simulate(document, engine=engine, out=tmp_path / "run")
    assert caught.value.run is None
    assert pcsim.open_run(tmp_path / "run").manifest["status"] == "failed"


def test_a_transient_that_grows_without_end_still_has_a_summary(tmp_path):
    run = pcsim.simulate(chain(rule={"name": "fpa", "step_size": 2.5, "ticks": 900}), out=tmp_path / "run")
    json.dumps(run.summary, allow_nan=False)
    assert "under-converged" in run.summary["warnings"][0]
