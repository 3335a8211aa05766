"""The command line: parses and prints, no logic of its own. What exit codes mean: ``pcsim.errors.EXITS``."""

from __future__ import annotations

import gc
import os
import platform
import shlex
import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

import pcsim
from pcsim.errors import InputError, PcsimError, RunError, wrong
from pcsim.interrupts import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.run.result import Run
    from pcsim.scenario.scenario import Scenario
    from pcsim.sweep import Sweep

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
# names and titles are the user's: no brackets or colons in them mean anything
out = Console(markup=False, emoji=False, highlight=False)
err = Console(markup=False, emoji=False, highlight=False, stderr=True)

File = Annotated[Path, typer.Argument(help="a scenario (YAML)")]
RunFolder = Annotated[Path, typer.Argument(help="the folder of a run")]
Set = Annotated[list[str] | None, typer.Option("--set", help="override a key: graph.depth=16, rule.step_size=0.5")]
Engine = Annotated[str | None, typer.Option(help="what executes it")]
Json = Annotated[bool, typer.Option("--json", help="print plain JSON for machines")]


class NamesLists(TyperCommand):
    """A command whose help names the lists, which are imported only where it is asked for."""

    def get_help(self, ctx: Any) -> str:
        """Return the help, with every list by name."""
        from pcsim.view.listing import LISTS

        vars(self.params[0])["help"] = " | ".join(LISTS)
        return super().get_help(ctx)


class NamesEngines(TyperCommand):
    """A command whose help names the engines, which are imported only where it is asked for."""

    def get_help(self, ctx: Any) -> str:
        """Return the help, with every engine by name."""
        from pcsim.engines import ENGINES

        for option in self.params:
            if option.name == "engine":
                vars(option)["help"] = " | ".join((*ENGINES, "auto"))
        return super().get_help(ctx)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn pcsim's errors into messages and exit codes."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except PcsimError as error:
            _complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _complain("ended at once")
            raise typer.Exit(exit_code()) from None
        except MemoryError as error:
            _complain(f"not enough memory: {error}" if str(error) else "not enough memory")
            raise typer.Exit(1) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            _complain(f"cannot write: {error.strerror or error}")
            raise typer.Exit(1) from None

    return guarded


def _complain(text: str) -> None:
    err.print(text, style="red", soft_wrap=True)


def _announce(text: str) -> None:
    if text:
        err.print(text, soft_wrap=True)


def _say(text: str) -> None:
    out.print(text, soft_wrap=True)


def _write(text: str) -> None:
    """Print text as it is; what the terminal's encoding does not have is shown as '?'."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def _print_json(data: Any) -> None:
    from pcsim.view.text import json_text

    sys.stdout.write(json_text(data) + "\n")


def _overrides(settings: list[str] | None) -> dict[str, Any]:
    from pcsim.documents import parse, plain

    pairs: dict[str, Any] = {}
    for setting in settings or []:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise wrong((), f"--set {setting!r}: expected key=value, such as rule.step_size=0.5")
        if not text.strip():
            raise wrong((), f"--set {setting!r}: nothing was given after '='; null stands for no value, '' for no text")
        pairs[key.strip()] = plain(parse(text, f"--set {key.strip()}"))
    return pairs


def _version(asked: bool) -> None:
    if asked:
        _say(f"pcsim {pcsim.__version__} (Python {platform.python_version()}, {Path(pcsim.__file__).parent})")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="tell the version, and where it is installed"),
    ] = False,
) -> None:
    """Simulate predictive coding on computation graphs: messages, delays, ticks.

    Begin with: pcsim guide
    """


def _whole(text: str) -> int:
    """Return the whole number that a text is, also 1e3 or 3.0; typer shows the ValueError of another one."""
    from pcsim.documents import parse, plain
    from pcsim.errors import whole

    try:
        return whole(plain(parse(text, "number")))
    except (ValueError, InputError):
        message = f"{text!r} is not a whole number"
        raise typer.BadParameter(message) from None


@app.command()
@_guarded
def guide() -> None:
    """Print the guide: ten minutes, from a first run to sweeps."""
    from importlib.resources import files

    _write(files("pcsim").joinpath("GUIDE.md").read_text(encoding="utf-8"))


@app.command()
@_guarded
def validate(files: Annotated[list[Path], typer.Argument(help="scenarios and graphs (YAML)")]) -> None:
    """Check files, and tell every mistake with its line.

    Each comes with the nearest legal name, or how to mend it.
    """
    from pcsim.run.validate import validate_file
    from pcsim.view.progress import reading

    problems: list[Any] = []
    for file in files:
        _announce(reading(file))
        try:
            _say(validate_file(file))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)


@app.command()
@_guarded
def plan(
    file: File,
    settings: Set = None,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="show what the compiled engine makes of it, laid out in memory")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a scenario will take, before any of it is made."""
    from pcsim.run.validate import checked
    from pcsim.scenario.graph_alone import any_scenario
    from pcsim.view.progress import reading
    from pcsim.view.scenario_plan import kernel_tables, kernels_of, plan_of, plan_tables

    _announce(reading(file))
    source, about = any_scenario(file, _overrides(settings))
    _announce(about)
    scenario = checked(source, _overrides(settings))
    found: Any = kernels_of(scenario) if kernels else plan_of(scenario)
    tables = kernel_tables if kernels else plan_tables
    _print_json(found) if as_json else out.print(*tables(found), sep="\n")


