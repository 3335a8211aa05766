"""A grid of runs from one scenario: one row of results for each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pcsim.analysis.replicates import SEED, grouped
from pcsim.engines import ENGINES, nanoseconds, open_engine
from pcsim.engines.array.memory import available
from pcsim.engines.threads import cores
from pcsim.errors import InputError, RunError, clipped, shortened, whole, wrong
from pcsim.run.forecast import SweepForecast, admit, sweep_announcement, sweep_forecast
from pcsim.run.grouping import SMALL_RUN, state_bytes
from pcsim.run.grouping import groups as groups_of
from pcsim.run.processes import share_out
from pcsim.run.result import Run, open_run
from pcsim.run.sweep_folder import ROWS, Cell, Row, SweepFolder, about, facts_of, read_lines
from pcsim.run.task import check, check_engine, engine_of
from pcsim.scenario.axes import CASES, LABEL, label_of
from pcsim.scenario.reader import Source, load
from pcsim.simulate import simulate, simulate_many

if TYPE_CHECKING:
    from pcsim.run.loop import Progress as Ticks
    from pcsim.scenario.scenario import Scenario

__all__ = ["ROWS", "Row", "Sweep", "grid", "open_sweep", "sweep", "table"]

WORTH_A_PROCESS = 2e9
"""Nanoseconds of work, about, for which another process pays: to start one takes half a second."""

Progress = Callable[[int, int, Row], None]
"""Called after each cell with (cells done, cells, its row)."""


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep: ``rows``, one for each cell in the order of the grid, and what was swept.

    A row holds the values of the swept keys and the summary of its run; ``coordinates`` are those values alone, one
    text for each that is a mapping. ``replaced`` says how many rows a resumed sweep ran again because what they were
    made from had changed, ``cut`` how many lines of its file were no whole rows; ``seeds`` is how many seeds were
    swept: runs that differ in them alone are replicates. ``warnings`` say what is legal and may yet be a slip.
    """

    title: str
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    cells: int
    coordinates: tuple[Row, ...] = ()
    folder: Path | None = field(default=None, compare=False)
    replaced: int = field(default=0, compare=False)
    cut: int = field(default=0, compare=False)
    seeds: int = 1
    warnings: tuple[str, ...] = ()
    runs: Mapping[str, Run] = field(default_factory=dict, repr=False, compare=False)
    """The runs that were kept in memory, by the name in their row."""

    def __repr__(self) -> str:
        keys = ", ".join(self.keys[:8]) + (", ..." if len(self.keys) > 8 else "")
        return f"Sweep({clipped(self.title)!r}, {len(self.rows)} of {self.cells} runs done, over {keys})"

    @property
    def complete(self) -> bool:
        """Whether every cell of the grid has a row."""
        return len(self.rows) == self.cells

    def run(self, number: int) -> Run:
        """Return the run of a row, with its trace.

        Raises InputError where there is none: runs are kept where the scenario says what to ``record``.
        """
        try:
            name = self.rows[whole(number)].get("run")
        except (ValueError, IndexError):
            message = f"got {number!r}; rows are whole numbers from 0, and there are {len(self.rows)}"
            raise wrong("number", message) from None
        if name is None:
            raise wrong("record", "this run was not kept; a sweep keeps those of a scenario with 'record: [...]'")
        return self.runs[name] if self.folder is None else open_run(self.folder / name)

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame: a row for each run, by its coordinates.

        Columns are as ``divergence.worst_vertex``. Measures of single vertices and parameters are left to the runs.
        A coordinate that is a list stands as a text.
        """
        pandas = import_module("pandas")
        columns = [dict(_columns(row)) for row in self.rows]
        labels = [[_hashable(each[key]) for key in self.keys] for each in self.coordinates]
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


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value


def _columns(row: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a row says in single numbers and texts, by dotted names."""
    for key, value in row.items():
        if isinstance(value, Mapping) and key not in _BY_NAME:
            yield from _columns(value, f"{head}{key}.")
        elif not isinstance(value, Mapping | list | tuple):
            yield f"{head}{key}", value


