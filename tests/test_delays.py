"""What is sent at tick t over delay d arrives at tick t + d, once: in rings, and through whole engines."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from hypothesis.stateful import rule as step
from strategies import documents, make_task, run_task

from pcsim.program.program import delay_buffer
from pcsim.rules import rule

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=6)


class ErrorLines(RuleBasedStateMachine):
    """A delay buffer as inboxes use it (take what is due, put what is sent in its place) against a heap of messages."""

    @initialize(lengths=LENGTHS)
    def open(self, lengths):
        self.lengths, self.delay_buffer = lengths, delay_buffer(np.array(lengths, np.intp))
        self.lines = np.zeros(self.delay_buffer.slots, int)
        self.heap, self.tick, self.sent = [], 0, 0

    @step(data=st.data())
    def send(self, data):
        """One tick: every line sends a number never used before, or nothing (zero)."""
        at = self.delay_buffer.at(self.tick)
        due = self.lines[at]
        messages = [self._message(line, data.draw(st.booleans())) for line in range(len(self.lengths))]
        self.lines[at] = messages
        assert due.tolist() == self._expected()
        self.tick += 1

    def _message(self, line, real):
        self.sent += real
        heappush(self.heap, (self.tick + self.lengths[line], line, self.sent * real))
        return self.sent * real

    def _expected(self):
        arrived = [0] * len(self.lengths)
        while self.heap and self.heap[0][0] == self.tick:
            _, line, number = heappop(self.heap)
            assert arrived[line] == 0
            arrived[line] = number
        return arrived

    @invariant()
    def nothing_is_lost(self):
        assert sorted(number for _, _, number in self.heap if number) == sorted(self.lines[self.lines > 0].tolist())


class ValueLines(RuleBasedStateMachine):
    """A delay buffer as histories use it: several edges read one line, each with a delay of its own."""

    @initialize(lengths=LENGTHS)
    def open(self, lengths):
        self.lengths, self.delay_buffer = np.array(lengths, np.intp), delay_buffer(np.array(lengths, np.intp))
        self.lines, self.past, self.tick = np.zeros(self.delay_buffer.slots, int), [], 0

    @step(data=st.data())
    def read_then_write(self, data):
        delays = np.array([data.draw(st.integers(1, int(length))) for length in self.lengths])
        every = np.arange(len(self.lengths))
        got = self.lines[self.delay_buffer.at(self.tick, every, delays)]
        wanted = [self.past[self.tick - d][line] if d <= self.tick else 0 for line, d in enumerate(delays.tolist())]
        assert got.tolist() == wanted
        self.past.append([1 + self.tick * len(every) + line for line in every.tolist()])
        self.lines[self.delay_buffer.at(self.tick)] = self.past[-1]
        self.tick += 1


TestErrorLines = ErrorLines.TestCase
TestValueLines = ValueLines.TestCase


def shifted(series, delay, before):
    """Return what arrives over a delay: ``before`` for as many ticks, then what was sent."""
    head = np.broadcast_to(before, (delay, *series.shape[1:]))
    return np.concatenate([head, series])[: len(series)]


PARALLEL = {
    "vertices": {
        "x": {"op": "input", "shape": []},
        "h": {"op": "identity", "inputs": ["x"]},
        "k": {"op": "identity", "inputs": [{"from": "h", "delay": {"value": 2, "error": 1}}]},
        "y": {"op": "add", "inputs": ["h", {"from": "k", "delay": {"value": 0, "error": 3}},
                                      {"from": "h", "delay": {"value": 4, "error": 2}},
                                      {"from": "h", "delay": {"value": 1, "error": 5}}]},
    }
}  # fmt: skip
"""Whole numbers stay whole at step size 1; three edges h -> y, each with delays of its own."""


def whole_numbers(row, ticks):
    task = make_task(PARALLEL, rule(row, step_size=1.0), ticks=ticks, batch=1)
    task.inputs["x"][...] = 3
    task.targets["y"][...] = 19
    return task


def test_impulse_arrives_once_over_each_parallel_edge(engine):
    """Fixed predictions: h gains 7 after each arrival, over y's edges at ticks 0, 2 and 5, over k at 3 + 1 + 1."""
    run = run_task(engine, whole_numbers("fpa", 12))
    assert run.errors["y"].ravel().tolist() == [7.0] * 12
    for name, due in {"h->y": 0, "h->y#1": 2, "h->y#2": 5, "k->y": 3}.items():
        assert run.seen["error message"][name].ravel().tolist() == [0.0] * due + [7.0] * (12 - due)
    assert run.errors["h"].ravel().tolist() == [0, 7, 7, 14, 14, 14, 28, 28, 28, 28, 28, 28]


