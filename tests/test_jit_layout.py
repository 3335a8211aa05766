"""What the compiled engine lays out: verified on random graphs, printed, and shown in the docstring's example."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategies import VALUE_RULES, Features, make_task, random_document
from test_engines import tame
from test_jit_array_steps import DOCUMENTS, strangers  # noqa: F401
from test_jit_population import DOCUMENTS as POPULATIONS

pytest.importorskip("numba", reason="the compiled engine needs Numba")

from pcsim.analysis.backprop import backprop
from pcsim.engines.array.session import ArraySession
from pcsim.engines.jit.kernel_plans import kernel_plan
from pcsim.engines.jit.kernels.common import EDGE, STEP
from pcsim.engines.jit.session import BackwardSession, JitSession, sweeps_back
from pcsim.engines.jit.verifier import verify
from pcsim.engines.updates_only import updates_task
from pcsim.errors import RunError
from pcsim.program.verify import ProgramError


def compiled(task):
    return JitSession(task)


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("row", list(VALUE_RULES))
def test_what_is_laid_out_is_what_the_program_says(monkeypatch, row, threads):
    monkeypatch.setenv("PCSIM_THREADS", threads)
    monkeypatch.setattr("pcsim.engines.jit.pool.WORTH_SHARING", 0)
    verified = 0
    for seed in range(30):
        features = Features(size=9, delays=seed % 3 > 0, precision=seed % 2 == 1, dead_ends=seed % 5 == 0)
        form = ("none", "delay", "identity")[seed % 3]
        batch = (1, 2, 9)[seed % 3]
        task = make_task(random_document(seed, features), tame(row), form, "float32", seed, batch, losses="mixed")
        try:
            session = compiled(task)
        except RunError:
            continue
        verify(session)
        verified += 1
    assert verified >= 15


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_a_sweep_back_has_every_vertex_once(monkeypatch, threads, batch):
    """No message is under way in it, whatever the delays; its errors are those of backprop."""
    monkeypatch.setenv("PCSIM_THREADS", threads)
    monkeypatch.setattr("pcsim.engines.jit.pool.WORTH_SHARING", 0)
    verified = 0
    for seed in range(30):
        features = Features(size=9, delays=seed % 3 == 0, dead_ends=seed % 5 == 0)
        task = make_task(random_document(seed, features), "zil", "delay", "float64", seed, batch, losses="mixed")
        task = updates_task(replace(task, exact_dynamics=False))
        if not sweeps_back(task):  # it has a population
            continue
        verified += 1
        session = verify(BackwardSession(task))
        assert not any(len(inbox.late) for inbox in session.program.inboxes.values())
        session.advance(0, task.ticks, last=True)
        wanted = backprop(task)
        assert_close(session.updates(), wanted.gradients)
        errors = {name: session.reader("error", [name])()[0] for name in task.graph.active}
        assert_close(errors, wanted.errors)
    assert verified >= 10


def assert_close(found, wanted):
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-12 * max(1, np.abs(array).max(initial=0)))


@pytest.mark.parametrize("row", ["il", "fpa", "zil", "incremental"])
@pytest.mark.parametrize("batch", [1, 8])
def test_graphs_with_every_kind_of_step_are_verified(monkeypatch, row, batch):
    monkeypatch.setattr("pcsim.engines.jit.pool.WORTH_SHARING", 0)
    for document in (*DOCUMENTS.values(), *POPULATIONS.values()):
        verify(compiled(make_task(document, tame(row), "none", batch=batch, losses="mixed")))


CHAIN = {
    "vertices": {
        "x": {"op": "input", "shape": [3]},
        "a": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
        "b": {"op": "sin", "inputs": ["a"]},
        "s": {"op": "stranger", "inputs": ["b"]},
        "y": {"op": "affine", "units": 2, "inputs": ["s"]},
    }
}


def wrong_address(session):
    STEP.view(session.table, next(iter(session.laid_out.steps.values())))["error"] += 1 << 40


def wrong_reach(session):
    STEP.view(session.table, next(iter(session.laid_out.steps.values())))["saved_stride"] *= 1000


def wrong_count(session):
    STEP.view(session.table, next(iter(session.laid_out.steps.values())))["count"] = 2


def wrong_sender(session):
    entry = next(entry for entry in session.laid_out.table.entries if entry.record is EDGE and entry.owner == "b")
    EDGE.view(session.table, entry.location)["sender"] = 3


def rows_left_out(session):
    segment = session.instructions.sweeping[0]
    segment.instructions[0].ranges[...] = 0


def rows_on_two_threads(session):
    one = next(one for one in session.instructions.staying[0].instructions if one.kernel is not None)
    one.ranges[1, 0] -= 1


def another_record(session):
    segment = session.instructions.staying[0]
    bad = replace(segment.instructions[0], operands=session.laid_out.steps[id(session.program.steps[0])])
    session.instructions.staying[0] = replace(segment, instructions=(bad, *segment.instructions[1:]))


WRONG = {
    wrong_address: "error lies in no array",
    wrong_reach: "saved reaches beyond its array",
    wrong_count: "count is 2, expected 1",
    wrong_sender: "reads the wrong vertices",
    rows_left_out: "does not have every row once",
    rows_on_two_threads: "rows are not shared out once each|other rows on other threads",
    another_record: "does not work on a shape group",
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_named(monkeypatch, fault):
    monkeypatch.setenv("PCSIM_THREADS", "2")
    monkeypatch.setattr("pcsim.engines.jit.pool.WORTH_SHARING", 0)
    session = compiled(make_task(CHAIN, "il", batch=1))
    verify(session)
    fault(session)
    with pytest.raises(ProgramError, match=WRONG[fault]):
        verify(session)


def test_a_plan_names_steps_kernels_operands_segments_and_threads():
    rows = kernel_plan(make_task(CHAIN, "il", batch=8))
    steps = {row["on"]: row for row in rows if row["part"] == "step"}
    assert {name: row["kernel"] for name, row in steps.items()} == {
        "a": "affine",
        "b": "unary",
        "s": "array call",
        "y": "affine",
    }
    assert "input 0: value [3][" in steps["b"]["operands"]
    assert steps["s"]["operands"] == "op 'stranger' has no kernel"
    sweep = [(row["kernel"], row["on"]) for row in rows if row["part"] == "sweep"]
    assert sweep == [("affine", "step of a"), ("unary", "step of b"), ("array call", "s"), ("affine", "step of y")]
    tick = [row for row in rows if row["part"] == "tick"]
    assert tick[0]["kernel"] == "array call"
    assert tick[-1]["threads"] == "0-3 0-3"
    assert all(set(row) == {"part", "number", "kernel", "on", "rows", "operands", "threads"} for row in rows)


def test_a_single_weighted_sum_keeps_its_slope(monkeypatch):
    """One vertex, one sample, one thread: what it sends back is its weight times the slope times its error."""
    monkeypatch.setenv("PCSIM_THREADS", "1")
    vertices = {"x": {"op": "input", "shape": []}, "a": {"op": "tanh", "inputs": ["x"]}}
    vertices |= {"w": {"op": "weighted_sum", "activation": "tanh", "inputs": ["a"]}}
    vertices |= {"y": {"op": "sin", "inputs": ["w"]}}
    for row in ("fpa", "il"):
        task = make_task({"vertices": vertices}, row, batch=1, ticks=20, away=0.5)
        session, other = compiled(task), ArraySession(task, np)
        assert session.laid_out.flowing
        for each in (session, other):
            each.advance(0, 20, last=True)
        for name in ("a", "w"):
            ours, theirs = (np.array(each.reader("error", [name])()) for each in (session, other))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)
