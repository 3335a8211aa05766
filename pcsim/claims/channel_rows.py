"""What channels do: rows of runs beside the same run with every message delivered, of training, of learnt delays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcsim.analysis.backprop import backprop
from pcsim.analysis.channel_traffic import channel_traffic, sent_share
from pcsim.analysis.delay_learning import learn_delays
from pcsim.engines import open_engine
from pcsim.errors import RunError
from pcsim.graph.crossings import crossings, with_channels
from pcsim.program.lower import ticks_of
from pcsim.train import train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pcsim.claims.measured_rows import Row
    from pcsim.engines.base import Session, Task
    from pcsim.graph.graph import Graph
    from pcsim.scenario.scenario import Scenario

Arrays = dict[str, np.ndarray]


def delivered(graph: Graph) -> Graph:
    """Return a graph without channels, whose vertices act at every tick."""
    return with_channels(graph, {name: (None, None) for name, _ in crossings(graph)}, dict.fromkeys(graph.active))


def channel_facts(graph: Graph) -> Row:
    """Return what the first channel of errors does, and how often its sender acts, as columns."""
    one = next((each for (_, kind), each in crossings(graph).items() if kind == "error"), None)
    if one is None:
        return {"jitter": 0, "loss": 0.0, "quantise": "none", "threshold": 0.0, "activity": 1.0}
    channel = one.channel
    quantise = "none" if channel.quantise is None else str(channel.quantise)
    threshold = 0.0 if channel.threshold is None else channel.threshold
    activity = one.acts.chance / one.acts.every
    bits = channel.quantise if isinstance(channel.quantise, int) else None
    return {"jitter": channel.jitter, "loss": channel.loss, "quantise": quantise, "bits": bits,
            "ladder": bits is not None, "threshold": threshold, "activity": activity}  # fmt: skip


def rows_of_channels(scenario: Scenario) -> Iterator[Row]:
    """Yield how a run over channels ends beside the run with every message delivered.

    ``distance``: of all errors at the end from the other run's last ones, relative; ``ticks``: the first from which
    this stays within the scenario's tolerance, None where it never does; ``delivered_ticks``: the other run's;
    ``update_distance``: of the updates; ``cosine``: of the updates and backprop's; ``sent``, ``lost``, ``bytes``:
    shares of what the other run sends.
    """
    task = scenario.task()
    plain = open_engine("numpy")(replace(task, graph=delivered(task.graph)))
    plain.advance(0, task.ticks, last=True)
    wanted = {name: np.array(plain.reader("error", [name])()[0]) for name in task.graph.active}
    updates = plain.updates()
    plain.restart()
    session = open_engine("numpy")(task)
    (mine, reached), (_, before) = (_followed(each, task.ticks, wanted, scenario) for each in (session, plain))
    got, traffic = session.updates(), channel_traffic(task, session, task.ticks)
    facts = channel_facts(task.graph)
    yield {
        **facts,
        "distance": mine,
        "ticks": reached,
        "delivered_ticks": before,
        "period": 1 / facts["activity"],
        "acts_ratio": facts["activity"] * reached / before if reached and before else None,
        "update_distance": _length(_apart(got, updates)) / _length(updates),
        "cosine": _cosine(got, backprop(task).gradients),
        **_shares(traffic),
    }


def _followed(session: Session, ticks: int, wanted: Arrays, scenario: Scenario) -> tuple[float, int | None]:
    """Return how far errors end from those wanted, relative, and the first tick from which they stay near."""
    session.compare_with(wanted)
    apart = np.zeros((ticks, sum(map(len, session.layout()))))
    session.advance(0, ticks, last=True, apart=apart)
    far = np.sqrt(apart.sum(axis=1)) / _length(wanted)
    beyond = np.nonzero(~(far <= scenario.document.tolerance))[0]
    first = int(beyond[-1]) + 1 if len(beyond) else 0
    return float(far[-1]), first if first < ticks else None


def _shares(traffic: Mapping[str, Mapping[str, float]]) -> Row:
    total = {key: sum(found[key] for found in traffic.values()) for key in next(iter(traffic.values()))}
    dense = total["dense"] or 1
    return {"sent": sent_share(traffic), "lost": total["lost"] / dense,
            "bytes": total["bytes"] / (total["dense_bytes"] or 1)}  # fmt: skip


def _apart(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> Arrays:
    return {name: array - other[name] for name, array in one.items()}


def _length(arrays: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays.values())))


def _cosine(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float | None:
    size = _length(one) * _length(other)
    return sum(float(np.sum(array * other[name])) for name, array in one.items()) / size if size else None


def rows_of_delays(scenario: Scenario) -> Iterator[Row]:
    """Yield each round of learnt delays: its slack, and how far updates with its graph are from backprop's."""
    whole = learn_delays(scenario)
    for number, row in enumerate(whole.rounds):
        graph = learn_delays(scenario, rounds=number + 1).graph if number + 1 < len(whole.rounds) else whole.graph
        task = replace(scenario.task(), graph=graph)
        task = replace(task, ticks=ticks_of(graph, scenario.rule))
        yield {
            "round": row.round,
            "slack": row.slack,
            "last": number + 1 == len(whole.rounds),
            "uneven": row.uneven,
            "delay": row.delay,
            "update_distance": _from_backprop(task),
        }


def _from_backprop(task: Task) -> float | None:
    """Return how far what a task learns is from backprop's, relative; None where it grows beyond all numbers."""
    session, wanted = open_engine("numpy")(task), backprop(task).gradients
    try:
        session.advance(0, task.ticks, last=True)
    except RunError:
        return None
    return _length(_apart(session.updates(), wanted)) / _length(wanted)


def rows_of_sparse_training(scenario: Scenario) -> Iterator[Row]:
    """Yield what training over channels reaches, and the share of all messages that it sent on the way."""
    done = train(scenario)
    if done.manifest["status"] == "interrupted":
        raise KeyboardInterrupt
    shares = done.state.log.steps.columns.get("sent", [1.0])
    sent = sum(shares) / len(shares)
    threshold = channel_facts(scenario.levelled)["threshold"]
    yield {"threshold": threshold, "sent": sent, "times_fewer": 1 / sent, **done.summary}
