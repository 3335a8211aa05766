"""How a claim is checked: each check is a function from measured rows to what is ours, whether it agrees, and why."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.claims.measured_rows import is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcsim.claims.measured_rows import Row, Rows
    from pcsim.scenario.claim_document import (
        Bound,
        Check,
        CheckEntry,
        Cliff,
        Curves,
        Equality,
        Fall,
        Line,
        Ratio,
        Trend,
    )

ROUNDING = 1e-12
"""A rise by this share of a curve's largest number is rounding."""


@dataclass(frozen=True)
class Verdict:
    """What a check says: our figure, whether it agrees with the paper, and why, in plain words."""

    ours: str
    agrees: bool
    why: str


def check(rows: Rows, entry: CheckEntry) -> Verdict:
    """Check rows as an entry says, each of its groups apart; rows that are not there agree with nothing."""
    asked: Check = getattr(entry, entry.kind)
    chosen = rows.where(asked.where)
    if not chosen.rows:
        return Verdict("nothing", False, f"{entry.that}: nothing was measured where {asked.where}")
    if asked.of not in chosen.columns:
        return Verdict("nothing", False, f"{entry.that}: no row has {asked.of!r}; rows have {chosen.columns}")
    found = [(name, CHECKS[entry.kind](group, asked)) for name, group in chosen.apart(asked.by)]
    return _joined(found, entry.that)


def _joined(found: Sequence[tuple[str, Verdict]], that: str) -> Verdict:
    """Return the verdict over all groups: the reason is that of the groups that disagree, else of all."""
    agrees = all(one.agrees for _, one in found)
    told = [(name, one) for name, one in found if agrees or not one.agrees]
    why = "; ".join(f"{name}: {one.why}" if name else one.why for name, one in told)
    ours = "; ".join(f"{name}: {one.ours}" if name else one.ours for name, one in found)
    return Verdict(ours, agrees, f"{that}: {'yes' if agrees else 'NO'}, {why}")


def _at_most(rows: Rows, asked: Bound) -> Verdict:
    lost = rows.without(asked.of)
    if lost:
        return Verdict("not all measured", False, f"{rows.name(lost[0])} {_lack(lost[0], asked.of)}")
    row, greatest = max(rows.numbers(asked.of), key=lambda pair: pair[1])
    who = f", {rows.name(row)}," if len(rows.rows) > 1 else ""
    why = f"{asked.of} is at most {_text(greatest)}{who} and the bound is {_exact(asked.bound)}"
    return Verdict(_span(rows, asked.of), greatest <= asked.bound, why)


def _at_least(rows: Rows, asked: Bound) -> Verdict:
    lost = [row for row in rows.without(asked.of) if not row.get("error")]
    if lost:
        return Verdict("not all measured", False, f"{rows.name(lost[0])} {_lack(lost[0], asked.of)}")
    grown = [rows.name(row) for row in rows.rows if row.get("error")]
    beyond = f"; {', '.join(grown)} grew beyond all numbers" if grown else ""
    if not rows.numbers(asked.of):
        return Verdict("beyond all numbers", True, f"{asked.of} has no bound{beyond}")
    row, least = min(rows.numbers(asked.of), key=lambda pair: pair[1])
    who = f", {rows.name(row)}," if len(rows.rows) > 1 else ""
    why = f"{asked.of} is at least {_text(least)}{who} and the bound is {_exact(asked.bound)}{beyond}"
    return Verdict(_span(rows, asked.of) + beyond, least >= asked.bound, why)


def _equal(rows: Rows, asked: Equality) -> Verdict:
    wrong = [row for row in rows.rows if not _equals(row.get(asked.of), _other(row, asked.to), asked.within)]
    if not wrong:
        other = f"{asked.to}" if isinstance(asked.to, str) else _exact(asked.to)
        near = f" within {asked.within:.2g} of it" if asked.within else ""
        return Verdict(_span(rows, asked.of), True, f"{asked.of} equals {other}{near} in all {len(rows.rows)} rows")
    first = wrong[0]
    both = f"{_text(first.get(asked.of))} beside {_text(_other(first, asked.to))}"
    why = f"in {len(wrong)} of {len(rows.rows)} rows {asked.of} differs from {asked.to}; {rows.name(first)}: {both}"
    return Verdict(_span(rows, asked.of), False, why)


def _equals(ours: Any, wanted: Any, within: float) -> bool:
    return is_number(ours) and is_number(wanted) and abs(ours - wanted) <= within * abs(wanted)


def _other(row: Row, to: str | float) -> Any:
    return row.get(to) if isinstance(to, str) else to


def _ratio(rows: Rows, asked: Ratio) -> Verdict:
    sides = [rows.where({asked.column: value}) for value in (asked.over, asked.under)]
    above, below = ([value for _, value in side.numbers(asked.of)] for side in sides)
    if not above or not below or any(side.without(asked.of) for side in sides):
        return Verdict("not all measured", False, f"{asked.of} is not known of both {asked.over} and {asked.under}")
    if not fmean(below):
        return Verdict("no ratio", False, f"{asked.of} of {asked.under} is zero")
    ratio = fmean(above) / fmean(below)
    bounds = (("at least", asked.at_least, 1), ("at most", asked.at_most, -1))
    agrees = all(bound is None or (ratio - bound) * sign >= 0 for _, bound, sign in bounds)
    claimed = " and ".join(f"{word} {_exact(bound)}" for word, bound, _ in bounds if bound is not None)
    ours = f"{_text(fmean(above))} / {_text(fmean(below))} = {_text(ratio)}"
    return Verdict(ours, agrees, f"{asked.of} of {asked.over} over that of {asked.under} is {ours}; claimed: {claimed}")


