"""Runs and sweeps that are ended at any moment, by any signal or a full disk: every folder opens, and nothing is lost.

No process is left after 5 seconds, and what is resumed is what it would have been, bit for bit. A round of each kind is
part of the suite; ``pytest -m bench tests/test_kills.py`` does fifty.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pcsim
from pcsim.run.checkpoint import CHECKPOINT, load_checkpoint
from pcsim.run.result import MANIFEST, SWEEP, TRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed in /proc")

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ONE, MANY = range(1), range(100, 150)
SECONDS = 5.0

CHAIN: dict[str, Any] = {
    "graph": {
        "args": {"edges": 3},
        "vertices": {
            "x0": {"op": "input", "shape": [3]},
            "x$l": {
                "for": {"l": "1..$edges"}, "op": "affine", "units": 3, "activation": "tanh",
                "inputs": [{"from": "x$(l-1)", "delay": 1}],
            },
        },
        "outputs": ["x$edges"],
    },
    "inputs": {"x0": {"normal": [0, 1]}}, "targets": {"x3": 0.5}, "batch": 2, "measure": ["energy"],
    "record": [{"what": ["value", "error", "message"]}], "rule": {"name": "il", "step_size": 0.1, "ticks": 1500},
}  # fmt: skip
RUN = CHAIN
SWEPT = {**CHAIN, "rule": {"name": "il", "step_size": 0.1, "ticks": 700}, "sweep": {
    "cases": [{"label": f"{tick} ticks", "rule.ticks": tick} for tick in (300, 400, 500, 600)],
}}  # fmt: skip


@cache
def whole_run() -> pcsim.Run:
    return pcsim.simulate(RUN, engine="numpy")


@cache
def whole_sweep() -> Any:
    return pcsim.sweep(SWEPT, engine="numpy")


def processes_of(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, _group, own = file.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has ended meanwhile
            continue
        if int(own) == session and state != "Z":
            found.append(int(file.parent.name))
    return found


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in a session of its own; what still runs in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, largest_file: int | None = None) -> subprocess.Popen[str]:
        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [sys.executable, "-B", "-m", "pcsim", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes, text=True, start_new_session=True, preexec_fn=prepare))
        return started[-1]

    yield begin
    for process in started:
        with process:
            for pid in processes_of(process.pid):
                os.kill(pid, signal.SIGKILL)


def written(path: Path) -> int | None:
    """Return when a file was written; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def end(process: subprocess.Popen[str], chance: random.Random, file: Path) -> None:
    """Send a signal at a moment of chance: from its beginning on, or from when it has written what can be lost."""
    late, before = chance.random() < 0.8, written(file)
    while late and written(file) in (None, before) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(chance.uniform(0.0, 0.8))
    sent = chance.choice(SIGNALS if late else SIGNALS[:2])  # Python itself answers Ctrl-C before it has begun
    process.send_signal(sent)
    ended(process)
    assert process.returncode in (0, -sent, 128 + sent)


