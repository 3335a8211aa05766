"""When parameters learn, as far as blocks of ticks depend on it: all that this engine asks of a rule's firing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcsim.rules import Rule


def only_last(rule: Rule) -> bool:
    """Return whether nothing is learnt before the last tick."""
    return rule.fires == "end"


def at_front(rule: Rule) -> bool:
    """Return whether each vertex contributes with its first error, before its inputs have moved."""
    return rule.fires in ("level", "arrival")


def waits(rule: Rule) -> bool:
    """Return whether a vertex contributes once, when its error first leaves zero."""
    return rule.fires == "arrival"


def applies(rule: Rule) -> bool:
    """Return whether parameters change within the run."""
    return rule.fires == "every"
