"""Training: a scenario in, parameters and a log out.

    Scenario --samples--> batches --session--> updates --optimiser--> parameters, batch after batch

- samples: ``learn.feed``; session: ``learn.sessions``, begun again with every batch; optimiser: ``pcsim.optimisers``;
- the loop is ``learn.training_loop``, what it goes on from ``learn.training_state``; what comes of it is
  ``learn.training``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.analysis.exactness import known_beforehand
from pcsim.errors import InputError, RunError, nearest, wrong
from pcsim.interrupts import interrupts
from pcsim.learn.alignment import followers
from pcsim.learn.feed import GivenSamples, Reader, order_of, overlaps, read_meanwhile, splits
from pcsim.learn.inference import check_evaluation
from pcsim.learn.metrics import METRICS
from pcsim.learn.precision_descent import first_logarithms, wrong_learning
from pcsim.learn.sessions import engine_for
from pcsim.learn.training import FORMAT, Training, read_manifest
from pcsim.learn.training_loop import Progress, TrainingLoop
from pcsim.learn.training_state import CHECKPOINT, first_state, load_state
from pcsim.optimisers import OPTIMISERS
from pcsim.run.provenance import now, provenance
from pcsim.run.result import new_folder
from pcsim.run.span import digest_of
from pcsim.scenario.reader import Source, load
from pcsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcsim.learn.feed import Order
    from pcsim.learn.training_state import TrainingState
    from pcsim.rules import Rule
    from pcsim.scenario.train_document import EvaluationEntry, TrainEntry


def train(
    source: Scenario | Source | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    engine: str | None = None,
    out: str | Path | None = None,
    resume: str | Path | Training | None = None,
    inputs: Mapping[str, Any] | None = None,
    targets: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Training:
    """Train the parameters of a scenario as its key ``train`` says.

    Parameters
    ----------
    source, overrides : a Scenario, or a path or mapping that ``pcsim.load`` takes, and for these {dotted key: value};
        not needed where a training from a folder goes on
    engine : one of ``ENGINES``, or ``auto``; default: that of the training that goes on, else the scenario's
    out : a new folder, or the one that is resumed: manifest, log, parameters, and what training can go on from
    resume : a training that was interrupted or killed, or its folder: it goes on as if it had not been, bit for bit
    inputs, targets : {source or output: (samples, *shape)}, samples in place of the scenario's, all of one length
    progress : called after each batch with a ``Done``

    Returns
    -------
    Training
        Also after Ctrl-C, which ends the batch in progress: ``training.manifest["status"]`` is ``interrupted``.

    Raises InputError if something asked for is wrong; RunError if a value becomes NaN or infinite: what was reached
    before that batch is kept in ``out``.
    """
    scenario = _scenario(source, overrides, resume)
    entry = _entry(scenario)
    found = splits(_reader(scenario, inputs, targets), entry)
    order = order_of(scenario, entry, len(found["train"]))
    name = engine_for(scenario, engine or _engine_before(resume), order.steps * entry.epochs)
    with read_meanwhile(found["train"]):
        state = _begun(scenario, resume)
        _check_initial(scenario, order)
    keeper = _Keeper(scenario, name, state, _folder(out, resume))
    loop = TrainingLoop(scenario, entry, found, order, name, state, keeper.keep, progress)
    keeper.begin(loop)
    with np.errstate(all="ignore"), interrupts() as asked:
        try:
            status, reason = loop.run(asked)
            tested = loop.judge("test") if "test" in found and status == "done" else {}
        except RunError as error:
            keeper.end(loop, "failed", str(error), {})
            raise RunError("; ".join([str(error), *_known_beforehand(scenario)])) from error
    return keeper.end(loop, status, reason, tested)


@dataclass
class _Keeper:
    """Writes down what training has come to, where it has a folder."""

    scenario: Scenario
    engine: str
    state: TrainingState
    folder: Path | None
    clock: float = field(default_factory=time.perf_counter)

    def keep(self) -> None:
        """Write what training can go on from."""
        if self.folder is not None:
            self.state.save(self.folder)

    def begin(self, loop: TrainingLoop) -> None:
        """Say in the folder that training is running."""
        if self.folder is not None:
            self.end(loop, "running", "not ended", {})

    def end(self, loop: TrainingLoop, status: str, reason: str, tested: Mapping[str, float]) -> Training:
        """Return what has come of training, and write it down."""
        summary = _summary(loop, tested, time.perf_counter() - self.clock)
        made = Training(_manifest(self.scenario, self.engine, status, reason, summary), self.state)
        if self.folder is not None:
            made.save(self.folder)
        return made


def _scenario(source: Any, overrides: Any, resume: Any) -> Scenario:
    """Return the scenario that is trained: the one that is given, or that of the training that goes on."""
    if source is not None:
        return source if isinstance(source, Scenario) else load(source, overrides)
    if resume is None:
        raise wrong((), "name a scenario, or with resume= the training that goes on")
    manifest = resume.manifest if isinstance(resume, Training) else read_manifest(resume)
    folder = Path(manifest.get("source", {}).get("folder") or "")
    return load(manifest["scenario"], folder=folder if folder.is_dir() else None)


def _engine_before(resume: Any) -> str | None:
    """Return what a training that goes on was run by: another engine would have other last digits."""
    if resume is None:
        return None
    return str((resume.manifest if isinstance(resume, Training) else read_manifest(resume))["engine"])


def _entry(scenario: Scenario) -> TrainEntry:
    entry = scenario.document.train
    if entry is None:
        hint = "such as train: {optimiser: {name: sgd, rate: 0.1}, epochs: 5}"
        raise scenario.located(wrong(("train",), f"the scenario does not say how it is trained; add {hint}"))
    if scenario.document.stop is not None:
        raise scenario.located(wrong(("stop",), "ends a single run; in training say how many ticks under 'rule'"))
    if scenario.document.initial == "given":
        raise scenario.located(wrong(("initial",), "'given' needs values: name a {file: state.npz}, or say zeros"))
    if entry.stop is not None and entry.stop.metric not in (known := _columns(entry)):
        what = f"the log has no {entry.stop.metric!r}{nearest(entry.stop.metric, known)}"
        raise scenario.located(wrong(("train", "stop", "metric"), what))
    if entry.step_size is not None and (why := _why_no_spectrum(scenario.rule)):
        raise scenario.located(wrong(("train", "step_size"), f"rule {scenario.rule.name!r} needs none: {why}"))
    for key, split in (("validate", entry.validate_), ("test", entry.test)):
        if split is not None:
            _check_evaluation(scenario, key, split.by)
    if entry.precision is not None and (problems := list(wrong_learning(scenario, entry.precision))):
        raise scenario.located(InputError(problems))
    if scenario.rule.fires.applies and (unused := sorted(entry.model_fields_set & STEPPING)):
        what = f"rule {scenario.rule.name!r} moves its parameters at every tick by 'learning_rate' of the rule"
        raise scenario.located(wrong(("train", unused[0]), f"{what}: leave the {unused[0]} out"))
    if scenario.rule.fires.applies and (learnt := list(followers(scenario.levelled))):
        what = (
            f"{learnt[0]!r} takes the steps of an optimiser, and rule {scenario.rule.name!r} moves at every tick itself"
        )
        raise scenario.located(wrong(("rule",), f"feedback {what}: use random feedback, or another rule"))
    return entry


def _check_evaluation(scenario: Scenario, key: str, by: EvaluationEntry) -> None:
    """Raise InputError, with its place, where samples cannot be judged as asked."""
    try:
        check_evaluation(scenario, by)
    except InputError as error:
        raise scenario.located(error.map(lambda problem: problem.under("train", key, "by"))) from None


STEPPING = {"optimiser", "schedule", "warm_up", "reduction", "clip"}
"""What says how parameters follow an update, which a rule that learns at every tick decides itself."""


def _why_no_spectrum(rule: Rule) -> str:
    """Return why the spectrum of the free energy says nothing of a rule's steps; empty where it does."""
    if not rule.moving:
        return "its predictions are fixed"
    if rule.exact_step is not None:
        return "it is defined at one step size"
    return "" if rule.dynamics == "values" else f"its vertices keep {rule.dynamics} beside values"