@app.command("import")
@_guarded
def import_(
    file: Annotated[Path, typer.Argument(help="a model of another tool: .onnx, .nir or .pt2")],
    target: Annotated[Path, typer.Option("-o", "--out", help="the graph document; weights are written beside it")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="fix an open dimension: sequence=16; of .nir: dt=0.001")
    ] = None,
    batch_axis: Annotated[
        str, typer.Option(help="axis of the inputs that is left out where its extent is 1, or none")
    ] = "0",
) -> None:
    """Make a graph document of a model of another tool."""
    from pcsim.models.model_file import model_of_file

    axis = None if batch_axis == "none" else _whole(batch_axis)
    model = model_of_file(file, _overrides(settings), axis)
    _say(repr(model))
    for path in model.save(target):
        _say(str(path))
    _say(f"run it with: {shlex.join(['pcsim', 'run', str(target)])}")


@app.command()
@_guarded
def export(
    file: Annotated[Path, typer.Argument(help="a graph or a scenario (YAML)")],
    target: Annotated[Path, typer.Option("-o", "--out", help="the file to write")],
    form: Annotated[str | None, typer.Option("--format", help="default: as the file's ending says")] = None,
    settings: Set = None,
) -> None:
    """Write a graph with its weights for another tool.

    The ending of the file says for which: .onnx, .nir, .graphml, .dot or .json. A scenario's graph is levelled as the
    scenario says, in its number format. A graph document is written as it stands, in float32, unless --set says
    otherwise: level=delay, dtype=float64, seed=3.
    """
    from pcsim.models.export import export as write
    from pcsim.scenario.graph_alone import to_export

    graph, parameters, dtype = to_export(file, _overrides(settings))
    _say(str(write(graph, target, parameters, dtype, form)))


