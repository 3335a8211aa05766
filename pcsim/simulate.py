"""The whole flow: a scenario in, a run out.

    file --read--> Scenario --level--> Graph --lower--> Program --verify--> Program
    Program --engine.tick--> Trace --analysis--> numbers

- read: ``scenario.reader.load``; level: ``Scenario.levelled``;
- lower, verify: ``program.lower.lower`` and ``program.verify.verify``, by the engine's session as it begins;
- engine.tick: ``run.loop.run_ticks``, which records the trace; analysis: ``analysis.meter``, beside it, and
  ``analysis.measures`` in the end.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from pcsim.analysis.backprop import backprop
from pcsim.engines.ensembles import agree, together
from pcsim.errors import RunError, wrong
from pcsim.graph import Graph
from pcsim.run.forecast import with_room
from pcsim.run.grouping import groups
from pcsim.run.loop import run_ticks
from pcsim.run.manifest import ManifestKeeper
from pcsim.run.ready import keep, prepare
from pcsim.run.result import TRACE, folder_of, new_folder
from pcsim.run.span import Beginning, Stretch, span_of
from pcsim.run.task import engine_of, task_of
from pcsim.scenario.reader import Source, load
from pcsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import xarray as xr

    from pcsim.run.loop import Progress
    from pcsim.run.result import Run


def simulate(
    source: Scenario | Source,
    overrides: Mapping[str, Any] | None = None,
    *,
    engine: str | None = None,
    out: str | Path | None = None,
    initial: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
    **asked: Unpack[Beginning],
) -> Run:
    """Simulate a scenario.

    Parameters
    ----------
    source, overrides : a Scenario, or a path or mapping that ``pcsim.load`` takes, and for these {dotted key: value}
    engine : one of ``ENGINES``, or ``auto`` (compiled for long runs); default: the resumed run's, else the scenario's
    out : a new folder, written while the run goes on, or the folder that is resumed; default: kept in memory
    initial : {free vertex: (batch, *shape)}, values at tick 0, such as ``run.state`` of another run
    progress : called after each tick with (ticks done, horizon)
    parameters, inputs, targets : {parameter: (*shape)}, {source or output: (batch, *shape)}, in place of the scenario's
    until, checkpoint, resume : stop before a tick; checkpoint every so many ticks; go on from a run (``Beginning``)

    Returns
    -------
    Run
        Also after Ctrl-C, which ends the tick in progress: ``run.manifest["status"]`` is ``interrupted``; after
        ``until`` it is ``paused``. A resumed run is the whole run: its trace begins at tick 0.

    Raises InputError if something asked for is wrong; RunError if a value becomes NaN or infinite, or the trace cannot
    be written: ``error.run`` is the run so far.
    """
    given = asked.pop("parameters", None), asked.pop("inputs", None), asked.pop("targets", None)
    scenario = _begun_with(_loaded(source, overrides), *given)  # read
    span = span_of(scenario, out, **cast("Stretch", asked))
    name, start = engine_of(scenario, engine or span.engine)
    with _room(), folder_of(with_room(out, scenario, name, span.until), asked.get("resume")) as folder:
        prepared = prepare(scenario, name, initial)  # level
        keeper = ManifestKeeper(scenario, name, folder, before=span.before)
        with keeper.keeping():
            keeper.begin()
            ensemble = prepared.begin(start)  # lower, verify: a session at tick 0
            run_ticks([keeper], ensemble, progress, span)  # engine.tick and analysis: the trace, the numbers
    assert keeper.run is not None
    keep(scenario, name, ensemble, keeper.run.outcome)
    return keeper.run if folder is None else replace(keeper.run, store=Path(out or "") / TRACE)


@contextmanager
def _room() -> Iterator[None]:
    """Say in a line that memory ran out."""
    try:
        yield
    except MemoryError as error:
        message = f"the memory ran out: {error}" if str(error) else "the memory ran out"
        raise RunError(message) from error


def simulate_many(
    sources: Sequence[Scenario | Source],
    *,
    engine: str | None = None,
    out: Sequence[str | Path] | None = None,
    progress: Progress | None = None,
) -> list[Run]:
    """Simulate scenarios side by side where they are one graph under one rule.

    Runs that differ only in seed, step size, inputs or targets tick together, as one program, in groups
    of at most ``MOST_TOGETHER`` bytes (``run/grouping.py``); the others one after the other. Results are those of
    single runs.

    Parameters
    ----------
    sources : Scenarios, or paths or mappings that ``pcsim.load`` takes
    engine : for all; default: each scenario's own
    out : a new folder for each run, written when it has ended
    progress : called with (ticks done, horizon) of the runs that are ticking

    Returns
    -------
    list of Run
        In the order of the sources. A run that fails does not end the others: its ``manifest["status"]`` is
        ``failed``. After Ctrl-C those not ended are ``interrupted``, or, where they had not begun, left out.

    Raises
    ------
    InputError
        If something asked for is wrong in any of them, before the first is run.
    """
    scenarios = [_loaded(source) for source in sources]
    folders = None if out is None else _folders(out, len(scenarios))
    found: dict[int, Run] = {}
    for group in groups(scenarios, engine):
        for place, run in zip(group, _group([scenarios[place] for place in group], engine, progress), strict=False):
            found[place] = run
            if folders is not None:
                run.save(folders[place])
        if any(found[place].manifest["status"] == "interrupted" for place in group if place in found):
            break
    return [found[place] for place in sorted(found)]


def _folders(out: Sequence[str | Path], count: int) -> list[Path]:
    """Return a new folder for each of so many runs; raises InputError where one would be in another's way."""
    folders = [new_folder(folder) for folder in out]
    if len(folders) != count:
        raise wrong("out", f"expected one folder for each of {count} runs, got {len(folders)}")
    taken: dict[Path, Path] = {}
    for folder in folders:
        taken.setdefault(folder.resolve(), folder)
    if len(taken) < count:
        raise wrong("out", "two runs would be written to one folder; name a folder for each")
    for place, folder in taken.items():
        if any(parent in taken for parent in place.parents):
            raise wrong("out", f"{folder} lies within the folder of another run; name folders apart")
    return folders


