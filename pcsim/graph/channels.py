"""What may happen to a message on its way, and when a vertex acts: rows of facts that every engine reads.

A channel carries one kind of message over one edge: values forward, or errors back. What crosses it is a change from
the feedforward sweep, which both ends know: of a value its deviation from the feedforward value; of an error the error
itself, which the sweep leaves at zero. At each tick at which its vertex acts a sender quantises what it has and sends,
unit by unit, what differs from what it sent last by more than a threshold. What is sent arrives after the delay of the
edge and a jitter, or is lost.

A receiver takes the newest that has come and holds it until something newer comes: before anything has, the feedforward
value and an error of zero. So both kinds of message are levels, not pulses. Errors are held as values are: if an error
that is lost counted as zero, each loss would push its receiver off, and no run with losses could come to rest.

A vertex that does not act at a tick sends nothing and does not move. What it would predict from what has arrived can be
read at every tick; parameters learn when their rule says.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Channel:
    """What happens to one kind of message over an edge, beside its delay.

    Attributes
    ----------
    jitter : extra ticks, drawn anew for each tick: 0 to so many, equally likely
    loss : the chance that what the edge carries at a tick does not arrive
    quantise : bits of a number (2 to 16), ``ternary`` or ``sign``; None: sent as it is
    threshold : a unit sends what differs from what it sent last by more than this; None: it sends at every tick
    seed : names the random numbers in place of the run's seed
    """

    jitter: int = 0
    loss: float = 0.0
    quantise: int | str | None = None
    threshold: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Acts:
    """When a vertex acts: at ticks offset, offset + every, ..., and at each of these with a chance.

    Attributes
    ----------
    name : the vertex, which names its random numbers
    seed : names them in place of the run's seed
    """

    every: int = 1
    offset: int = 0
    chance: float = 1.0
    name: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class ChannelKind:
    """One thing that may happen to a message: a key of an edge, and of ``channels`` in a scenario."""

    name: str
    summary: str
    where: str
    """Where it happens."""


CHANNEL_KINDS = {
    row.name: row
    for row in (
        ChannelKind("quantise", "numbers keep so many bits (2 to 16), or are 'ternary' or 'sign', scaled by sample",
                    "as it is sent"),
        ChannelKind("threshold", "a unit sends only what differs from what it sent last by more than this",
                    "as it is sent"),
        ChannelKind("jitter", "0 to so many ticks more than the delay, drawn anew for each tick", "on its way"),
        ChannelKind("loss", "the chance that what an edge carries at a tick does not arrive", "on its way"),
    )
}  # fmt: skip
"""What a channel may do, in the order in which it is done; its formula is in ``engines/transmission.py``."""