@app.command(cls=NamesEngines)
@_guarded
def run(
    file: Annotated[Path | None, typer.Argument(help="a scenario or a graph (YAML); none with --resume")] = None,
    settings: Set = None,
    engine: Engine = None,
    folder: Annotated[Path | None, typer.Option("--out", help="a new folder for the run")] = None,
    parameters: Annotated[
        Path | None, typer.Option(help="values to start from: .npz or .safetensors, arrays named as the parameters")
    ] = None,
    until: Annotated[int | None, typer.Option(parser=_whole, help="pause before this tick; --resume goes on")] = None,
    checkpoint: Annotated[
        int | None, typer.Option(parser=_whole, help="write every so many ticks what --resume goes on from")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="a run that was paused, interrupted or killed: go on")] = None,
    as_json: Json = False,
) -> None:
    """Simulate a scenario and print its measures."""
    from pcsim.graph.array_files import read_arrays
    from pcsim.run.forecast import announcement, forecast
    from pcsim.simulate import simulate
    from pcsim.view.progress import Bar

    scenario = _scenario_of(file, settings, resume)
    values = None if parameters is None else read_arrays(parameters)
    target = folder or resume
    _announce(announcement(forecast(scenario, engine, until), target))
    with Bar(err, "ticks", quiet=as_json) as bar:
        done = simulate(
            scenario, engine=engine, out=target, parameters=values, until=until, checkpoint=checkpoint, resume=resume,
            progress=bar.ticks,
        )  # fmt: skip
    _print_run(done, target, as_json=as_json)
    if done.manifest["status"] == "interrupted":
        kept = f"{done.summary['ticks']} of {done.summary['horizon']} ticks done"
        where = f"what was recorded of them is in {target}; go on with: {_resume(target)}" if target else ""
        _complain(f"interrupted: {kept}, {f'and {where}' if where else 'measured as above'}")
        raise typer.Exit(exit_code())


def _scenario_of(file: Path | None, settings: list[str] | None, resume: Path | None) -> Scenario:
    """Return the scenario of a file, or of the run that is resumed."""
    from pcsim.run.provenance import scenario_of
    from pcsim.run.result import open_run
    from pcsim.scenario.graph_alone import load_any

    if resume is None:
        if file is None:
            raise wrong((), "name a scenario, or with --resume the folder of a run")
        scenario, about = load_any(file, _overrides(settings))
        _announce(about)
        return scenario
    if file is not None or settings:
        raise wrong((), "--resume goes on with the scenario that the run began with: give no file and no --set")
    return scenario_of(open_run(resume))


def _print_run(done: Run, target: Path | None, *, as_json: bool) -> None:
    from pcsim.view.run_tables import run_tables

    if as_json:
        _print_json({"status": done.manifest["status"], "folder": target, **done.summary})
        return
    out.print(*run_tables(done), sep="\n")
    if target is None:
        _say("nothing of this run is kept: --out FOLDER keeps its trace and its measures")
    else:
        _say(f"run in {target}: pcsim trace {target}, pcsim plot {target}")
        if done.manifest["status"] == "paused":
            _say(f"paused: go on with: {_resume(target)}")


def _resume(target: Path) -> str:
    return shlex.join(["pcsim", "run", "--resume", str(target)])