def _group(scenarios: Sequence[Scenario], engine: str | None, progress: Progress | None) -> Iterator[Run]:
    """Run a group side by side; those that this leaves without a result, one by one."""
    name, start = engine_of(scenarios[0], engine)
    tasks = [task_of(scenario, None, beside=True) for scenario in scenarios] if len(scenarios) > 1 else []
    keepers = [ManifestKeeper(scenario, name, None) for scenario in scenarios]
    if tasks and agree(tasks):
        # one run that fails must not end the others
        with suppress(RunError), ExitStack() as stack:
            for keeper in keepers:
                stack.enter_context(keeper.keeping())
            run_ticks(keepers, together(tasks, start), progress)
    for scenario, keeper in zip(scenarios, keepers, strict=True):
        run = keeper.run or _single(scenario, keeper, engine, progress)
        yield run
        if run.manifest["status"] == "interrupted" and keeper.run is None:
            return


def _single(scenario: Scenario, keeper: ManifestKeeper, engine: str | None, progress: Progress | None) -> Run:
    """Run one scenario; a failed one is a run too."""
    try:
        # a copy keeps no session: many runs would hold many
        return simulate(replace(scenario), engine=engine, progress=progress)
    except RunError as error:
        run: Run = error.run or keeper.never_begun(error)
        return run


def parameters(source: Scenario | Source) -> dict[str, np.ndarray]:
    """Return {parameter: (*shape)}, the values a run starts from."""
    return _loaded(source).parameters()


def gradients(source: Scenario | Source) -> dict[str, np.ndarray]:
    """Return {parameter: (*shape)}: the descent direction -dL/dp, summed over the batch, by reverse-mode backprop."""
    scenario = _loaded(source)
    return dict(backprop(scenario.task()).gradients)


def synapses(source: Graph | Scenario | Source, vertex: str, overrides: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Return the synapses of a population, a row for each: ``pcsim.Graph.synapses``.

    Parameters
    ----------
    source : a scenario or whatever ``pcsim.load`` takes, for the weights that a run starts from and the delays of the
        graph that is run, levelled as it asks; or a graph
    vertex : a population, that is, a vertex whose op is ``projection``
    overrides : {dotted key: value}, for a path or mapping

    Raises
    ------
    InputError
        Where there is no such population, or the source is wrong.
    """
    if isinstance(source, Graph):
        return source.synapses(vertex)
    scenario = _loaded(source, overrides)
    return scenario.levelled.synapses(vertex, scenario.parameters())


def _begun_with(scenario: Scenario, parameters: Any, inputs: Any, targets: Any) -> Scenario:
    """Return a scenario with what a call is given in place of its own; it shares the session that stands ready."""
    begun = scenario if parameters is None else scenario.with_parameters(parameters)
    return begun if inputs is targets is None else begun.with_data(inputs, targets)


def _loaded(source: Scenario | Source, overrides: Mapping[str, Any] | None = None) -> Scenario:
    return source if isinstance(source, Scenario) else load(source, overrides)