_BY_NAME = ("vertices", "parameters")
"""Parts of a summary with an entry for each vertex or parameter."""


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
    return {**plain, **{key: value for key, value in cell.get(CASES, {}).items() if key != LABEL}}


def _merged(given: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides of a cell: whole sections first, so that ``rule.ticks`` changes a swept ``rule`` too."""
    both = {**given, **overrides_of(cell), "sweep": {}}
    return {key: both[key] for key in sorted(both, key=lambda key: key.count("."))}


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
    announce: Callable[[str], None] | None = None,
) -> Sweep:
    """Run a scenario over the grid of its ``sweep:`` keys.

    Parameters
    ----------
    out : a folder; each row is added to ``sweep.jsonl`` in it as soon as it is known, ``sweep.json`` says what was
        asked for, and where the scenario says what to ``record``, each run is kept in ``runs/0000``, ``runs/0001``, ...
    resume : keep the rows that ``out`` already has for equal scenarios, content of files included; run the others
    workers : processes; None: as many as pay, one for each core at most, and the longest run begins first
    together : let small cells that differ only in seed, step size, inputs or targets tick side by side, as one program
    announce : called before the first run with a line on what will be written to ``out``, where that is much

    Returns
    -------
    Sweep
        A run that fails is a row too, with ``error``. After Ctrl-C it has the rows so far, and is not ``complete``.
        Runs with a trace are opened by `Sweep.run`.

    Raises
    ------
    InputError
        If something asked for is wrong, in any cell, before the first one is run.
    RunError
        If a row cannot be written, or a worker process dies.
    """
    given = dict(overrides or {})
    base, axes = _axes(source, given, engine, workers)
    scenarios = [_checked(source, given, engine, cell) for cell in grid(axes)]
    cells, store = [*map(_cell_of, grid(axes), scenarios)], SweepFolder(Path(out) if out else None)
    with store.held():
        store.begin(cells, facts_of(base, axes, cells, scenarios), resume=resume)
        todo = _to_do(cells, store)
        _tell(announce, [scenarios[index] for index in todo], store.path)
        processes, groups = _shared_out(todo, scenarios, engine, workers, together=together)
        work = _Work(cells, groups, store, progress)
        with work.kept():
            share_out(partial(_cells, source, given, engine), work.pieces(), processes, work.keep)
    found = _assembled(base.document.title, axes, cells, store)
    return replace(found, runs=work.runs, warnings=tuple(shortened(base.remarks)))


def _to_do(cells: Sequence[Cell], store: SweepFolder) -> list[int]:
    """Return which cells are run: the first of each scenario of which there is no row yet."""
    first = {cell.digest: index for index, cell in reversed([*enumerate(cells)])}
    return sorted(index for digest, index in first.items() if digest not in store.known)


def _tell(announce: Callable[[str], None] | None, scenarios: Sequence[Scenario], folder: Path | None) -> None:
    """Announce runs that will write much."""
    if announce is not None and folder is not None:
        text = sweep_announcement(sweep_forecast(scenarios), folder)
        if text:
            announce(text)


def planned(scenario: Scenario) -> SweepForecast | None:
    """Return how many runs the sweep of a scenario has and what is kept of them; None where nothing is swept.

    Neither data nor parameters are loaded. Raises InputError where a cell is wrong.
    """
    if not scenario.document.sweep or scenario.origin is None:
        return None
    source, given = scenario.origin
    axes = _axes_left(scenario, given)
    runs = prod(map(len, axes.values()))
    swept = {*axes, *(key for case in axes.get(CASES, ()) for key in case)}
    if not scenario.document.record and not any(key.partition(".")[0] == "record" for key in swept):
        return SweepForecast(runs)
    # a seed changes no size
    sizes = {key: values[:1] if key == SEED else values for key, values in axes.items()}
    found = sweep_forecast(_loaded(source, given, cell) for cell in grid(sizes))
    seeds = runs // found.runs
    return SweepForecast(runs, found.kept * seeds, found.trace * seeds)


def scenarios_of(source: Source, overrides: Mapping[str, Any] | None = None) -> list[tuple[Row, Scenario]]:
    """Return the scenario of each cell of a sweep with its coordinates; where nothing is swept, the only one.

    Raises InputError where the document or a cell is wrong; neither data nor parameters are loaded.
    """
    given = dict(overrides or {})
    base = load(source, given)
    return [(_coordinates(cell), _loaded(source, given, cell)) for cell in grid(_axes_left(base, given))]


def open_sweep(folder: str | Path) -> Sweep:
    """Open the folder of a sweep: the rows that are known, complete or not.

    Raises
    ------
    InputError
        If it is none, or what it says of the sweep is damaged.
    """
    path = Path(folder)
    facts = about(path)
    pairs = zip(grid(facts["axes"]), facts["digests"], strict=False)
    cells = [Cell(overrides, digest, _coordinates(overrides)) for overrides, digest in pairs]
    lines, cut = read_lines(path / ROWS)
    store = SweepFolder(path, {line.digest: line.row for line in lines}, facts.get("replaced", 0), cut)
    return _assembled(str(facts.get("title", "")), facts["axes"], cells, store)


def _assembled(title: str, axes: Mapping[str, Any], cells: Sequence[Cell], store: SweepFolder) -> Sweep:
    """Return the sweep of the rows that are known, in the order of the grid."""
    done = [cell for cell in cells if cell.digest in store.known]
    rows = tuple({**_named(cell.overrides), **store.known[cell.digest]} for cell in done)
    coordinates = tuple(cell.coordinates for cell in done)
    seeds = len(set(axes.get(SEED, [0])))
    return Sweep(title, tuple(axes), rows, len(cells), coordinates, store.path, store.replaced, store.cut, seeds)


def _cell_of(overrides: Row, scenario: Scenario) -> Cell:
    return Cell(overrides, scenario.digest, _coordinates(overrides), traced=bool(scenario.document.record))


class _Result(NamedTuple):
    """What comes of a cell: its row, None if it was interrupted, and its run where that is kept in memory."""

    row: Row | None
    run: Run | None = None


class _Piece(NamedTuple):
    """A cell as it is handed to a process; ``out`` is the folder that its run is kept in."""

    overrides: Row
    traced: bool
    out: Path | None


@dataclass
class _Work:
    """Groups of cells that are to be run, and where their results go."""

    cells: Sequence[Cell]
    groups: Sequence[Sequence[int]]
    store: SweepFolder
    progress: Progress | None
    names: dict[int, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    done: int = field(init=False)
    """Cells that have a row."""
    times: Counter[str] = field(init=False)
    """How many cells have a scenario, by its fingerprint: one run is the row of them all."""

    def __post_init__(self) -> None:
        self.times = Counter(cell.digest for cell in self.cells)
        self.done = sum(times for digest, times in self.times.items() if digest in self.store.known)

    def pieces(self) -> list[list[_Piece]]:
        """Return each group of cells, with the folders that their runs are kept in."""
        traced = sorted(index for group in self.groups for index in group if self.cells[index].traced)
        self.names = {index: self.store.new_run() for index in traced}
        return [[self._piece(index) for index in group] for group in self.groups]

    def _piece(self, index: int) -> _Piece:
        cell, path = self.cells[index], self.store.path
        out = path / self.names[index] if path is not None and cell.traced else None
        return _Piece(cell.overrides, cell.traced, out)

    def keep(self, number: int, results: Sequence[_Result]) -> None:
        """Keep the results of a group; raises KeyboardInterrupt at an interrupted one."""
        for index, (row, run) in zip(self.groups[number], results, strict=True):
            if row is None:
                raise KeyboardInterrupt
            name = self.names.get(index)
            if name is not None and (run is not None or self.store.has_run(name)):
                row = {**row, "run": name}
            if name is not None and run is not None:
                self.runs[name] = run
            self.store.add(self.cells[index], row)
            self.done += self.times[self.cells[index].digest]
            if self.progress is not None:
                self.progress(self.done, len(self.cells), row)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Say in the folder how the sweep ended; an interrupted one has the rows so far."""
        status = "failed"
        try:
            yield
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
        finally:
            self.store.end(status)


def _nanoseconds(scenario: Scenario) -> float:
    return nanoseconds(scenario.levelled, scenario.document.batch, scenario.ticks)


def _shared_out(
    todo: list[int], scenarios: Sequence[Scenario], engine: str | None, workers: int | None, *, together: bool
) -> tuple[int, list[list[int]]]:
    """Return how many processes run the cells ``todo``, and which cells are run side by side, in order."""
    processes = _processes(workers) or _worthwhile([scenarios[index] for index in todo], engine)
    alone = {index for index in todo if not together or _streams(scenarios[index])}
    others = [index for index in todo if index not in alone]
    groups = sorted([*_groups(others, scenarios, engine, processes), *([index] for index in alone)])
    return processes, groups if workers else _longest_first(groups, scenarios, processes)


def _streams(scenario: Scenario) -> bool:
    """Return whether a run records so much that it is better written as it goes on than held in memory to its end."""
    return bool(scenario.document.record) and state_bytes(scenario) * scenario.ticks > SMALL_RUN


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


def _processes(workers: Any) -> int | None:
    """Return how many processes are asked for, also as 3.0; raises InputError where it is no such number."""
    if workers is None:
        return None
    with suppress(ValueError):
        if whole(workers) >= 1:
            return whole(workers)
    raise wrong("workers", f"expected 1 or more, a whole number, got {workers!r}")


def _axes(
    source: Source, given: Mapping[str, Any], engine: str | None, workers: int | None
) -> tuple[Scenario, dict[str, Any]]:
    """Return what is swept and the axes of the sweep."""
    scenario = load(source, given)
    document = scenario.document
    if not document.sweep:
        hint = "give keys and lists, such as sweep: {graph.depth: [1, 2, 4]}"
        raise wrong("sweep", f"the scenario has no 'sweep'; {hint}")
    _processes(workers)
    open_engine(engine or document.engine)
    return scenario, _axes_left(scenario, given)


def _axes_left(scenario: Scenario, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the axes of a sweep that no override has fixed."""
    return {key: values for key, values in scenario.document.sweep.items() if key not in given}


def _named(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell with its case called by its label."""
    return {key: label_of(value) if key == CASES else value for key, value in cell.items()}


def _coordinates(cell: Mapping[str, Any]) -> Row:
    """Return where a cell lies on each axis: a number or a text for each."""
    return {key: label_of(value) if isinstance(value, Mapping) else value for key, value in cell.items()}


def _checked(source: Source, given: Mapping[str, Any], engine: str | None, cell: Mapping[str, Any]) -> Scenario:
    """Load a cell before anything runs: a mistake in the last cell should not cost the others."""
    scenario = _loaded(source, given, cell)
    try:
        check_engine(scenario, engine)
        check(scenario, ())
        admit(scenario, engine)
        for part in (scenario.losses, scenario.inputs, scenario.targets, scenario.initial):
            part()
        return scenario
    except InputError as error:
        raise _at_cell(scenario.located(error), cell) from None


def _loaded(source: Source, given: Mapping[str, Any], cell: Mapping[str, Any]) -> Scenario:
    try:
        return load(source, _merged(given, cell))
    except InputError as error:
        raise _at_cell(error, cell) from None


def _at_cell(error: InputError, cell: Mapping[str, Any]) -> InputError:
    """Return an error that says in which cell of the sweep it is."""
    where = ", ".join(f"{key}={value}" for key, value in _named(cell).items())
    return error.map(lambda p: type(p)(p.path, f"{p.message} (in the sweep at {where})", p.location))


def _groups(todo: Sequence[int], scenarios: Sequence[Scenario], engine: str | None, workers: int) -> list[list[int]]:
    """Return which of the cells ``todo`` are run side by side: in groups, each shared out among all workers."""
    shared = []
    for group in groups_of([scenarios[index] for index in todo], engine):
        size = -(-len(group) // workers)
        shared += [[todo[number] for number in group[start : start + size]] for start in range(0, len(group), size)]
    return shared


def _cells(
    source: Source, given: Mapping[str, Any], engine: str | None, cells: Sequence[_Piece], progress: Ticks | None
) -> list[_Result]:
    """Run cells, side by side where they are several; those that were interrupted have no row."""
    if len(cells) == 1:
        return [_cell(source, given, engine, cells[0], progress)]
    scenarios = [load(source, _overrides(given, cell)) for cell in cells]
    folders = [cell.out for cell in cells if cell.out is not None]
    runs = simulate_many(scenarios, engine=engine, out=folders or None, progress=progress)
    done = [_result(run, cell, len(cells)) for run, cell in zip(runs, cells, strict=False)]
    return done + [_Result(None)] * (len(cells) - len(done))


def _result(run: Run, cell: _Piece, share: int) -> _Result:
    return _Result(_row(run, share), run if cell.traced and cell.out is None else None)


def _overrides(given: Mapping[str, Any], cell: _Piece) -> dict[str, Any]:
    """Return the overrides of a cell, of which nothing is recorded unless its run is kept."""
    return {**_merged(given, cell.overrides), **({} if cell.traced else {"record": []})}


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
    source: Source, given: Mapping[str, Any], engine: str | None, cell: _Piece, progress: Ticks | None
) -> _Result:
    """Run one cell."""
    overrides = _overrides(given, cell)
    try:
        run = simulate(source, overrides, engine=engine, out=cell.out, progress=progress)
    except RunError as error:
        if isinstance(error.__cause__, OSError):  # it is the disk that failed, not the run: the row would stay for good
            raise
        scenario = load(source, overrides)
        head = {**_head(scenario.rule.name, scenario.rule.step_size), "horizon": scenario.ticks, "error": str(error)}
        return _Result(head, error.run if cell.traced and cell.out is None else None)
    return _result(run, cell, 1)


def _head(rule: str, step_size: float) -> Row:
    return {"rule": rule, "step_size": step_size}


def table(found: Sweep) -> list[Row]:
    """Return rows fit for a table: what was swept, what was measured and predicted, and why a run ended."""
    return [{**{key: row[key] for key in found.keys}, **_results_of(row)} for row in found.rows]


def replicates(found: Sweep) -> list[Row]:
    """Return rows of ``table`` with those together that differ in their seed alone; none where one seed was swept.

    What was measured is {n, mean, std, min, max}, beside ``asked``, ``runs``, ``failed`` and ``converged``.
    """
    return grouped(table(found), found.coordinates, found.seeds) if found.seeds > 1 else []


def _results_of(row: Row) -> Row:
    ticks = row.get("ticks_to_convergence") or {}
    updates = (row.get("divergence") or {}).get("updates") or {}
    credit = row.get("credit") or {}
    shares = (credit.get("parameters") or {}).values()
    return {
        "rule": row["rule"],
        "step_size": row["step_size"],
        "levels": row.get("levels"),
        "ticks_run": row.get("ticks"),
        "measured": ticks.get("ticks"),
        "predicted": ticks.get("predicted"),
        "no_prediction": ticks.get("no_prediction", ""),
        "criterion": ticks.get("criterion"),
        "horizon": row["horizon"],
        "updates_relative": updates.get("relative"),
        "updates_euclidean": updates.get("euclidean"),
        "updates_cosine": updates.get("cosine"),
        "credit_cosine": (credit.get("updates") or {}).get("cosine"),
        "credit_least": min((each["share"] for each in shares if each["share"] is not None), default=None),
        "blame": ", ".join((row.get("divergence") or {}).get("blame") or []),
        "error": row.get("error", ""),
    }