@app.command(cls=NamesEngines)
@_guarded
def sweep(
    file: File, settings: Set = None, engine: Engine = None,
    folder: Annotated[Path | None, typer.Option("--out", help="default: a new folder runs/NAME")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="keep the rows already there")] = False,
    workers: Annotated[
        int | None, typer.Option(parser=_whole, help="processes; default: one for each core, for long runs")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together/--no-together", help="let small runs of one graph tick as one program")
    ] = True,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run a scenario over the grid of its sweep.

    Prints a table, measured beside theory, and draws a picture of it. Where the scenario says what to record, each run
    is kept with its trace in the folder: runs/0000, runs/0001, ..., named in its row.
    """
    from pcsim.sweep import sweep as run_sweep
    from pcsim.view.progress import Bar

    target = folder or _folder(Path("runs") / file.stem, resume=resume)
    with Bar(err, "runs", quiet=as_json) as bar:
        found = run_sweep(
            file,
            _overrides(settings),
            engine=engine,
            out=target,
            resume=resume,
            workers=workers,
            together=together,
            progress=bar.cells,
            announce=_announce,
        )
    _print_sweep(found, target, as_json=as_json)
    failed = sum(1 for row in found.rows if row.get("error"))
    if failed:
        _complain(f"{failed} of {len(found.rows)} runs failed")
    if not found.complete:
        changes = [f"--set={text}" for text in settings or ()]
        again = shlex.join(["pcsim", "sweep", str(file), *changes, "--out", str(target), "--resume"])
        _complain(f"interrupted: {len(found.rows)} of {found.cells} runs done; go on with: {again}")
        raise typer.Exit(exit_code())
    if failed == len(found.rows):
        raise typer.Exit(1)


def _print_sweep(found: Sweep, target: Path, *, as_json: bool) -> None:
    from pcsim.view.sweep_results import no_picture, sweep_picture

    try:
        pictures = sweep_picture(found, target)
    except RunError:
        _print_rows(found, target, [], as_json=as_json)
        raise
    _print_rows(found, target, pictures, as_json=as_json)
    if not (pictures or as_json):
        _say(no_picture(found))


def _print_rows(found: Sweep, target: Path, pictures: list[Path], *, as_json: bool) -> None:
    from pcsim.view.sweep_results import sweep_data, sweep_notes, sweep_tables

    if as_json:
        _print_json(sweep_data(found, pictures))
        return
    out.print(*sweep_tables(found), sep="\n")
    for note in sweep_notes(found, target, pictures):
        _say(note)


def _folder(path: Path, *, resume: bool) -> Path:
    """Return the first of NAME, NAME-2, NAME-3, ... that is free; to resume, the last that is not."""
    last, number = path, 1
    while (found := path if number == 1 else path.with_name(f"{path.name}-{number}")).exists():
        last, number = found, number + 1
    return last if resume else found


@app.command(cls=NamesEngines)
@_guarded
def train(
    file: Annotated[Path | None, typer.Argument(help="a scenario with a key 'train'; none with --resume")] = None,
    settings: Set = None,
    engine: Engine = None,
    folder: Annotated[Path | None, typer.Option("--out", help="a new folder for the log and the parameters")] = None,
    resume: Annotated[Path | None, typer.Option(help="a training that was interrupted or killed: go on")] = None,
    as_json: Json = False,
) -> None:
    """Train the parameters of a scenario, batch after batch.

    Its key 'train' says with which optimiser, how long, on which samples. A line tells of each epoch.
    """
    from pcsim.train import train as train_
    from pcsim.view.progress import Bar
    from pcsim.view.training_tables import EpochLines, training_tables

    if (file is None) == (resume is None):
        raise wrong((), "name a scenario, or with --resume the folder of a training")
    if resume is not None and settings:
        raise wrong((), "--resume goes on with the scenario that the training began with: give no --set")
    target = folder or resume
    with Bar(err, "steps", quiet=as_json) as bar:
        follow = EpochLines(bar, _announce, quiet=as_json)
        done = train_(file, _overrides(settings), engine=engine, out=target, resume=resume, progress=follow)
    if as_json:
        _print_json({"status": done.manifest["status"], "folder": target, **done.summary})
    else:
        out.print(*training_tables(done), sep="\n")
        where = f"training in {target}: pcsim plot {target}" if target else "nothing is kept: --out FOLDER keeps it"
        _say(where)
    if done.manifest["status"] == "interrupted":
        again = f"; go on with: {shlex.join(['pcsim', 'train', '--resume', str(target)])}" if target else ""
        _complain(f"{done.manifest['reason']}{again}")
        raise typer.Exit(exit_code())


@app.command()
@_guarded
def trace(
    folder: RunFolder,
    tick: Annotated[str | None, typer.Option(help="a tick or a range: 7, 3:9")] = None,
    vertex: Annotated[str | None, typer.Option(help="what this vertex or parameter held")] = None,
    edge: Annotated[str | None, typer.Option(help="what crossed this edge: a->b")] = None,
    kind: Annotated[str | None, typer.Option(help="for an edge: value or error")] = None,
    picture: Annotated[bool, typer.Option("--picture", help="where errors and messages are at a tick")] = False,
    as_json: Json = False,
) -> None:
    """Tell what a vertex held, what crossed an edge, and when.

    A vertex at one tick: what arrived, and what it made of it. Without a question: what was recorded, and when
    errors first arrived.
    """
    from pcsim.run.result import open_run
    from pcsim.view.progress import Bar
    from pcsim.view.trace_answers import answer

    with Bar(err, "ticks computed again", quiet=as_json) as bar:
        plain, tables = answer(open_run(folder), tick, vertex, edge, kind, picture=picture, progress=bar.ticks)
    _print_json(plain) if as_json else out.print(*tables, sep="\n")


@app.command()
@_guarded
def compare(
    first: RunFolder,
    second: RunFolder,
    tick: Annotated[str | None, typer.Option(help="a tick or a range: 7, 3:9")] = None,
    vertex: Annotated[str | None, typer.Option(help="only this vertex or parameter")] = None,
    edge: Annotated[str | None, typer.Option(help="only this edge: a->b")] = None,
    tolerance: Annotated[float, typer.Option(help="absolute or relative difference that counts as equal")] = 0.0,
    as_json: Json = False,
) -> None:
    """Compare what two runs recorded and learnt, tick by tick.

    Exit code 1 says that they differ.
    """
    from pcsim.run.compare_runs import compare as compare_runs
    from pcsim.view.run_tables import comparison_tables

    found = compare_runs(first, second, tick=tick, vertex=vertex, edge=edge, tolerance=tolerance)
    _print_json(found.as_dict()) if as_json else out.print(*comparison_tables(found), sep="\n")
    if not found.equal:
        raise typer.Exit(1)


@app.command()
@_guarded
def plot(
    folder: Annotated[Path, typer.Argument(help="the folder of a run or of a sweep")],
    target: Annotated[Path | None, typer.Option("--out", help="default: the same folder")] = None,
) -> None:
    """Draw the figures of a run or a sweep as PNG and SVG."""
    from pcsim.view.folder_figures import folder_figures

    paths, missing = folder_figures(folder, target or folder)
    for path in paths:
        _say(str(path))
    if missing:
        err.print(missing, soft_wrap=True)


@app.command()
@_guarded
def level(file: Annotated[Path, typer.Argument(help="a graph or a scenario (YAML)")], as_json: Json = False) -> None:
    """Show the levels of a graph, and what levelling it would add."""
    from pcsim.scenario.document_kind import any_graph
    from pcsim.view.scenario_plan import level_tables, levels_of

    found = levels_of(any_graph(file))
    _print_json(found) if as_json else out.print(*level_tables(found), sep="\n")


@app.command(name="learn-delays")
@_guarded
def learn_delays(
    file: File,
    settings: Set = None,
    rounds: Annotated[
        int | None, typer.Option(parser=_whole, help="at most so many; default: as the graph is deep")
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn delays locally, until errors arrive together."""
    from pcsim.analysis.delay_learning import learn_delays as learnt
    from pcsim.view.delay_tables import delay_tables

    found = learnt(file, _overrides(settings), rounds=rounds)
    _print_json(found.plain()) if as_json else out.print(*delay_tables(found), sep="\n")


