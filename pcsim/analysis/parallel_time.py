"""How long an update takes when its actors share processors: work, span, Brent's bound, and a list schedule.

An update is a few phases, one after the other. In a phase every actor does its part once: all at once (a tick of
inference), or each after those before it (a sweep). Time is counted in floating-point operations, as if each took one
unit of time, and messages took none. Work W is what one processor takes; span S what as many processors take as there
are actors. With p processors every schedule that leaves no processor idle while an actor waits takes at least ``max(W /
p, S)`` and at most ``S + (W - S) / p`` (Brent 1974), phase by phase.

Derivatives of parameters are left out of times, as [Z] does: every method works them out once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Literal

from pcsim.errors import wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pcsim.analysis.cost import ActorCost
    from pcsim.graph.graph import Graph
    from pcsim.rules import Rule

Direction = Literal["forward", "back", "learn"]

MULTIPLIER = 4
"""Operations of a tick for each unit that has a multiplier: it adds up the error, and both make the credit."""


@dataclass(frozen=True)
class Phase:
    """What every actor does, once in each round.

    Attributes
    ----------
    name : what it is called in tables
    rounds : how many times, one after the other
    does : the parts of an actor's work
    order : ``forward`` where an actor waits for its inputs, ``back`` where it waits for those that it feeds, or empty
        where all act at once
    extra : operations for each unit beyond these
    """

    name: str
    rounds: int
    does: tuple[Direction, ...]
    order: Literal["forward", "back", ""] = ""
    extra: int = 0

    def operations(self, actor: ActorCost, batch: int) -> float:
        """Return the operations of one actor in a round."""
        parts = {"forward": actor.forward, "back": actor.back, "learn": actor.learn}
        return sum(parts[part].operations for part in self.does) + self.extra * actor.units * batch


FORWARD = Phase("feedforward sweep", 1, ("forward",), "forward")
BACK = Phase("backward sweep", 1, ("back",), "back")
LEARN = Phase("derivatives of parameters", 1, ("learn",))


def backprop_phases() -> tuple[Phase, ...]:
    """Return the phases of an update by backprop."""
    return FORWARD, BACK, LEARN


def rule_phases(rule: Rule, ticks: int) -> tuple[Phase, ...]:
    """Return the phases of an update by a rule that runs so many ticks: what the facts of its row say.

    Where predictions are fixed, a tick only sends errors; where vertices keep errors, a tick is a sweep there and back.
    """
    if rule.sweeps:
        tick = [Phase("sweeps forward", ticks, ("forward",), "forward"), Phase("sweeps back", ticks, ("back",), "back")]
    else:
        does: tuple[Direction, ...] = ("forward", "back") if rule.moving else ("back",)
        tick = [Phase("ticks", ticks, does, extra=MULTIPLIER if rule.keeps_multipliers else 0)]
    learn = Phase(LEARN.name, ticks, LEARN.does) if rule.fires.applies else LEARN
    return FORWARD, *tick, learn


def inference(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """Return the phases without the derivatives of parameters."""
    return tuple(phase for phase in phases if phase.does != LEARN.does)


@dataclass(frozen=True)
class Jobs:
    """One round of a phase as jobs.

    Attributes
    ----------
    lengths : {actor: operations}
    waits : {actor: actors that must be done before it}
    """

    lengths: Mapping[str, float]
    waits: Mapping[str, tuple[str, ...]]

    @property
    def work(self) -> float:
        """Operations of one processor."""
        return sum(self.lengths.values())

    @property
    def span(self) -> float:
        """Operations of the longest chain of actors that wait for each other."""
        return max(self.chains.values(), default=0.0)

    @cached_property
    def chains(self) -> dict[str, float]:
        """For each actor the operations of the longest chain of actors that begins with it.

        Raises InputError where actors wait for each other.
        """
        after = self.followers
        waiting = {name: len(after[name]) for name in self.lengths}
        ready = [name for name, count in waiting.items() if not count]
        lengths: dict[str, float] = {}
        while ready:
            name = ready.pop()
            lengths[name] = self.lengths[name] + max((lengths[one] for one in after[name]), default=0.0)
            for before in self.waits[name]:
                waiting[before] -= 1
                if not waiting[before]:
                    ready.append(before)
        if len(lengths) < len(self.lengths):
            raise wrong("graph", _endless([name for name in self.lengths if name not in lengths]))
        return lengths

    @cached_property
    def followers(self) -> dict[str, list[str]]:
        """For each actor those that wait for it."""
        after: dict[str, list[str]] = {name: [] for name in self.lengths}
        for name, before in self.waits.items():
            for one in before:
                after[one].append(name)
        return after

    def scheduled(self, processors: int) -> float:
        """Return the time of a list schedule: a free processor takes the actor with the longest chain behind it.

        Graham (1969): at most ``2 - 1/p`` times the shortest schedule.
        """
        after, chain = self.followers, self.chains
        waiting = {name: len(before) for name, before in self.waits.items()}
        ready = [(-chain[name], name) for name, count in waiting.items() if not count]
        heapify(ready)
        running: list[tuple[float, str]] = []
        now = 0.0
        while ready or running:
            while ready and len(running) < processors:
                _, name = heappop(ready)
                heappush(running, (now + self.lengths[name], name))
            now, name = heappop(running)
            for one in after[name]:
                waiting[one] -= 1
                if not waiting[one]:
                    heappush(ready, (-chain[one], one))
        return now


def _endless(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"a sweep needs an order, and {shown} lie on a cycle or before one; time is counted of graphs without cycles"


def jobs_of(phase: Phase, graph: Graph, actors: Mapping[str, ActorCost], batch: int) -> Jobs:
    """Return one round of a phase as jobs."""
    lengths = {name: phase.operations(actor, batch) for name, actor in actors.items()}
    before = {name: tuple(one for one in _before(phase, graph, name) if one in actors) for name in actors}
    return Jobs(lengths, before)


def _before(phase: Phase, graph: Graph, name: str) -> Iterable[str]:
    """Return the vertices that a vertex waits for."""
    if phase.order == "forward":
        return dict.fromkeys(edge.pre for edge in graph.incoming[name])
    return dict.fromkeys(edge.post for edge in graph.outgoing[name]) if phase.order else ()


@dataclass(frozen=True)
class Times:
    """Time of an update in operations.

    Attributes
    ----------
    work, span : with one processor, and with one for each actor
    """

    rounds: tuple[tuple[int, Jobs], ...]

    @property
    def work(self) -> float:
        """Operations of one processor."""
        return sum(count * jobs.work for count, jobs in self.rounds)

    @property
    def span(self) -> float:
        """Operations one after the other with a processor for each actor."""
        return sum(count * jobs.span for count, jobs in self.rounds)

    def brent(self, processors: int) -> tuple[float, float]:
        """Return the least and the most that p processors take which are never idle while an actor is ready."""
        pairs = [(count, jobs.work, jobs.span) for count, jobs in self.rounds]
        least = sum(count * max(work / processors, span) for count, work, span in pairs)
        return least, sum(count * (span + (work - span) / processors) for count, work, span in pairs)

    def scheduled(self, processors: int) -> float:
        """Return what p processors take by a list schedule."""
        return sum(count * jobs.scheduled(processors) for count, jobs in self.rounds)


def times_of(phases: Sequence[Phase], graph: Graph, actors: Mapping[str, ActorCost], batch: int) -> Times:
    """Return the times of phases, derivatives of parameters left out."""
    return Times(tuple((phase.rounds, jobs_of(phase, graph, actors, batch)) for phase in inference(phases)))


@dataclass(frozen=True)
class Bounds:
    """The bounds of [Z] on inference whose vertices all work at once, in operations.

    C of a function is the operations of its forward call, and its vector-Jacobian product is taken as 2 C.

    Attributes
    ----------
    converged : eq. 3.28, with the ticks that were run; None where they are not known
    shortest : eq. 3.29 and 3.30 (3.33 and 3.34 for Z-IL), with as many ticks as there are levels
    backprop : eq. 3.31 (3.35), and eq. 2.6: three times all C. On a chain it is at most ``shortest``
    """

    converged: float | None
    shortest: float
    backprop: float


def zahid_bounds(actors: Mapping[str, ActorCost], levels: int, ticks: int | None) -> Bounds:
    """Return the bounds; ticks 0 to t_c of eq. 3.28 are ``t_c + 1`` ticks."""
    calls = [actor.forward.operations for actor in actors.values()]
    ahead, slowest = sum(calls), 2.0 * max(calls, default=0.0)
    return Bounds(None if ticks is None else ahead + ticks * slowest, ahead + levels * slowest, 3.0 * ahead)
