"""A grid of runs from one scenario: one row of results for each cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.engines import ENGINES, nanoseconds, open_engine
from pcsim.engines.array.memory import HostMemory, available
from pcsim.engines.threads import cores
from pcsim.errors import InputError, RunError, wrong
from pcsim.run.grouping import groups as groups_of
from pcsim.run.grouping import state_bytes
from pcsim.run.processes import share_out
from pcsim.run.task import check, check_engine, engine_of
from pcsim.scenario.reader import Source, load
from pcsim.simulate import simulate, simulate_many

if TYPE_CHECKING:
    from pcsim.run.loop import Progress as Ticks
    from pcsim.run.result import Run
    from pcsim.scenario.scenario import Scenario

ROWS = "sweep.jsonl"
Row = dict[str, Any]
WORTH_A_PROCESS = 2e9
"""Nanoseconds of work, about, for which another process pays: to start one takes half a second."""

Progress = Callable[[int, int, Row], None]
"""Called after each cell with (cells done, cells, its row)."""


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep: ``rows``, one for each cell in the order of the grid, and what was swept.

    A row holds the values of the swept keys and the summary of its run; ``coordinates`` are those values alone, one
    text for each that is a mapping.
    """

    title: str
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    cells: int
    coordinates: tuple[Row, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every cell of the grid has a row."""
        return len(self.rows) == self.cells

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame: a row for each run, by its coordinates.

        Columns are as ``divergence.worst_vertex``. Measures of single vertices and parameters are left to the runs.
        """
        pandas = import_module("pandas")
        columns = [dict(_columns(row)) for row in self.rows]
        labels = [[each[key] for key in self.keys] for each in self.coordinates]
        index = pandas.MultiIndex.from_tuples(labels, names=self.keys) if len(self.keys) > 1 else pandas.Index(
            [label for label, in labels], name=self.keys[0]
        )  # fmt: skip
        return pandas.DataFrame(columns, index=index).drop(columns=list(self.keys), errors="ignore")

    def to_xarray(self) -> Any:
        """Return the same as an xarray Dataset, with a dimension for each swept key; cells without a run are NaN.

        Raises InputError where two cells have the same coordinates.
        """
        table = self.to_dataframe()
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()][0]
            raise wrong("sweep", f"two runs have the coordinates {twice!r}; a Dataset has room for one")
        return table.to_xarray()