@app.command()
@_guarded
def synapses(
    file: Annotated[Path, typer.Argument(help="a graph or a scenario (YAML)")],
    vertex: Annotated[str | None, typer.Option(help="a population; default: the only one")] = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """List the synapses of a population and their delays as CSV."""
    from pcsim.view.synapse_listing import csv_of, plain_of, synapses_of

    found = synapses_of(file, vertex, _overrides(settings))
    _print_json(plain_of(found)) if as_json else sys.stdout.writelines(csv_of(found))


@app.command()
@_guarded
def bench(
    family: Annotated[
        list[str] | None, typer.Option("--family", "--zoo", help="a family of benchmark graphs; default: all")
    ] = None,
    engine: Annotated[list[str] | None, typer.Option(help="an engine; default: all that can run")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="fpa | il | zil | bp | fpa-step-1; default: all")] = None,
    size: Annotated[str, typer.Option(help="small | full")] = "small",
    seconds: Annotated[float, typer.Option(help="spent on rounds; building and starting up come on top")] = 60.0,
    folder: Annotated[Path | None, typer.Option("--out", help="default: a new folder runs/bench")] = None,
    baselines: Annotated[
        Path | None,
        typer.Option("--baselines", "--rivals", help="a table BASELINES; default: tests/bench/baselines.py, if here"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how fast engines run here, beside baselines.

    The machine's own rates are measured too. Writes results as JSON and as a page.
    """
    from pcsim.bench.bench import bench as run_bench
    from pcsim.bench.bench import request
    from pcsim.bench.bench_results import plain, write
    from pcsim.bench.html_page import write_page
    from pcsim.bench.terminal import bench_tables
    from pcsim.view.progress import Bar

    asked = request(family or (), engine or (), rule or (), size, seconds, baselines)
    target = folder or _folder(Path("runs") / "bench", resume=False)
    with Bar(err, "parts", quiet=as_json) as bar:
        found = run_bench(asked, lambda done, total, _: bar.ticks(done, total))
    paths = [write(found, target), write_page(found, target)]
    if as_json:
        _print_json(plain(found))
    else:
        out.print(*bench_tables(found), sep="\n")
        _say(f"in {target}: {', '.join(path.name for path in paths)}")
    if found.interrupted:
        raise typer.Exit(exit_code())


@app.command("reproduce")
@_guarded
def reproduce_(
    names: Annotated[list[str] | None, typer.Argument(help="claims of pcsim list claims, or files")] = None,
    every: Annotated[bool, typer.Option("--all", help="every claim that is here")] = False,
    full: Annotated[
        bool, typer.Option("--full/--quick", help="the paper's sizes, or small ones (the default)")
    ] = False,
    folder: Annotated[Path | None, typer.Option("--out", help="default: a new folder runs/claims")] = None,
    as_json: Json = False,
) -> None:
    """Measure what papers claim, and say whether it agrees.

    Prints each claim with the paper's figure, ours, and the reason. The folder keeps everything as JSON and CSV, a
    Markdown table, and a page with both side by side; claims of other calls in it stay. A claim whose data are not
    here counts as not run. Ctrl-C ends the claim in progress and keeps those before it.
    """
    from pcsim.claims.claim_files import counted, keep_claim, plain
    from pcsim.claims.reproduce import reproductions
    from pcsim.view.claims_page import claim_lines, write_claims_page

    if every == bool(names):
        raise wrong((), "name claims (pcsim list claims), or say --all")
    target = folder or _folder(Path("runs") / "claims", resume=False)
    done: list[Any] = []
    kept: dict[str, Any] = {}
    try:
        for one in reproductions(names or (), "full" if full else "quick"):
            done.append(plain(one))
            kept = keep_claim(target, one)
            if not as_json:
                out.print(*claim_lines(one), sep="\n")
    except KeyboardInterrupt:
        _complain(f"interrupted; kept in {target}: {counted(done)}" if done else "interrupted before a claim was done")
        raise typer.Exit(exit_code()) from None
    finally:
        if kept:
            write_claims_page(target, kept)
    _print_json(done) if as_json else _say(
        f"{counted(done)} In {target}: claims.json, claims.csv, claims.md, index.html"
    )
    if any(one["status"] == "failed" for one in done):
        raise typer.Exit(1)


@app.command(cls=NamesEngines)
@_guarded
def cost(
    file: File,
    settings: Set = None,
    rules: Annotated[
        list[str] | None, typer.Option("--rule", help="a rule to compare: zil, or {name: fpa, step_size: 1}; repeat it")
    ] = None,
    ticks: Annotated[int | None, typer.Option(parser=_whole, help="count so many; default: measured by runs")] = None,
    placement: Annotated[str, typer.Option(help="how actors are placed on cores: pcsim list placements")] = "greedy",
    constants: Annotated[
        list[str] | None,
        typer.Option("--constant", help="another value: loihi.units_per_core=64; pcsim list constants"),
    ] = None,
    engine: Engine = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="a folder for the figures and the report as JSON")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what an update costs: work, time, energy.

    Compares backprop with rules, on one processor and many, and on hardware by a model whose assumptions are listed.
    """
    from pcsim.view.cost_command import cost_command
    from pcsim.view.progress import Bar

    scenario = _scenario_of(file, settings, None)
    asked = {"ticks": ticks, "placement": placement, "constants": _overrides(constants), "engine": engine}
    with Bar(err, "rules measured", quiet=as_json) as bar:
        found, printed = cost_command(scenario, rules, {**asked, "progress": bar.ticks}, folder)
    _print_json(found.as_dict()) if as_json else out.print(*printed, sep="\n")


@app.command(cls=NamesEngines)
@_guarded
def locality(
    file: File,
    settings: Set = None,
    vertices: Annotated[list[str] | None, typer.Option("--vertex", help="a vertex that is changed; repeat it")] = None,
    rules: Annotated[list[str] | None, typer.Option("--rule", help="a rule to compare; repeat it")] = None,
    times: Annotated[bool, typer.Option("--times", help="run each rule until it converges, and tell its time")] = False,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Tell what actors read, and what rules need beyond it.

    Changes one vertex after another and follows how far that comes; sets all rules side by side.
    """
    from pcsim.view.locality_command import locality_command

    found, printed = locality_command(file, _overrides(settings), rules, vertices=vertices, engine=engine, times=times)
    _print_json(found.as_dict()) if as_json else out.print(*printed, sep="\n")


@app.command(cls=NamesEngines)
@_guarded
def plasticity(
    file: File,
    settings: Set = None,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Tell which parameter updates are Hebbian.

    Builds each update again from presynaptic value, postsynaptic error and slope, and tells what is summed over sites.
    """
    from pcsim.claims.plasticity_report import plasticity as report
    from pcsim.view.plasticity_tables import plasticity_tables

    found = report(file, _overrides(settings), engine=engine)
    _print_json(found.as_dict()) if as_json else out.print(*plasticity_tables(found), sep="\n")


@app.command()
@_guarded
def advise(file: File, settings: Set = None, as_json: Json = False) -> None:
    """Tell before a run whether it converges, and what to change."""
    from pcsim.claims.advice import advise as advice_of
    from pcsim.scenario.graph_alone import load_any
    from pcsim.view.advice_tables import advice_tables

    scenario, about = load_any(file, _overrides(settings))
    _announce(about)
    found = advice_of(scenario)
    _print_json(found.as_dict()) if as_json else out.print(*advice_tables(found), sep="\n")


@app.command("list", cls=NamesLists)
@_guarded
def list_(
    what: Annotated[str | None, typer.Argument(help="one of the lists")] = None,
    whole: Annotated[bool, typer.Option("--all", help="the whole reference: every key, row and error")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
    as_json: Json = False,
) -> None:
    """List what there is.

    With --all it is the reference: every key of the documents, every row that can be chosen, every error.
    """
    from pcsim.view.listing import listing_tables
    from pcsim.view.reference import as_markdown, reference

    found = reference(what, whole=whole)
    if as_json:
        _print_json([vars(section) for section in found] if whole else found[0].rows)
    elif markdown:
        _write(as_markdown(found))
    else:
        for section in found:
            out.print(*listing_tables(section, titles=whole), sep="\n")


@app.command()
@_guarded
def schema(what: Annotated[str, typer.Argument(help="graph | scenario")]) -> None:
    """Print the JSON Schema of a document, for editors."""
    from pcsim.view.json_schema import json_schema

    _print_json(json_schema(what))


@app.command()
@_guarded
def doctor(as_json: Json = False) -> None:
    """Say which versions and engines are here, and what is not."""
    from pcsim.view.diagnosis import diagnosis, diagnosis_table

    found = diagnosis()
    _print_json(found) if as_json else out.print(diagnosis_table(found))


def main() -> None:
    """Run the command line."""
    # nearly all that a command imports and makes stays: to look through it again and again takes a tenth of its time
    gc.set_threshold(10_000, 20, 50)
    # pydantic would look through all installed packages for plugins: 0.02 s
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    app()