def _columns(entry: TrainEntry) -> list[str]:
    """Return what a training can be judged by after an epoch."""
    return [*METRICS, *(f"validation_{name}" for name in METRICS if entry.validate_ is not None)]


def _reader(scenario: Scenario, inputs: Any, targets: Any) -> Reader:
    """Return what has the samples; raises InputError where those of a call do not fit."""
    if inputs is None and targets is None:
        reader: Reader = scenario.sample_reader()
        return reader
    if inputs is None or targets is None:
        raise wrong("inputs" if inputs is None else "targets", "samples have both inputs and targets: give both")
    lengths = {len(array) for arrays in (inputs, targets) for array in arrays.values()}
    if len(lengths) != 1:
        raise wrong("inputs", f"expected as many samples of each source and output, got {sorted(lengths)}")
    wide = scenario.sized(lengths.pop()).with_data(inputs, targets)
    return GivenSamples(wide.inputs(), wide.targets())


def _begun(scenario: Scenario, resume: Any) -> TrainingState:
    """Return the state that training begins with, or goes on from."""
    optimiser, digest = OPTIMISERS[_entry(scenario).optimiser.name], digest_of(scenario)
    killed_at_once = isinstance(resume, str | Path) and not (Path(resume) / CHECKPOINT).exists()
    if resume is None or (killed_at_once and read_manifest(resume)):
        return first_state(scenario.parameters(), scenario.buffers(), optimiser, digest, first_logarithms(scenario))
    state = resume.state if isinstance(resume, Training) else load_state(resume)
    if state.digest != digest:
        raise wrong("resume", "this training is of another scenario, or began with other parameters")
    return state


