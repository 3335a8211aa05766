"""The array engine on a device: what can be shown without one.

The device is a stand-in (``device.py``): a namespace as strict as CuPy's that counts every look from the host. On a
machine with CuPy and a device the ``engine`` fixture runs all tests of engines on it.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from device import Device, make_device
from strategies import PER_TICK, VALUE_RULES, Features, make_task, random_document, run_task

import pcsim
from pcsim.engines import open_engine
from pcsim.engines.array.memory import DeviceMemory
from pcsim.engines.array.session import ArraySession
from pcsim.engines.updates_only import updates_only
from pcsim.errors import InputError, RunError
from pcsim.ops.segment_sums import segment_sums
from pcsim.resources import install


@pytest.fixture
def device(monkeypatch, tmp_path) -> Device:
    return make_device(tmp_path, monkeypatch)


def on(device: Device):
    return lambda task: updates_only(task, lambda wanted: ArraySession(wanted, device, DeviceMemory(device)))


def attempt(action):
    try:
        return action()
    except RunError as error:
        return error


def advanced(start, task, *, blocks=1):
    """Play a task in blocks of ticks and return the session and the norms."""
    session = start(task)
    norms = np.zeros((task.ticks, len(task.graph.active)))
    ends = np.linspace(0, task.ticks, blocks + 1).astype(int)
    for first, end in pairwise(ends.tolist()):
        session.advance(first, end, last=end == task.ticks, squares=norms[first:end])
    return session, np.sqrt(norms)


def close(a, b, dtype):
    tolerance = {"float64": 1e-12, "float32": 2e-5}[dtype]
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=1.0))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * largest)


def assert_same(got, wanted, dtype):
    for what in PER_TICK:
        for name, series in wanted.seen[what].items():
            close(got.seen[what][name], series, dtype)
    for name in wanted.learnt:
        close(got.learnt[name], wanted.learnt[name], dtype)
        close(got.parameters[name], wanted.parameters[name], dtype)
    assert got.fired == wanted.fired


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", [*VALUE_RULES, "alm"])
def test_stand_in_agrees_with_numpy_tick_by_tick(row, dtype, device):
    for seed in range(10):
        document = random_document(seed, Features(size=8, precision=seed % 2 == 1, dead_ends=seed % 5 == 0))
        form = ("none", "delay", "identity")[seed % 3]
        task = make_task(document, row, form, dtype, seed, 1 + seed % 3, ticks=8, away=0.01, losses="mixed")
        got, wanted = (attempt(partial(run_task, start, task)) for start in (on(device), open_engine("numpy")))
        if isinstance(wanted, RunError):
            assert str(got) == str(wanted)
        else:
            assert_same(got, wanted, dtype)


@pytest.mark.parametrize("row", [*VALUE_RULES, "alm"])
def test_stand_in_advances_blocks_of_ticks_as_numpy_does(row, device):
    for seed in range(6):
        form = ("delay", "identity", "none")[seed % 3]
        task = make_task(random_document(seed, Features(size=8)), row, form, ticks=9, away=0.01, losses="mixed")
        task = replace(task, exact_dynamics=seed % 2 == 0)
        got, wanted = (
            attempt(partial(advanced, start, task, blocks=2)) for start in (on(device), open_engine("numpy"))
        )
        if isinstance(wanted, RunError):
            assert str(got) == str(wanted)
            continue
        close(got[1], wanted[1], "float64")
        for name, lesson in wanted[0].updates().items():
            close(got[0].updates()[name], lesson, "float64")
        assert got[0].fired() == wanted[0].fired()


@pytest.mark.parametrize("row", [*(name for name, rule in VALUE_RULES.items() if not rule.fires.waits), "alm"])
def test_no_tick_of_a_block_waits_for_the_device_or_brings_anything_over(row, device):
    """A second run of more ticks costs the host no more looks, copies or index arrays than one of few."""
    seen = []
    for seed in range(8):
        form = ("delay", "identity", "none")[seed % 3]
        document = random_document(seed, Features(size=8, precision=seed % 2 == 1))
        task = make_task(document, row, form, ticks=40, away=0.01, losses="mixed")
        session = ArraySession(task, device, DeviceMemory(device))
        norms = np.zeros((40, len(task.graph.active)))
        if isinstance(attempt(partial(session.advance, 0, 40, last=True, squares=norms)), RunError) or session.frozen():
            continue  # what is not finite is looked for tick by tick
        counts = []
        for ticks in (20, 40):
            session.restart()
            device.seen.clear()
            session.advance(0, ticks, last=False, squares=norms[:ticks])
            counts.append(dict(device.seen))
        assert counts[0] == counts[1]
        assert "host index" not in counts[1]
        seen.append(counts[1]["look"])
    assert seen
    assert max(seen) <= 1 + len(task.graph.active)


def test_what_ends_within_a_block_is_named_as_numpy_names_it(device):
    """The block is run again from the start, tick by tick; what had been frozen has to be found so, too."""
    named = 0
    for seed in range(6):
        task = make_task(random_document(seed, Features(size=8)), "il", "none", "float32", seed, ticks=200, away=1e6)
        got, wanted = (
            attempt(partial(advanced, start, task, blocks=3)) for start in (on(device), open_engine("numpy"))
        )
        assert isinstance(got, RunError) == isinstance(wanted, RunError)
        if isinstance(wanted, RunError):
            assert str(got) == str(wanted)
            named += 1
    assert named


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_segments_add_up_in_their_order(dtype, index, device):
    """Bit for bit what a loop gives, with weights and without, over segments that may be empty."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(7, 5)).astype(dtype), rng.normal(size=20).astype(dtype)
    places, starts = rng.integers(0, 7, 20).astype(index), np.array([0, 0, 3, 4, 20, 20], np.int64)
    for factors in (None, weight):
        wanted = np.zeros((5, 5), dtype)
        for segment, (first, end) in enumerate(pairwise(starts)):
            for term in range(first, end):
                wanted[segment] += x[places[term]] if factors is None else factors[term] * x[places[term]]
        at = [device.asarray(part) for part in (places, starts[:-1], starts[1:], x)]
        got = segment_sums(device, *at, None if factors is None else device.asarray(factors))
        np.testing.assert_array_equal(device.asnumpy(got), wanted)