def _columns(row: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a row says in single numbers and texts, by dotted names."""
    for key, value in row.items():
        if isinstance(value, Mapping) and key not in _BY_NAME:
            yield from _columns(value, f"{head}{key}.")
        elif not isinstance(value, Mapping | list | tuple):
            yield f"{head}{key}", value


_BY_NAME = ("vertices", "parameters")
"""Parts of a summary with an entry for each vertex or parameter."""


CASES = "cases"
"""The key of an axis whose values are themselves overrides, ``{label: ..., key: value, ...}``."""


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the cells of a grid, the last key changing fastest.

    >>> grid({"graph.depth": [1, 2], "rule": ["il", "zil"]})[1]
    {'graph.depth': 1, 'rule': 'zil'}
    """
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def overrides_of(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides that a cell means: a case stands for the overrides it lists.

    >>> overrides_of({"graph.depth": 2, "cases": {"label": "slow", "rule.step_size": 0.1}})
    {'graph.depth': 2, 'rule.step_size': 0.1}
    """
    plain = {key: value for key, value in cell.items() if key != CASES}
    return {**plain, **{key: value for key, value in cell.get(CASES, {}).items() if key != "label"}}


def _merged(given: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides of a cell: whole sections first, so that ``rule.ticks`` changes a swept ``rule`` too."""
    both = {**given, **overrides_of(cell), "sweep": {}}
    return {key: both[key] for key in sorted(both, key=lambda key: key.count("."))}


def label_of(case: Any) -> str:
    """Return how a case is called."""
    if not isinstance(case, Mapping):
        raise wrong(
            ("sweep", CASES),
            f"a case is a mapping of overrides, such as {{label: slow, rule.step_size: 0.1}}, got {case!r}",
        )
    return str(case.get("label") or ", ".join(f"{key}={value}" for key, value in case.items()))


def sweep(
    source: Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    engine: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int | None = 1,
    together: bool = True,
    progress: Progress | None = None,
) -> Sweep:
    """Run a scenario over the grid of its ``sweep:`` keys.

    Parameters
    ----------
    out : a folder; each row is added to ``sweep.jsonl`` in it as soon as it is known
    resume : keep the rows that ``out`` already has for equal scenarios and run only the others
    workers : processes; None: as many as pay, one for each core at most, and the longest run begins first
    together : let small cells that differ only in seed, step size, inputs or targets tick side by side, as one program

    Returns
    -------
    Sweep
        A run that fails is a row too, with ``error``. After Ctrl-C it has the rows so far, and is not ``complete``.

    Raises
    ------
    InputError
        If something asked for is wrong, in any cell, before the first one is run.
    RunError
        If a row cannot be written, or a worker process dies.
    """
    given = dict(overrides or {})
    title, axes = _axes(source, given, engine, workers)
    cells = grid(axes)
    scenarios = [_checked(source, given, engine, cell) for cell in cells]
    digests = [scenario.digest for scenario in scenarios]
    store = _Store(Path(out) / ROWS if out else None, resume)
    todo = [index for index, digest in enumerate(digests) if digest not in store.known]
    processes, groups = _shared_out(todo, scenarios, engine, workers, together=together)
    with suppress(KeyboardInterrupt):
        pieces = [[cells[index] for index in group] for group in groups]
        keep = partial(_keep, store, groups, list(zip(digests, map(_coordinates, cells), strict=True)), progress)
        share_out(partial(_cells, source, given, engine), pieces, processes, keep)
    pairs = zip(cells, digests, strict=True)
    done = [(cell, store.known[digest]) for cell, digest in pairs if digest in store.known]
    rows = tuple({**_named(cell), **row} for cell, row in done)
    return Sweep(title, tuple(axes), rows, len(cells), tuple(_coordinates(cell) for cell, _ in done))


def _keep(
    store: _Store,
    groups: Sequence[Sequence[int]],
    cells: Sequence[tuple[str, Row]],
    progress: Progress | None,
    number: int,
    rows: Sequence[Row | None],
) -> None:
    """Keep the rows of a group of cells (digest, coordinates); raises KeyboardInterrupt at an interrupted one."""
    for index, row in zip(groups[number], rows, strict=True):
        if row is None:
            raise KeyboardInterrupt
        store.add(*cells[index], row)
        if progress is not None:
            progress(sum(digest in store.known for digest, _ in cells), len(cells), row)


def _nanoseconds(scenario: Scenario) -> float:
    return nanoseconds(scenario.levelled, scenario.document.batch, scenario.ticks)


def _shared_out(
    todo: list[int], scenarios: Sequence[Scenario], engine: str | None, workers: int | None, *, together: bool
) -> tuple[int, list[list[int]]]:
    """Return how many processes run the cells ``todo``, and which cells are run side by side, in order."""
    processes = workers or _worthwhile([scenarios[index] for index in todo], engine)
    groups = _groups(todo, scenarios, engine, processes) if together else [[index] for index in todo]
    return processes, groups if workers else _longest_first(groups, scenarios, processes)


def _longest_first(groups: list[list[int]], scenarios: Sequence[Scenario], processes: int) -> list[list[int]]:
    """Return groups with the longest first, so that no process is left to run it alone at the end."""
    if processes == 1:
        return groups
    return sorted(groups, key=lambda group: -sum(_nanoseconds(scenarios[index]) for index in group))


def _worthwhile(scenarios: Sequence[Scenario], engine: str | None) -> int:
    """Return how many processes pay for runs: no more than cores, or than fit into half of the memory that is left."""
    names = {engine_of(scenario, engine)[0] for scenario in scenarios}
    if not names or any(name in ENGINES and ENGINES[name].parallel for name in names):
        return 1
    long = sum(map(_nanoseconds, scenarios)) / WORTH_A_PROCESS
    free = available()
    fitting = cores() if free is None else free / 2 / max(map(state_bytes, scenarios))
    return max(1, int(min(cores(), len(scenarios), long, fitting)))


def _axes(
    source: Source, given: Mapping[str, Any], engine: str | None, workers: int | None
) -> tuple[str, dict[str, Any]]:
    """Return the title and the axes of a sweep: those of the scenario that no override has fixed."""
    document = load(source, given).document
    if not document.sweep:
        hint = "give keys and lists, such as sweep: {graph.depth: [1, 2, 4]}"
        raise wrong("sweep", f"the scenario has no 'sweep'; {hint}")
    if workers is not None and workers < 1:
        raise wrong("workers", f"expected 1 or more, got {workers}")
    open_engine(engine or document.engine)
    axes = {key: values for key, values in document.sweep.items() if key not in given}
    for case in axes.get(CASES, ()):
        label_of(case)
    return document.title, axes


def _named(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell with its case called by its label."""
    return {key: label_of(value) if key == CASES else value for key, value in cell.items()}


def _coordinates(cell: Mapping[str, Any]) -> Row:
    """Return where a cell lies on each axis: a number or a text for each."""
    return {key: label_of(value) if isinstance(value, Mapping) else value for key, value in cell.items()}


def _checked(source: Source, given: Mapping[str, Any], engine: str | None, cell: Mapping[str, Any]) -> Scenario:
    """Load a cell before anything runs: a mistake in the last cell should not cost the others."""
    scenario = None
    try:
        scenario = load(source, _merged(given, cell))
        check_engine(scenario, engine)
        check(scenario, ())
        HostMemory().admit(scenario.memory)
        for part in (scenario.losses, scenario.inputs, scenario.targets, scenario.initial):
            part()
        return scenario
    except InputError as error:
        error = scenario.located(error) if scenario is not None else error
        where = ", ".join(f"{key}={value}" for key, value in _named(cell).items())
        raise error.map(lambda p: type(p)(p.path, f"{p.message} (in the sweep at {where})", p.location)) from None


def _groups(todo: Sequence[int], scenarios: Sequence[Scenario], engine: str | None, workers: int) -> list[list[int]]:
    """Return which of the cells ``todo`` are run side by side: in groups, each shared out among all workers."""
    shared = []
    for group in groups_of([scenarios[index] for index in todo], engine):
        size = -(-len(group) // workers)
        shared += [[todo[number] for number in group[start : start + size]] for start in range(0, len(group), size)]
    return shared


def _cells(
    source: Source,
    given: Mapping[str, Any],
    engine: str | None,
    cells: Sequence[Mapping[str, Any]],
    progress: Ticks | None,
) -> list[Row | None]:
    """Run cells, side by side where they are several; None for those that were interrupted."""
    if len(cells) == 1:
        return [_cell(source, given, engine, cells[0], progress)]
    scenarios = [load(source, {**_merged(given, cell), "record": []}) for cell in cells]
    runs = simulate_many(scenarios, engine=engine, progress=progress)
    rows = [_row(run, len(cells)) for run in runs]
    return rows + [None] * (len(cells) - len(rows))


def _row(run: Run, share: int) -> Row | None:
    """Return the row of a run that took its share of the time."""
    found, status = run.summary, run.manifest["status"]
    if status == "interrupted":
        return None
    head = _head(found["rule"], found["step_size"])
    if status == "failed":
        return {**head, "horizon": found["horizon"], "error": found["stop_reason"]}
    return {**head, **found, "seconds": round(run.manifest["seconds"] / share, 3)}


def _cell(
    source: Source, given: Mapping[str, Any], engine: str | None, cell: Mapping[str, Any], progress: Ticks | None
) -> Row | None:
    """Run one cell; None if it was interrupted."""
    overrides = {**_merged(given, cell), "record": []}
    try:
        run = simulate(source, overrides, engine=engine, progress=progress)
    except RunError as error:
        scenario = load(source, overrides)
        return {**_head(scenario.rule.name, scenario.rule.step_size), "horizon": scenario.ticks, "error": str(error)}
    return _row(run, 1)


def _head(rule: str, step_size: float) -> Row:
    return {"rule": rule, "step_size": step_size}


class _Store:
    """Rows on disk, one JSON object a line; a line cut short by a crash is run again."""

    def __init__(self, path: Path | None, resume: bool) -> None:
        self.path = path
        self.known: dict[str, Row] = {}
        if path is None:
            return
        if path.exists() and not resume:
            raise wrong("out", f"{path} exists; resume the sweep (--resume) or name another folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.known = dict(_lines(path))
                if not path.read_bytes().endswith(b"\n"):
                    with path.open("a") as file:
                        file.write("\n")
        except OSError as error:
            msg = f"cannot write to {path.parent}: {error.strerror or error}"
            raise RunError(msg) from error

    def add(self, digest: str, coordinates: Row, row: Row) -> None:
        """Keep a row; raises RunError where it cannot be written."""
        self.known[digest] = row
        if self.path is not None:
            line = json.dumps({"digest": digest, "coordinates": coordinates, "row": row}, default=str, allow_nan=False)
            try:
                with self.path.open("a") as file:
                    file.write(line + "\n")
            except OSError as error:
                msg = f"cannot write {self.path}: {error.strerror or error}; the rows before are kept"
                raise RunError(msg) from error


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    for line in path.read_text().splitlines():
        try:
            found = json.loads(line)
            yield found["digest"], found["row"]
        except (ValueError, KeyError, TypeError):
            continue


def table(found: Sweep) -> list[Row]:
    """Return rows fit for a table: what was swept, what was measured and predicted, and why a run ended."""
    return [{**{key: row[key] for key in found.keys}, **_results_of(row)} for row in found.rows]


def _results_of(row: Row) -> Row:
    ticks = row.get("ticks_to_convergence") or {}
    updates = (row.get("divergence") or {}).get("updates") or {}
    return {
        "rule": row["rule"],
        "step_size": row["step_size"],
        "levels": row.get("levels"),
        "ticks_run": row.get("ticks"),
        "measured": ticks.get("ticks"),
        "predicted": ticks.get("predicted"),
        "criterion": ticks.get("criterion"),
        "horizon": row["horizon"],
        "updates_relative": updates.get("relative"),
        "updates_euclidean": updates.get("euclidean"),
        "blame": ", ".join((row.get("divergence") or {}).get("blame") or []),
        "error": row.get("error", ""),
    }