def ended(process: subprocess.Popen[str]) -> str:
    """Wait until no process of a command is left, and return what it complained of."""
    until = time.monotonic() + SECONDS
    stderr = process.communicate(timeout=60 if process.poll() is None else SECONDS)[1]
    while (left := processes_of(process.pid)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left
    assert "Traceback" not in stderr
    return stderr


def opens(folder: Path) -> None:
    """Check that the folder of a run opens, with every number it has announced."""
    if (folder / MANIFEST).exists():
        run = pcsim.open_run(folder)
        if (folder / TRACE / "zarr.json").exists():
            for node in run.trace.subtree:
                node.load()
    if (folder / CHECKPOINT).exists():
        assert load_checkpoint(folder / CHECKPOINT).state.tick > 0


def same_run(got: pcsim.Run, wanted: pcsim.Run) -> None:
    assert got.summary == wanted.summary
    assert got.trace.identical(wanted.trace)


def resume_run(folder: Path) -> None:
    """Go on to the end, or begin anew where there was no checkpoint yet."""
    again = {"resume": folder, "out": folder} if (folder / CHECKPOINT).exists() else {}
    same_run(pcsim.simulate(RUN, engine="numpy", **again), whole_run())
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def scenario_in(folder: Path, document: dict[str, Any]) -> Path:
    """Return the file of a scenario in a new folder."""
    folder.mkdir(parents=True)
    file = folder / "s.json"
    file.write_text(json.dumps(document))
    return file


def killed_run(folder: Path, start: Callable[..., subprocess.Popen[str]], chance: random.Random) -> None:
    """Run, be killed, go on, be killed again, and go on to the end."""
    file, out = scenario_in(folder, RUN), folder / "run"
    end(start("run", file, "--out", out, "--checkpoint", "100", "--engine", "numpy"), chance, out / CHECKPOINT)
    opens(out)
    for _ in range(2):
        if (out / CHECKPOINT).exists() and pcsim.open_run(out).manifest["status"] != "done":
            beside = folder / ".run.resuming" / CHECKPOINT
            end(start("run", "--resume", out, "--checkpoint", "100"), chance, beside)
            opens(out)
    resume_run(out)


def killed_sweep(folder: Path, start: Callable[..., subprocess.Popen[str]], chance: random.Random) -> None:
    """Sweep in two processes, be killed, go on, be killed again, and go on to the end."""
    file, out = scenario_in(folder, SWEPT), folder / "sweep"
    for _ in range(2):
        arguments = ["sweep", file, "--out", out, "--workers", "2", "--no-together", "--engine", "numpy", "--resume"]
        end(start(*arguments), chance, out / "sweep.jsonl")
        if (out / SWEEP).exists():
            opened = pcsim.open_sweep(out)
            for row in opened.rows:
                opens(out / row["run"])
    resume_sweep(file, out)


def resume_sweep(file: Path, out: Path) -> None:
    found, wanted = pcsim.sweep(file, engine="numpy", out=out, resume=True), whole_sweep()
    assert found.complete
    for number, (row, other) in enumerate(zip(found.rows, wanted.rows, strict=True)):
        assert {**row, "seconds": 0, "run": ""} == {**other, "seconds": 0, "run": ""}
        assert found.run(number).trace.identical(wanted.run(number).trace)


def filled_run(folder: Path, start: Callable[..., subprocess.Popen[str]], chance: random.Random) -> None:
    """Run where no file may be larger than so many bytes, as where a disk is full; go on where there is room."""
    file, out = scenario_in(folder, RUN), folder / "run"
    arguments = ["run", file, "--out", out, "--checkpoint", "100", "--engine", "numpy", "--json"]
    process = start(*arguments, largest_file=chance.choice((500, 8_000, 20_000, 60_000, 100_000)))
    complaint = ended(process)
    assert process.returncode == (1 if complaint else 0)
    assert len(complaint.splitlines()) <= 1
    opens(out)
    resume_run(out)


def filled_sweep(folder: Path, start: Callable[..., subprocess.Popen[str]], chance: random.Random) -> None:
    """Likewise, in two processes."""
    file, out = scenario_in(folder, SWEPT), folder / "sweep"
    arguments = ["sweep", file, "--out", out, "--workers", "2", "--no-together", "--engine", "numpy", "--json"]
    process = start(*arguments, largest_file=chance.choice((500, 2_000, 8_000, 20_000, 60_000)))
    complaint = ended(process)
    assert process.returncode == (1 if complaint else 0)
    resume_sweep(file, out)


@pytest.mark.parametrize("kind", [killed_run, killed_sweep, filled_run, filled_sweep])
def test_nothing_is_lost_whatever_ends_it(tmp_path, start, kind):
    for number in ONE:
        kind(tmp_path / str(number), start, random.Random(number))


@pytest.mark.bench
@pytest.mark.parametrize("kind", [killed_run, killed_sweep, filled_run, filled_sweep])
def test_nothing_is_lost_in_fifty_rounds(tmp_path, start, kind):
    for number in MANY:
        kind(tmp_path / str(number), start, random.Random(number))