def test_rows_for_one_place_add_up(device):
    rng = np.random.default_rng(1)
    array, more, places = rng.normal(size=(4, 3, 2)), rng.normal(size=(9, 3, 2)), rng.integers(0, 4, 9)
    wanted, got = array.copy(), device.asarray(array)
    np.add.at(wanted, places, more)
    DeviceMemory(device).add_at(got, places, device.asarray(more))
    np.testing.assert_allclose(device.asnumpy(got), wanted, rtol=1e-14)


def test_index_arrays_are_brought_once_and_let_go(device):
    memory, rows = DeviceMemory(device), np.array([3, 1])
    assert memory.at(rows) is memory.at(rows)
    assert device.seen["brought"] == 1
    del rows
    assert not memory.copies


def test_a_run_that_does_not_fit_says_so_before_it_allocates(monkeypatch, tmp_path):
    device = make_device(tmp_path, monkeypatch, free=3 << 10)
    monkeypatch.setattr(device, "zeros", lambda *_: pytest.fail("something was allocated"))
    task = make_task(random_document(1, Features(size=8)), "il", batch=64)
    needs = ArraySession(task, np).state.program.memory(64, 8)
    with pytest.raises(RunError, match=r"the device has 0\.0 MiB free of 1,048,576\.0 MiB, .* at least") as error:
        ArraySession(task, device, DeviceMemory(device))
    assert f"{(sum(needs.values()) + needs['parameters']) / 2**20:,.1f} MiB (values" in str(error.value)


@pytest.mark.parametrize(("name", "library", "extra"), [("cupy", "CuPy", "cuda"), ("numba", "Numba", "numba")])
def test_a_library_that_is_missing_is_one_clear_line(name, library, extra):
    code = f"import sys; sys.modules[{name!r}] = None; from pcsim.cli import app; app()"
    command = [sys.executable, "-c", code, "run", "scenarios/first-steps.yaml", "--engine", name]
    got = subprocess.run(command, capture_output=True, text=True, check=False)
    assert got.returncode == 2
    assert f"engine '{name}' needs {library}: {install(extra)}" in " ".join(got.stderr.split())


def test_what_is_told_to_be_installed_can_be(tmp_path, monkeypatch):
    """There is no pcsim on an index: from a checkout it is the checkout, elsewhere the libraries themselves."""
    root = Path(pcsim.__file__).parents[1]
    monkeypatch.chdir(root)
    assert install("numba") == "pip install '.[numba]'"
    monkeypatch.chdir(tmp_path)
    assert install("numba") == f"pip install '{root}[numba]'"
    monkeypatch.setattr("pcsim.resources.__file__", str(tmp_path / "pcsim/resources.py"))
    monkeypatch.setattr("pcsim.resources._requirements", lambda: ["numpy>=1.26", 'numba>=0.61; extra == "numba"'])
    assert install("numba") == "pip install 'numba>=0.61'"


@pytest.mark.parametrize("why", ["driver", "count"])
def test_a_device_that_is_missing_is_one_clear_line(why, monkeypatch):
    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if why == "driver":
            raise CUDARuntimeError("no driver")
        return 0

    cupy = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(sys.modules, "pcsim.engines.array.gpu", raising=False)
    with pytest.raises(InputError, match=r"^engine 'cupy' needs a CUDA device: (no driver|there is none)$"):
        open_engine("cupy")
