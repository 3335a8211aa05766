"""What there is: ops, rules, engines, measures, data sets, scenarios; and what this machine can run."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from pcsim.engines.threads import cores, threads_wanted
from pcsim.errors import InputError, nearest, wrong
from pcsim.view.text import columns

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = list[dict[str, Any]]


def _ops() -> Rows:
    from pcsim.ops import OPS

    return [
        {
            "op": op.name,
            "inputs": _arity(op.arity),
            "attributes": ", ".join(op.attributes),
            "summary": op.summary,
            "source": op.source,
        }
        for op in OPS.values()
    ]


def _arity(arity: tuple[int, int | None]) -> str:
    low, high = arity
    return str(low) if low == high else f"{low}+" if high is None else f"{low}-{high}"


def _rules() -> Rows:
    from pcsim.rules import RULES

    return [
        {"rule": row.name, "predictions": "move" if row.moving else "fixed", "fires": row.fires.name,
         "step_size": row.step_size, "ticks": row.ticks, "needs": row.needs or "nothing global",
         "summary": row.summary, "source": row.source}
        for row in RULES.values()
    ]  # fmt: skip


def _engines() -> Rows:
    from pcsim.engines import ENGINES

    return [{"engine": row.name, "summary": row.summary} for row in ENGINES.values()]


def _measures() -> Rows:
    from pcsim.analysis.measures import MEASURES

    return [{"measure": row.name, "summary": row.summary, "source": row.source} for row in MEASURES.values()]


def _losses() -> Rows:
    from pcsim.ops import LOSSES

    return [{"loss": row.name, "summary": row.summary, "source": row.source} for row in LOSSES.values()]


def _feedbacks() -> Rows:
    from pcsim.ops import FEEDBACKS

    return [{"feedback": row.name, "summary": row.summary, "source": row.source} for row in FEEDBACKS.values()]


def _firings() -> Rows:
    from pcsim.rules import FIRINGS

    return [{"firing": row.name, "summary": row.summary} for row in FIRINGS.values()]


def _datasets() -> Rows:
    from pcsim.scenario.data import DATASETS

    return [{"dataset": row.name, "fields": ", ".join(row.fields), "summary": row.summary} for row in DATASETS.values()]


def _scenarios() -> Rows:
    from pcsim.scenario.reader import load

    rows: Rows = []
    for path in sorted(Path("scenarios").glob("*.yaml")):
        try:
            document = load(path).document
            rows.append(
                {"scenario": str(path), "title": document.title, "shows": document.about, "source": document.source}
            )
        except InputError as error:
            rows.append({"scenario": str(path), "title": "wrong", "shows": str(error), "source": ""})
    return rows


LISTS: dict[str, Callable[[], Rows]] = {
    "ops": _ops, "rules": _rules, "engines": _engines, "measures": _measures, "losses": _losses,
    "feedbacks": _feedbacks, "firings": _firings,
    "datasets": _datasets, "scenarios": _scenarios,
}  # fmt: skip


def listing(what: str) -> Rows:
    """Return the rows of a list; raises InputError for an unknown list."""
    if what not in LISTS:
        raise wrong((), f"there is no list of {what!r}" + nearest(what, LISTS))
    return LISTS[what]()


def listing_tables(what: str, rows: Rows) -> list[Any]:
    """Return a list as a table for people: names and what they are; of many facts, the lesser ones below."""
    if not rows:
        return [f"no {what} here" + (": run pcsim where the folder 'scenarios' is" if what == "scenarios" else "")]
    name, main = next(iter(rows[0])), "summary" if "summary" in rows[0] else "title"
    table = columns(name, main)
    for row in rows:
        less = [
            f"{key.replace('_', ' ')}: {value}"
            for key, value in row.items()
            if key not in (name, main) and value not in ("", None)
        ]
        text = Text(str(row[main]))
        if less:
            text.append("\n" + "; ".join(less), style="dim")
        table.add_row(str(row[name]), text)
    return [table]


OPTIONAL = {
    "scikit-learn": "the data set 'digits': pip install \"pcsim[data]\"",
    "pyarrow": 'synapses from Parquet files: pip install "pcsim[files]"',
    "h5py": 'synapses from SONATA files: pip install "pcsim[files]"',
}
"""Packages that only some scenarios need, and what for."""

BEHIND_ENGINES = ("numba", "cupy-cuda12x")
"""Packages that engines need."""


def diagnosis() -> dict[str, Any]:
    """Return versions, engines, what they may use of this machine, and what is missing for the rest."""
    from pcsim.run.manifest import versions

    optional = {name: use for name, use in OPTIONAL.items() if not _installed(name)}
    missing = optional | {f"engine {name}": why for name in _names() if (why := _closed(name))}
    engines = [name for name in _names() if f"engine {name}" not in missing]
    also = {name: version(name) for name in (*BEHIND_ENGINES, *OPTIONAL) if _installed(name)}
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": cores(),
        "threads": _threads() if "numba" in engines else None,
        "versions": {**versions(), **also},
        "engines": engines,
        "missing": missing,
    }


def _threads() -> int | str:
    """Return the threads of the compiled engine, or what is wrong with their number."""
    try:
        return threads_wanted()
    except InputError as error:
        return str(error)


def _names() -> list[str]:
    return [row["engine"] for row in _engines()]


def _closed(engine: str) -> str:
    """Return why an engine cannot be opened here; empty where it can."""
    from pcsim.engines import open_engine

    try:
        open_engine(engine)
    except InputError as error:
        return str(error)
    return ""


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def diagnosis_table(found: dict[str, Any]) -> Any:
    """Return a diagnosis as a table for people."""
    table = Table(show_header=False)
    cores = found["cores"]
    table.add_row("machine", f"{found['machine']}, {cores} core{'s' if cores > 1 else ''} for this process")
    for name, number in found["versions"].items():
        table.add_row(name, number)
    table.add_row("engines", ", ".join(found["engines"]))
    if found["threads"] is not None:
        table.add_row("threads of numba", str(found["threads"]))
    for name, use in found["missing"].items():
        table.add_row(f"{name} is missing", use)
    return table
