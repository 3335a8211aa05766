"""What is recorded costs what it must: norms in blocks of ticks, nothing where nothing is asked for."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
from test_simulate import deep

import pcsim
from pcsim.engines.array.session import ArraySession
from pcsim.run import evaluation

ENGINES = ["actors", "numpy"]
NORMS = {"record": [{"what": "norm"}], "measure": []}
NOTHING: dict[str, Any] = {"record": [], "measure": []}


@pytest.fixture
def no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        pytest.fail("measured")

    monkeypatch.setattr(evaluation, "start_meter", fail)
    monkeypatch.setattr(evaluation, "reference", fail)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The blocks of ticks that the vectorised engine ran."""
    blocks: list[tuple[int, int]] = []
    advance = ArraySession.advance

    def noted(session: ArraySession, first: int, end: int, **how: Any) -> None:
        blocks.append((first, end))
        advance(session, first, end, **how)

    monkeypatch.setattr(ArraySession, "advance", noted)
    return blocks


@pytest.mark.parametrize("rule", ["il", "fpa", "zil", "incremental"])
@pytest.mark.parametrize("engine", ENGINES)
def test_norms_come_from_the_session_and_are_those_of_the_meter(engine, rule, no_meter, monkeypatch):
    run = pcsim.simulate(deep(**NORMS), {"rule.name": rule, "rule.ticks": 40}, engine=engine)
    monkeypatch.undo()
    measured = pcsim.simulate(deep(), {"rule.name": rule, "rule.ticks": 40}, engine=engine)
    assert set(run.trace["series"].data_vars) == {"norm"}
    for name in ("h1", "mix", "y"):
        got, wanted = run.series("norm", name), measured.series("norm", name)
        np.testing.assert_allclose(got.values, wanted.values, rtol=1e-12, atol=1e-15)
        assert got.coords["tick"].values.tolist() == list(range(40))
    assert run.trace["series"].coords["level"].identical(measured.trace["series"].coords["level"])
    for name, update in measured.updates.items():
        np.testing.assert_allclose(run.updates[name], update, rtol=1e-12, atol=1e-14)


def test_what_is_read_now_and_then_leaves_blocks_between(no_meter, blocks):
    record = [{"what": "value", "vertices": "h1", "every": 10}, {"what": "norm", "vertices": ["h*"]}]
    run = pcsim.simulate(deep(record=record, measure=[]), {"rule.ticks": 35})
    every = pcsim.simulate(deep(record=[{"what": ["value", "error"]}], measure=[]), {"rule.ticks": 35})
    assert sum(end - first for first, end in blocks) == 31
    assert not {first for first, _ in blocks} & {0, 10, 20, 30}
    assert np.array_equal(run.series("value", "h1").values, every.series("value", "h1").values[::10])
    norms = np.sqrt((every.series("error", "h2").values ** 2).sum((1, 2)))
    np.testing.assert_allclose(run.series("norm", "h2").values, norms, rtol=1e-12)
    assert set(run.trace["series"].coords["vertex"].values) == {"h1", "h2"}


def test_norms_at_a_slow_rhythm(no_meter):
    run = pcsim.simulate(deep(record=[{"what": "norm", "every": 4}], measure=[]))
    every = pcsim.simulate(deep(**NORMS))
    assert run.series("norm", "h1").coords["tick"].values.tolist() == [0, 4, 8]
    np.testing.assert_allclose(run.series("norm", "h1").values, every.series("norm", "h1").values[::4], rtol=1e-12)


def test_a_run_in_which_nothing_is_read_advances_in_growing_blocks(no_meter, blocks, monkeypatch):
    reported: list[tuple[int, int]] = []
    run = pcsim.simulate(deep(**NOTHING), {"rule.ticks": 500}, progress=lambda *tick: reported.append(tick))
    assert blocks[0] == (0, 1)
    assert blocks[-1][1] == 500
    assert [first for first, _ in blocks[1:]] == [end for _, end in blocks[:-1]]
    assert len(blocks) < 50
    assert reported == [(end, 500) for _, end in blocks]
    monkeypatch.undo()
    looked_at = pcsim.simulate(deep(), {"rule.ticks": 500})
    for name, update in looked_at.updates.items():
        np.testing.assert_allclose(run.updates[name], update, rtol=1e-12)
    for name, value in looked_at.state.items():
        np.testing.assert_allclose(run.state[name], value, rtol=1e-12)