def test_moving_whole_numbers_are_exact_over_every_delay(engine):
    """Moving predictions send another number at each tick: every message is the one sent ``delay`` ticks ago."""
    run = run_task(engine, task := whole_numbers("il", 14))
    assert len(np.unique(run.values["h"])) > 8
    for name in ("h->y", "h->y#1", "h->y#2", "k->y", "h->k"):
        edge = task.graph.edge(name)
        sent = run.errors[edge.post]
        assert np.array_equal(run.seen["error message"][name], shifted(sent, edge.error_delay, 0.0))
        before = run.values[edge.pre][0]
        assert np.array_equal(run.seen["value message"][name], shifted(run.values[edge.pre], edge.value_delay, before))


def test_values_move_by_exactly_what_arrived(engine):
    """x(t+1) - x(t) = -eps(t) + the sum of what arrived (semantics, section 3): in whole numbers, nothing twice."""
    run = run_task(engine, task := whole_numbers("il", 14))
    for name in ("h", "k"):
        arrived = sum(run.seen["error message"][edge.name] for edge in task.graph.outgoing[name])
        assert np.array_equal(np.diff(run.values[name], axis=0), (arrived - run.errors[name])[:-1])


@given(document=documents(max_size=6, delays=True))
def test_value_messages_are_values_of_the_tick_they_were_sent(engine, document):
    task = make_task(document, rule("il", step_size=0.05), ticks=8, away=0.01)
    run = run_task(engine, task)
    for name, series in run.seen["value message"].items():
        edge = task.graph.edge(name)
        if edge.pre in run.values:
            start = run.values[edge.pre][0]
            assert np.array_equal(series, shifted(run.values[edge.pre], edge.value_delay, start))
        else:
            assert np.array_equal(series, np.broadcast_to(task.inputs[edge.pre], series.shape))


@given(document=documents(max_size=6, delays=True))
def test_what_nobody_records_changes_nothing(engine, document):
    """Lines are longer where values in flight are recorded; the run is the same, bit for bit."""
    runs = [
        run_task(
            engine, make_task(document, row, ticks=6, away=0.01, keep_values=keep), ("value", "error", "error message")
        )
        for row in (rule("il", step_size=0.05), rule("fpa", step_size=0.3))
        for keep in (True, False)
    ]
    for kept, plain in (runs[:2], runs[2:]):
        assert all(np.array_equal(kept.errors[name], error) for name, error in plain.errors.items())
        assert all(np.array_equal(kept.learnt[name], update) for name, update in plain.learnt.items())


def test_delay_longer_than_the_run_never_arrives(engine):
    document = {"vertices": {"x": {"op": "input", "shape": [2]}, "h": {"op": "affine", "units": 2, "inputs": ["x"]},
                             "y": {"op": "tanh", "inputs": [{"from": "h", "delay": 50}]}}}  # fmt: skip
    for row in ("fpa", "il"):
        run = run_task(engine, make_task(document, row, ticks=10, away=1.0))
        assert not run.errors["h"].any()
        assert not run.learnt["h.weight"].any()