def _linear_in(rows: Rows, asked: Line) -> Verdict:
    least = float("-inf") if asked.above is None else asked.above
    points = [point for point in _curve(rows, asked.against, asked.of) if point[1] > least]
    if len(points) < 3:
        return Verdict(f"{len(points)} points", False, f"three points are the least, there are {len(points)}")
    x, y = np.array(points).T
    if asked.log and y.min() <= 0:
        return Verdict("not positive", False, f"{asked.of} is {_text(float(y.min()))} somewhere and has no logarithm")
    y = np.log10(y) if asked.log else y
    slope, start = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    fit = 1 - float(((y - slope * x - start) ** 2).sum()) / spread if spread else 0.0
    what = f"log10 of {asked.of}" if asked.log else asked.of
    ours = f"{what} {'rises' if slope > 0 else 'falls'} by {_text(abs(float(slope)))} a step of {asked.against}"
    right = (slope > 0) == (asked.slope == "rising")
    why = f"{ours}, R squared {fit:.4f}; {asked.slope} with at least {asked.fit:g} was claimed"
    return Verdict(f"{ours}, R² {fit:.4f}", bool(right and fit >= asked.fit), why)


def _cliff(rows: Rows, asked: Cliff) -> Verdict:
    pairs = rows.numbers(asked.of)
    sides = [[value for row, value in pairs if (row[asked.against] >= _other(row, asked.edge)) is after]
             for after in (True, False)]  # fmt: skip
    if rows.without(asked.of) or not all(sides):
        return Verdict("not both sides", False, f"there must be numbers on both sides of {asked.edge}")
    high, low = min(sides[0]), max(sides[1])
    ours = f"{_range(sides[0])} from {asked.edge} on, {_range(sides[1])} before"
    why = f"{asked.of} is {ours}: a drop of {_text(high - low)}, and {_exact(asked.drop)} is the least that counts"
    return Verdict(ours, high - low >= asked.drop, why)


def _curves_agree(rows: Rows, asked: Curves) -> Verdict:
    ours, other = (_curve(rows.where({asked.column: name}), asked.against, asked.of) for name in asked.curves)
    if [x for x, _ in ours] != [x for x, _ in other] or len(ours) < 2:
        return Verdict("not two curves", False, f"curves of {len(ours)} and {len(other)} points cannot be laid over")
    apart = [abs(a - b) for (_, a), (_, b) in zip(ours, other, strict=True)]
    values = [y for _, y in other]
    height = max(values) - min(values)
    share = max(apart) / height if height else float("inf") if max(apart) else 0.0
    said = f"at most {_text(share)} of the height apart"
    pair = f"{asked.of} of {asked.curves[0]} and {asked.curves[1]}"
    why = f"{pair} are {said} over {len(ours)} points; {_exact(asked.within)} at most counts as one curve"
    return Verdict(said, share <= asked.within, why)


def _grows_at_most(rows: Rows, asked: Trend) -> Verdict:
    values = [y for _, y in _curve(rows, asked.against, asked.of)]
    third = len(values) // 3
    if third < 1:
        return Verdict(f"{len(values)} points", False, f"three points are the least, there are {len(values)}")
    first, last = fmean(values[:third]), fmean(values[-third:])
    ours = f"{_text(first)} at first, {_text(last)} at last"
    why = f"{asked.of} is {ours}, and at last {_exact(asked.factor)} times what it was at first is allowed"
    return Verdict(ours, last <= asked.factor * first, why)


def _falls(rows: Rows, asked: Fall) -> Verdict:
    points = _curve(rows, asked.against, asked.of)
    if len(points) < 2:
        return Verdict(f"{len(points)} points", False, f"two points are the least, there are {len(points)}")
    size = max(abs(y) for _, y in points)
    rises = [x for (_, before), (x, after) in pairwise(points) if after - before > ROUNDING * size]
    ours = f"{_text(points[0][1])} to {_text(points[-1][1])}, {len(rises)} rises"
    where = f", the first at {asked.against} {_text(rises[0])}" if rises else ""
    return Verdict(ours, not rises, f"{asked.of} goes from {ours} in {len(points) - 1} steps{where}")


def _curve(rows: Rows, against: str, of: str) -> list[tuple[float, float]]:
    """Return the points of a curve in order, the mean of the rows at each x."""
    at: dict[float, list[float]] = {}
    for row, y in rows.numbers(of):
        if is_number(row.get(against)):
            at.setdefault(float(row[against]), []).append(y)
    return [(x, fmean(at[x])) for x in sorted(at)]


def _span(rows: Rows, column: str) -> str:
    return _range([value for _, value in rows.numbers(column)])


def _range(values: Sequence[float]) -> str:
    low, high = (_text(min(values)), _text(max(values))) if values else ("nothing", "nothing")
    return low if low == high else f"{low} to {high}"


def _lack(row: Row, column: str) -> str:
    return f"failed: {row['error']}" if row.get("error") else f"has no {column}"


def _exact(value: float) -> str:
    """Return a number that a claim states, as it states it."""
    return f"{value:g}"


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


CHECKS: dict[str, Callable[[Any, Any], Verdict]] = {
    "at_most": _at_most,
    "at_least": _at_least,
    "equal": _equal,
    "ratio": _ratio,
    "linear_in": _linear_in,
    "cliff": _cliff,
    "curves_agree": _curves_agree,
    "grows_at_most": _grows_at_most,
    "falls": _falls,
}
"""The keys of a check in a document, each with its function."""