def _check_initial(scenario: Scenario, order: Order) -> None:
    """Raise InputError, before the first batch, where values at tick 0 do not fit the last and smaller one."""
    if scenario.document.initial != "feedforward":
        for size in order.sizes:
            scenario.sized(size).initial()


def _folder(out: str | Path | None, resume: Any) -> Path | None:
    if out is None:
        return None
    own = isinstance(resume, str | Path) and Path(out).resolve() == Path(resume).resolve()
    return Path(out) if own else new_folder(out)


def _summary(loop: TrainingLoop, tested: Mapping[str, float], seconds: float) -> dict[str, Any]:
    log = loop.state.log
    last = {name: column[-1] for name, column in log.epochs.columns.items() if not name.endswith(("second", "seconds"))}
    return {
        "rule": loop.scenario.rule.name,
        "optimiser": loop.entry.optimiser.name,
        "steps": loop.state.step,
        "horizon": loop.steps,
        "epochs": len(log.epochs),
        "samples": loop.order.samples,
        **{name: value for name, value in last.items() if value == value},
        **loop.precisions_now(),
        **{f"test_{name}": value for name, value in tested.items()},
        "warnings": [*overlaps(loop.splits), *_known_beforehand(loop.scenario)],
        "seconds": round(seconds, 3),
    }


def _known_beforehand(scenario: Scenario) -> list[str]:
    """Return why the rule does not follow backprop here, where it could."""
    return known_beforehand(scenario.levelled, scenario.rule, scenario.ticks - 1)


def _manifest(scenario: Scenario, engine: str, status: str, reason: str, summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "pcsim": FORMAT,
        "title": scenario.document.title,
        "status": status,
        "reason": reason,
        "engine": engine,
        "seed": scenario.document.seed,
        "dtype": scenario.document.dtype,
        "digest": scenario.digest,
        "parameters_digest": scenario.parameters_digest,
        **provenance(scenario),
        "written": now(),
        "summary": summary,
        "scenario": scenario.plain,
    }