def test_an_interrupt_ends_a_block_and_one_tick_more_which_learns(blocks):
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        stop = iter([True])
        run = pcsim.simulate(
            deep(**NORMS),
            {"rule.ticks": 10**7},
            engine="numpy",
            progress=lambda *_: signal.raise_signal(signal.SIGINT) if next(stop, False) else None,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.manifest["status"] == "interrupted"
    assert run.summary["ticks"] == run.series("norm", "h1").sizes["tick"] == 2
    whole = pcsim.simulate(deep(**NORMS), {"rule.ticks": 2}, engine="numpy")
    assert all(np.array_equal(run.updates[name], update) for name, update in whole.updates.items())


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_that_become_infinite_within_a_block_keep_the_norms_before(engine):
    wild = {"rule.step_size": 9.0, "rule.ticks": 100_000}
    with pytest.raises(pcsim.RunError, match="at tick") as blockwise:
        pcsim.simulate(deep(**NORMS), wild, engine=engine)
    with pytest.raises(pcsim.RunError, match="at tick") as stepwise:
        pcsim.simulate(deep(), wild, engine=engine)
    assert str(blockwise.value) == str(stepwise.value)
    got, wanted = (caught.value.run.series("norm", "h1").values for caught in (blockwise, stepwise))
    assert blockwise.value.run.summary["ticks"] == stepwise.value.run.summary["ticks"] == len(got) == len(wanted)
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


@pytest.mark.parametrize("rule", ["zil", "fa-zil"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_of_updates_alone_learns_the_same_and_has_no_state(engine, rule):
    updates_alone = pcsim.simulate(deep(rule=rule, level="delay", **NOTHING), engine=engine)
    exact = pcsim.simulate(deep(rule=rule, level="delay", literal=True, **NOTHING), engine=engine)
    for name, update in exact.updates.items():
        np.testing.assert_allclose(updates_alone.updates[name], update, rtol=1e-12, atol=1e-14)
    assert exact.state.keys() == {"h1", "h2", "mix"} | exact.state.keys()
    with pytest.raises(pcsim.InputError, match="'literal: true'"):
        _ = updates_alone.state
    assert pcsim.simulate(deep(rule=rule, level="delay"), engine=engine).state.keys() == exact.state.keys()
    assert pcsim.simulate(deep(**NOTHING), engine=engine).state.keys() == {"h1", "h2", "mix"}


def test_many_outputs_with_a_loss_are_one_group():
    vertices: dict[str, Any] = {"x": {"op": "input", "shape": [2]}}
    vertices |= {f"y{n}": {"op": "affine", "units": 3, "inputs": ["x"]} for n in range(20)}
    names = [f"y{n}" for n in range(20)]
    document = {
        "graph": {"vertices": vertices, "outputs": names},
        "inputs": {"x": [1.0, 2.0]},
        "targets": {name: [0.2, 0.3, 0.5] for name in names},
        "loss": {name: "cross_entropy" if n % 2 else "squared_error" for n, name in enumerate(names)},
        "rule": {"name": "fpa", "ticks": 2},
        "record": [{"what": "energy"}],
    }
    run = pcsim.simulate(document)
    np.testing.assert_allclose(run.series("energy").values, run.summary["energy"]["loss"], rtol=1e-13)


def test_a_closed_form_takes_the_place_of_the_engine():
    rule = {"name": "fpa", "step_size": 0.3, "ticks": 30}
    simulated, solved = (pcsim.simulate(deep(rule=rule, solve=how)) for how in ("simulate", "closed_form"))
    assert (simulated.manifest["engine"], solved.manifest["engine"]) == ("numpy", "closed_form")
    for quantity, name in (("error", "h1"), ("value", "mix"), ("norm", "h2"), ("divergence", "y"), ("energy", None)):
        got, wanted = (run.series(quantity, name).values for run in (solved, simulated))
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)
    for name, update in simulated.updates.items():
        np.testing.assert_allclose(solved.updates[name], update, rtol=1e-10, atol=1e-12)
    with pytest.raises(pcsim.InputError, match=r"solve: .*fixed predictions"):
        pcsim.simulate(deep(solve="closed_form"))


def test_an_engine_that_would_run_nothing_is_refused():
    solved = deep(rule={"name": "fpa", "ticks": 3}, solve="closed_form")
    assert pcsim.simulate(solved, engine="auto").manifest["engine"] == "closed_form"
    with pytest.raises(pcsim.InputError, match="engine: 'actors' has nothing to run under solve: closed_form"):
        pcsim.simulate(solved, engine="actors")
    with pytest.raises(pcsim.InputError, match=r"nothing to run .*in the sweep at solve=closed_form"):
        pcsim.sweep({**solved, "sweep": {"solve": ["simulate", "closed_form"]}}, engine="actors")
