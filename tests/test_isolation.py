"""An actor reads its own state and its inbox, and nothing else: who cheats is found out, in three ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graph_documents import drawn_scenario

import pcsim
from pcsim.analysis.light_cones import measured_cone
from pcsim.engines import open_engine
from pcsim.engines.base import tick_by_tick
from pcsim.engines.isolation import Witness
from pcsim.errors import RunError
from pcsim.ops import OPS
from pcsim.rules import RULES

ABLE = [name for name, row in RULES.items() if not row.sweeps]


def task_of(rule="il", stem="mlp", args=(("depth", 4),)):
    return pcsim.load(drawn_scenario(stem, dict(args), rule={"name": rule, "ticks": 6})).task()


def watched(task):
    session = open_engine("actors")(task)
    return session, Witness(session)


def cheating(monkeypatch, **changes):
    """Let affine layers compute what ``changes`` say."""
    monkeypatch.setitem(OPS, "affine", replace(OPS["affine"], **changes))


@pytest.mark.parametrize("rule", ABLE)
@pytest.mark.parametrize("stem", ["mlp", "lstm-cell"])
def test_the_rules_that_there_are_touch_nothing_else(rule, stem):
    task = task_of(rule, stem, ())
    plain, (session, witness) = open_engine("actors")(task), watched(task)
    for one in (plain, session):
        tick_by_tick(one, 0, 6, last=True)
    assert witness.acts > 0
    for name, update in plain.updates().items():
        assert np.array_equal(update, session.updates()[name]), name
    for name, reads in witness.reads.items():
        edges = task.graph.incoming[name]
        assert reads.values == ({edge.slot for edge in edges} if RULES[rule].moving else set()), name
        assert reads.errors <= {edge.key for edge in task.graph.outgoing[name]}


def test_an_op_that_writes_to_a_message_ends_the_run(monkeypatch):
    plain = OPS["affine"].forward

    def forward(xp, call, params, inputs):
        inputs[0][...] = 0
        return plain(xp, call, params, inputs)

    cheating(monkeypatch, forward=forward)
    with pytest.raises(RunError, match="wrote to a message or a parameter"):
        pcsim.simulate(drawn_scenario("mlp", {}, rule="il", measure=[], record=[]), engine="actors")


def test_an_op_that_writes_to_a_shared_parameter_ends_the_run(monkeypatch):
    def to_inputs(xp, call, params, *rest):
        params["weight"][0] += 1
        return plain(xp, call, params, *rest)

    plain = OPS["affine"].to_inputs
    cheating(monkeypatch, to_inputs=to_inputs)
    with pytest.raises(RunError, match=r"vertex 'y' \(op 'affine'\) wrote|vertex 'h\d' \(op 'affine'\) wrote"):
        pcsim.simulate(drawn_scenario("mlp", {}, rule="il", measure=[], record=[]), engine="actors")


def test_an_op_that_reads_another_actor_is_named_with_whom_it_read(monkeypatch):
    network, plain = {}, OPS["affine"].forward

    def forward(xp, call, params, inputs):
        mu, saved = plain(xp, call, params, inputs)
        if network and call.shape == (10,):
            mu = mu + 1e-9 * network["h1"].error.mean()
        return mu, saved

    cheating(monkeypatch, forward=forward)
    session, _ = watched(task_of())
    network |= session.actors
    with pytest.raises(
        RunError, match=r"vertex 'y' \(op 'affine'\) read the memory of h1, of which it was sent no message"
    ):
        tick_by_tick(session, 0, 6, last=True)


def test_a_secret_passed_beside_messages_is_seen_by_perturbation(monkeypatch):
    """What ops hand on by a memory of their own is no actor's: it shows as a bit outside the light cone."""
    secret, plain = {}, OPS["affine"].forward

    def forward(xp, call, params, inputs):
        mu, saved = plain(xp, call, params, inputs)
        if call.shape == (10,):
            secret["y"] = float(inputs[0].sum())
        elif inputs[0].shape[-1] == 64 and "y" in secret:
            mu = mu + 1e-9 * secret["y"]
        return mu, saved

    task = task_of()
    vertex = "h4"
    assert measured_cone(task, open_engine("actors"), vertex).outside == []
    cheating(monkeypatch, forward=forward)
    assert measured_cone(task_of(), open_engine("actors"), vertex).outside != []
