"""Ctrl-C: the tick in progress is ended, what was recorded is kept, and it is said; the second one ends at once."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
FIRST = ROOT / "scenarios/first-steps.yaml"
SKIP = ROOT / "scenarios/skip-connection.yaml"


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A process started in the background may ignore Ctrl-C; these tests, and what they start, do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def pcsim_process():
    """Return a function that starts the command line in a session of its own; what still runs at the end is killed."""
    started = []

    def start(*arguments: str, python: Sequence[str] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, *python, "-m", "pcsim", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with process:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def interrupt_at(tick: int, times: int = 1) -> Callable[..., None]:
    """Return a progress function that sends this process Ctrl-C when a tick (or a cell) is done."""

    def progress(done: int, *_: Any) -> None:
        if done == tick:
            for _number in range(times):
                signal.raise_signal(signal.SIGINT)

    return progress


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize("out", [True, False])
def test_an_interrupted_run_is_a_run(tmp_path, out):
    before = signal.getsignal(signal.SIGINT)
    run = pcsim.simulate(FIRST, {"rule.ticks": 1000}, out=tmp_path / "run" if out else None, progress=interrupt_at(6))
    assert signal.getsignal(signal.SIGINT) is before
    assert run.manifest["status"] == "interrupted"
    # the question is asked in the next tick, which is whole
    assert run.summary["ticks"] == 7
    assert run.summary["stop_reason"] == "interrupted after tick 6"
    assert run.series("value", "h1").sizes["tick"] == 7
    whole = pcsim.simulate(FIRST, {"rule.ticks": 7})
    assert run.series("value", "h1").identical(whole.series("value", "h1"))
    assert all((run.updates[name] == update).all() for name, update in whole.updates.items())
    if out:
        assert pcsim.open_run(tmp_path / "run").manifest == json.loads(json.dumps(run.manifest))


def test_the_second_interrupt_ends_at_once_and_says_so(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pcsim.simulate(FIRST, {"rule.ticks": 1000}, out=tmp_path / "run", progress=interrupt_at(6, times=2))
    assert signal.getsignal(signal.SIGINT) is before
    run = pcsim.open_run(tmp_path / "run")
    assert run.manifest["status"] == "interrupted"
    assert run.summary["stop_reason"].startswith("ended at once")
    assert run.series("value", "h1").sizes["tick"] == run.summary["ticks"] == 6


VERBOSE = ("-X", "importtime")
"""Lets Python name every module that it has imported."""

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
"""What ends a command, and what it then exits with."""


@pytest.mark.parametrize(("sent", "code"), SIGNALS)
def test_a_signal_on_the_command_line(tmp_path, pcsim_process, sent, code):
    arguments = [
        "run",
        str(FIRST),
        "--set",
        "rule.ticks=100000000",
        "--set",
        "record=[{what: value}]",
        "--set",
        "measure=[energy]",
    ]
    process = pcsim_process(*arguments, "--out", str(tmp_path / "run"))
    until((tmp_path / "run/trace.zarr/value/1/value/zarr.json").exists, process)
    time.sleep(0.5)
    process.send_signal(sent)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    run = pcsim.open_run(tmp_path / "run")
    assert run.manifest["status"] == "interrupted"
    ticks = run.summary["ticks"]
    assert run.series("value", "h1").sizes["tick"] == ticks > 0
    assert f"interrupted: {ticks} of 100000000 ticks done" in stderr
    assert str(tmp_path / "run") in stderr
    assert f"interrupted after tick {ticks - 1}" in stdout
    assert "Traceback" not in stderr


def test_an_interrupted_sweep_keeps_its_rows_and_goes_on(tmp_path, monkeypatch):
    sweep = importlib.import_module("pcsim.sweep")
    found = pcsim.sweep(SKIP, out=tmp_path, progress=interrupt_at(2))
    assert (len(found.rows), found.cells, found.complete) == (2, 3, False)
    asked: list[Any] = []
    simulate = sweep.simulate
    monkeypatch.setattr(sweep, "simulate", lambda *args, **kwargs: asked.append(args[1]) or simulate(*args, **kwargs))
    found = pcsim.sweep(SKIP, out=tmp_path, resume=True)
    assert found.complete
    assert [overrides["level"] for overrides in asked] == ["delay"]
    assert [row["level"] for row in found.rows] == ["none", "identity", "delay"]


def test_an_interrupt_inside_a_cell_drops_only_that_cell(tmp_path, monkeypatch):
    sweep = importlib.import_module("pcsim.sweep")
    simulate, calls = sweep.simulate, iter(range(10))
    stop = interrupt_at(1)
    monkeypatch.setattr(
        sweep, "simulate", lambda *a, **k: simulate(*a, **{**k, "progress": stop if next(calls) == 1 else None})
    )
    found = pcsim.sweep(SKIP, out=tmp_path)
    assert len(found.rows) == 1
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("sent", "code"), SIGNALS)
@pytest.mark.parametrize("after", [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_a_signal_in_the_first_moments_ends_it_in_a_line(pcsim_process, sent, code, after):
    """While modules are imported, arguments read, the first run begun: from when signals are ours."""
    process = pcsim_process("run", str(FIRST), "--set", "rule.ticks=100000000", "--set", "measure=[]", python=VERBOSE)
    while "pcsim.interrupts" not in (line := process.stderr.readline()):
        assert line
    time.sleep(after)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    said = [line for line in stderr.splitlines() if not line.startswith("import time:")]
    assert "Traceback" not in stderr
    assert process.returncode == code
    assert said[-1].startswith(("ended at once", "interrupted: "))


def children(process: subprocess.Popen[str]) -> set[int]:
    """Return the processes that a process has started, and those that these have."""
    found, new = set(), {process.pid}
    while new:
        listed = [Path(f"/proc/{pid}/task/{pid}/children") for pid in new]
        new = {int(pid) for file in listed if file.exists() for pid in file.read_text().split()}
        found |= new
    return found


def running(pids: set[int]) -> set[int]:
    """Return those that have not ended; one that nobody has asked for its end has."""
    files = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return {pid for pid, file in files.items() if file.exists() and ") Z " not in file.read_text()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are listed in /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_sweep(tmp_path, pcsim_process, sent):
    """The signal reaches the first process alone; the others end within 5 seconds."""
    axes = "sweep={rule.ticks: [100000000, 100000001, 100000002]}"
    process = pcsim_process("sweep", str(FIRST), "--set", axes, "--out", str(tmp_path), "--resume", "--workers", "3")
    until(lambda: len(children(process)) >= 3, process)  # two workers, and what keeps track of resources
    time.sleep(0.5)
    started = children(process)
    process.send_signal(sent)
    process.wait(timeout=30)
    ends = time.monotonic() + 5
    while running(started) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not running(started)


@pytest.mark.parametrize(("sent", "code"), SIGNALS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_in_a_sweep_says_how_to_go_on(tmp_path, pcsim_process, workers, sent, code):
    """One quick cell, and three that take for ever."""
    cases = "[{label: quick}, {rule.ticks: 10000000}, {rule.ticks: 10000001}, {rule.ticks: 10000002}]"
    process = pcsim_process(
        "sweep",
        str(FIRST),
        "--set",
        f"sweep={{cases: {cases}}}",
        "--set",
        "measure=[divergence]",
        "--out",
        str(tmp_path / "all of it"),
        "--workers",
        str(workers),
    )
    rows = tmp_path / "all of it/sweep.jsonl"
    until(rows.exists, process)
    time.sleep(0.3)
    os.killpg(process.pid, sent)  # as a terminal does: to all of them
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert len(rows.read_text().splitlines()) == 1
    assert "interrupted: 1 of 4 runs done; go on with: pcsim sweep" in stderr
    assert f"--out '{tmp_path}/all of it' --resume" in stderr
    assert "--set='sweep={" in stderr or "'--set=sweep={" in stderr
    assert "Traceback" not in stderr
    assert "quick" in stdout


def test_ctrl_c_before_the_first_tick_is_no_traceback(monkeypatch):
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("pcsim.simulate"), "simulate", interrupted)
    result = CliRunner().invoke(app, ["run", str(FIRST)])
    assert result.exit_code == 130
    assert result.stderr.strip() == "ended at once"


def test_ctrl_c_while_a_kernel_is_compiled_ends_the_run_when_it_is_compiled(tmp_path, monkeypatch):
    """Raised in the midst, it may be lost: LLVM calls Python back, and what is raised there is only printed."""
    numba = pytest.importorskip("numba", reason="engine 'numba' needs Numba")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    from pcsim.engines.jit.kernels.compiled import TYPES, intrinsic, jit

    @intrinsic
    def one(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return context.get_constant(TYPES.int64, 1)

        return TYPES.int64(), generate

    @jit
    def ones() -> int:
        return one()

    with pytest.raises(KeyboardInterrupt):
        ones()
    assert len(ones.signatures) == 1
    assert ones() == 1
