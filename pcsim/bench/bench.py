"""The run: every family x rule x engine, then start-up in processes of their own, then how cost grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.bench.baselines import DEFAULT, load_baselines
from pcsim.bench.bench_results import Cold, Rate, Results
from pcsim.bench.cold import cold_start
from pcsim.bench.comparison import Comparisons
from pcsim.bench.families import FAMILIES, RULES, cases
from pcsim.bench.growth import curves
from pcsim.bench.machine import machine
from pcsim.engines import ENGINES, fastest
from pcsim.engines.threads import threads_wanted
from pcsim.errors import RunError, nearest, wrong
from pcsim.interrupts import interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.bench.baselines import Baseline
    from pcsim.bench.families import Case, RuleRow, Size

Progress = Callable[[int, int, str], None]
"""Called with (parts done, parts, what comes next)."""


@dataclass(frozen=True)
class Request:
    """What to run, already checked (see ``request``); empty tuples mean everything there is."""

    families: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    size: Size = "small"
    seconds: float = 60.0
    """Spent on rounds; what builds and starts up comes on top."""
    baselines: tuple[Baseline, ...] = ()


def request(
    families: Iterable[str],
    engines: Iterable[str],
    rules: Iterable[str],
    size: str,
    seconds: float,
    baselines: Path | None,
) -> Request:
    """Return what to run; raises InputError for what cannot be, before anything is measured.

    ``baselines`` is a file with a table of them; default: ``tests/bench/baselines.py`` if it is here.
    """
    if size not in ("small", "full"):
        raise wrong("size", f"is {size!r}, expected 'small' or 'full'" + nearest(size, ("small", "full")))
    if not (isfinite(seconds) and seconds > 0):
        raise wrong("seconds", f"is {seconds:g}, expected a number above 0")
    file = baselines or (DEFAULT if DEFAULT.is_file() else None)
    asked = Request(tuple(families), tuple(engines), tuple(rules), "small" if size == "small" else "full", seconds)
    threads_wanted()  # refuses nonsense
    for what, names, table in (
        ("family", asked.families, FAMILIES),
        ("rule", asked.rules, RULES),
        ("engine", asked.engines, ENGINES),
    ):
        for name in names:
            if (what, name) != ("engine", "auto"):
                _check(what, name, table)
    return replace(asked, baselines=load_baselines(file) if file is not None else ())


def bench(asked: Request, progress: Progress | None = None) -> Results:
    """Run the benchmark; raises InputError where no engine can run.

    The first Ctrl-C ends it after the comparison in progress; what was measured by then is returned.
    """
    with interrupts() as asked_to_end:
        return _bench(asked, progress or _quiet, asked_to_end)


def _bench(asked: Request, say: Progress, end: Callable[[], bool]) -> Results:
    start = time.perf_counter()
    found = list(cases(asked.families or tuple(FAMILIES), asked.size))
    rules = [RULES[name] for name in asked.rules or RULES]
    engines, missing = _engines(asked.engines or tuple(ENGINES))
    missing += [
        f"{baseline.name}: needs {', '.join(baseline.missing)}" for baseline in asked.baselines if baseline.missing
    ]
    baselines = [baseline for baseline in asked.baselines if not baseline.missing]
    each = 0.8 * asked.seconds / max(1, len(found) * len(rules))
    comparisons = Comparisons(engines, baselines, asked.size, each, end, missing=list(dict.fromkeys(missing)))
    total = len(found) * (len(rules) + 1) + 1
    for number, (case, rule) in enumerate((case, rule) for case in found for rule in rules):
        if end():
            break
        say(number, total, f"{case.name}, {rule.name}")
        comparisons.add(case, rule)
    cold = []
    for number, case in enumerate(found, len(found) * len(rules)):
        if end():
            break
        say(number, total, f"{case.name}, start-up")
        cold += _cold(case, rules, asked.size, comparisons)
    say(total - 1, total, "how cost grows")
    growth = curves(engines[-1], [rule.name for rule in rules], asked.size, 0.2 * asked.seconds, end)
    if end():
        comparisons.missing.append("interrupted: what was to come after these rows was not measured")
    else:
        say(total, total, "done")
    return Results(
        machine(), asked.size, time.perf_counter() - start, tuple(_rates(comparisons)), tuple(comparisons.rows),
        tuple(cold), tuple(growth), tuple(comparisons.missing), interrupted=end(),
    )  # fmt: skip


def _quiet(done: int, total: int, what: str) -> None:
    """Show no progress."""


def _check(what: str, name: str, table: Mapping[str, Any]) -> None:
    if name not in table:
        raise wrong(what, f"unknown {what} {name!r}" + nearest(name, table))


def _engines(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the engines whose libraries are here, the fastest last, and what is missing for the others."""
    wanted = {fastest() if name == "auto" else name for name in names}
    found, missing = [], []
    for row in (ENGINES[name] for name in ENGINES if name in wanted):
        try:
            import_module(row.module)
            found.append(row.name)
        except ImportError as error:
            missing.append(f"engine {row.name}: {error}")
    if not found:
        raise wrong("engine", f"no engine to run: {'; '.join(missing)}")
    return found, missing


def _cold(case: Case, rules: list[RuleRow], size: Size, comparisons: Comparisons) -> list[Cold]:
    """Return the start-up of every engine that took part in a case."""
    took_part = {row.engine for row in comparisons.rows if (row.family, row.sizes) == (case.family.name, case.sizes)}
    found = []
    for engine in (name for name in comparisons.engines if name in took_part and name != "actors"):
        try:
            found.append(cold_start(engine, case, rules, size))
        except RunError as error:
            if comparisons.end():
                break
            comparisons.missing.append(f"start-up of {error}")
    return found


def _rates(comparisons: Comparisons) -> list[Rate]:
    return [
        Rate(name, dtype, *(float(value) for value in np.quantile(rates, (0.5, 0.25, 0.75))))
        for (name, dtype), rates in comparisons.rates.items()
    ]
