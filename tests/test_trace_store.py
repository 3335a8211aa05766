"""Traces on disk and in memory: what is recorded comes back, whatever ends the run."""

import errno
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pcsim.errors import InputError, RunError
from pcsim.trace import Channel, TraceWriter, forecast, shape_key
from pcsim.trace.columns import CHUNK, chunk_rows, chunk_shape
from pcsim.trace.entries import open_trace
from pcsim.trace.memory_trace import MemoryTrace
from pcsim.trace.rescue import ROOM
from pcsim.trace.store import Folder, Target

FLOAT = np.dtype(float)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def numbers(shape, tick):
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) + 1.0) / (tick + 3)


def clocked(path, variable, dims, shape, now, **more):
    return Channel(path, variable, dims, shape, FLOAT, lambda: numbers(shape, now.tick), **more)


def error_channel(now, names=("h1", "h2"), shape=(3,), **more):
    dims = ("vertex", "batch", *(f"axis_{n}" for n in range(len(shape))))
    full = (len(names), 2, *shape)
    return clocked(f"error/{shape_key(shape)}", "error", dims, full, now, names=tuple(names), **more)


def opened(writer):
    """Open what a writer has written: on disk by xarray alone."""
    return (
        open_trace(writer.store)
        if writer.store.__class__ is MemoryTrace
        else xr.open_datatree(writer.store, engine="zarr")
    )


def play(writer, now, ticks):
    for tick in ticks:
        now.tick = tick
        writer.record(tick)


@settings(deadline=None, max_examples=25)
@given(
    shapes=st.lists(SHAPES, max_size=3, unique=True),
    every=st.integers(1, 4),
    slow=st.integers(1, 5),
    ticks=st.integers(0, 40),
    stop=st.integers(0, 40),
    buffer=st.sampled_from([1, 300, 4000, 2**20]),
    flushes=st.sets(st.integers(0, 40), max_size=3),
    on_disk=st.booleans(),
)
def test_what_is_recorded_comes_back(tmp_path_factory, shapes, every, slow, ticks, stop, buffer, flushes, on_disk):
    now, done = SimpleNamespace(tick=0), min(ticks, stop)
    channels = [error_channel(now, shape=shape, every=every) for shape in shapes]
    channels.append(clocked("series", "energy", (), (), now, every=slow))
    folder = tmp_path_factory.mktemp("trace") / "t" if on_disk else None
    with TraceWriter(folder, channels, ticks=ticks, buffer_bytes=buffer) as writer:
        for tick in range(done):
            play(writer, now, [tick])
            if tick in flushes:
                writer.flush()
                held = opened(writer)["series/tick"].values
                assert held.tolist() == list(range(0, tick + 1, slow))
    tree = opened(writer)
    for channel in channels:
        found = tree[f"{channel.path}/{channel.variable}"]
        expected = [numbers(channel.shape, tick) for tick in range(0, done, channel.every)]
        assert found.dims == ("tick", *channel.dims)
        assert found.coords["tick"].values.tolist() == list(range(0, done, channel.every))
        np.testing.assert_array_equal(found.values, np.reshape(expected, (len(expected), *channel.shape)))
    if not on_disk:
        copy = tmp_path_factory.mktemp("trace") / "copy"
        writer.store.write(copy)
        assert xr.open_datatree(copy, engine="zarr").identical(tree)


@pytest.mark.parametrize("on_disk", [True, False])
def test_nothing_recorded_opens(tmp_path, on_disk):
    with TraceWriter(tmp_path / "t" if on_disk else None, [], ticks=3, attrs={"title": "empty"}) as writer:
        play(writer, SimpleNamespace(), range(3))
    assert opened(writer).attrs == {"title": "empty"}


def test_xarray_alone_opens_every_node(tmp_path):
    now = SimpleNamespace(tick=0)
    level = {"level": ("vertex", np.array([1, 0])), "op": ("vertex", np.array(["tanh", "größe"]))}
    norm = clocked("series", "norm", ("vertex",), (2,), now, names=("h1", "h2"), coords=level)
    message = clocked(
        "message/error/3", "message", ("edge", "batch", "axis_0"), (2, 1, 3), now, names=("a->b", "a->b#1")
    )
    with TraceWriter(tmp_path / "t", [error_channel(now), norm, message], ticks=5, attrs={"title": "x"}) as writer:
        play(writer, now, range(5))
        writer.static("learnt/2x2", "learnt", ("parameter", "axis_0", "axis_1"), np.ones((1, 2, 2)), ["h1.weight"])
        writer.close({"reason": "horizon"})
    tree = xr.open_datatree(tmp_path / "t", engine="zarr")
    assert tree.attrs == {"title": "x", "reason": "horizon"}
    assert set(tree["series"].coords) == {"tick", "vertex", "level", "op"}
    assert tree["series"].coords["op"].values.tolist() == ["tanh", "größe"]
    assert xr.open_zarr(tmp_path / "t", group="message/error/3").sel(edge="a->b#1", tick=4).message.shape == (
        1,
        3,
    )
    assert xr.open_dataset(tmp_path / "t" / "error" / "3", engine="zarr").sizes["tick"] == 5
    assert tree["learnt/2x2/learnt"].sel(parameter="h1.weight").values.tolist() == [[1, 1], [1, 1]]


def test_float32_integers_and_minus_zero_keep_their_bits(tmp_path):
    pieces = {
        "float32": np.float32([-0.0, np.nan, np.inf]),
        "int64": np.array([1, -2, 3]),
        "float64": np.full(3, -0.0),
    }
    channels = [Channel("x", name, ("axis_0",), (3,), a.dtype, lambda a=a: a) for name, a in pieces.items()]
    with TraceWriter(tmp_path / "t", channels, ticks=2) as writer:
        play(writer, SimpleNamespace(), range(2))
    found = xr.open_datatree(tmp_path / "t", engine="zarr")["x"]
    for name, expected in pieces.items():
        assert found[name].dtype == expected.dtype
        assert found[name].values[1].tobytes() == expected.tobytes()


def test_memory_stays_bounded(tmp_path):
    record = np.random.default_rng(0).standard_normal((2, 64, 1024))
    channel = Channel("value/1024", "value", ("vertex", "batch", "axis_0"), record.shape, FLOAT, lambda: record)
    writer = TraceWriter(tmp_path / "t", [channel], ticks=200, buffer_bytes=4 * 2**20)
    tracemalloc.start()
    play(writer, SimpleNamespace(), range(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    writer.close()
    assert forecast([channel], 200)["total"] == 200 * 2**20
    assert peak < 24 * 2**20
    assert xr.open_datatree(tmp_path / "t", engine="zarr")["value/1024/value"].sizes["tick"] == 200


@given(
    sizes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 7)), max_size=8),
    budget=st.integers(1, 2**24),
    ticks=st.integers(0, 10**6),
)
def test_buffers_keep_to_their_budget_or_hold_one_record(sizes, budget, ticks):
    channels = [Channel("x", "y", ("a",), (size,), FLOAT, lambda: np.empty(0), every=every) for size, every in sizes]
    rows = chunk_rows(channels, ticks, budget)
    total = sum(channel.nbytes * n for channel, n in zip(channels, rows, strict=True))
    assert total <= max(budget, sum(channel.nbytes for channel in channels) + budget // 4)
    assert all(1 <= n <= max(1, channel.records(ticks)) for channel, n in zip(channels, rows, strict=True))


def test_no_chunk_is_written_twice_where_it_matters(tmp_path, monkeypatch):
    now, writes = SimpleNamespace(tick=0), []
    channel = error_channel(now, shape=(1024,))
    with TraceWriter(tmp_path / "t", [channel], ticks=1000, buffer_bytes=2**20) as writer:
        write = Target.write

        def counted(target, start, rows):
            writes.append((target.name, start))
            write(target, start, rows)

        monkeypatch.setattr(Target, "write", counted)
        play(writer, now, range(1000))
    writes = [start for name, start in writes if name == "error/1024/error"]
    assert len(writes) == len(set(writes)) > 10


def test_a_large_record_is_split_into_chunks():
    channel = Channel("x", "y", ("vertex", "axis_0"), (1000, 4096), FLOAT, lambda: np.empty(0))
    shape = chunk_shape(1, channel)
    assert shape == (1, 128, 4096)
    assert np.prod(shape) * 8 <= CHUNK


def test_a_hundred_thousand_vertices_are_few_files(tmp_path):
    names = tuple(f"v{n}" for n in range(100_000))
    now = SimpleNamespace(tick=0)
    began = time.perf_counter()
    channel = clocked("value/scalar", "value", ("vertex", "batch"), (len(names), 1), now, names=names)
    with TraceWriter(tmp_path / "t", [channel], ticks=20) as writer:
        play(writer, now, range(20))
    tree = xr.open_datatree(tmp_path / "t", engine="zarr")
    np.testing.assert_array_equal(
        tree["value/scalar/value"].sel(vertex="v77777").values[:, 0],
        [77778 / (tick + 3) for tick in range(20)],
    )
    assert time.perf_counter() - began < 10
    assert sum(path.is_file() for path in (tmp_path / "t").rglob("*")) < 30


KILLED = """
import os, sys, pathlib
import numpy as np
from pcsim.trace import Channel, TraceWriter
names = ("a", "b")
read = lambda: np.full((2, 1000), t)
one = Channel("error/1000", "error", ("vertex", "axis_0"), (2, 1000), np.dtype(float), read, names)
two = Channel("series", "energy", (), (), np.dtype(float), lambda: np.asarray(t), every=3)
writer = TraceWriter(pathlib.Path(sys.argv[1]), [one, two], ticks=10**6, buffer_bytes=2**18)
for t in range(int(sys.argv[2])):
    writer.record(t)
if sys.argv[3] == "flush":
    writer.flush()
    print(t, flush=True)
    writer.record(t + 1)
else:
    folder, left = writer._trace.documents.folder, [int(sys.argv[3])]
    put = folder.put
    def dying(key, text):
        if not left[0]:
            print(max(node.kept for node in writer._nodes) - 1, flush=True)
            os._exit(9)
        left[0] -= 1
        put(key, text)
    folder.put = dying
    t += 1
    writer.record(t)
    writer.flush()
os._exit(9)
"""


@pytest.mark.parametrize("when", ["flush", "0", "1", "3", "5", "6"])
def test_a_killed_run_holds_every_flushed_tick(tmp_path, when):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "t", "100", when],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    last = int(done.stdout)
    tree = xr.open_datatree(tmp_path / "t", engine="zarr")
    error = tree["error/1000/error"].sel(vertex="b").values
    np.testing.assert_array_equal(error[:, 999], np.arange(last + 1))
    np.testing.assert_array_equal(tree["series/energy"].values, np.arange(0, last + 1, 3))


def test_an_interrupt_while_reading_drops_the_unfinished_row(tmp_path):
    now = SimpleNamespace(tick=0)

    def interrupted():
        if now.tick == 7:
            raise KeyboardInterrupt
        return np.asarray(float(now.tick))

    second = Channel("error/3", "late", (), (), FLOAT, interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        TraceWriter(tmp_path / "t", [error_channel(now), second], ticks=20) as writer,
    ):
        play(writer, now, range(20))
    tree = xr.open_datatree(tmp_path / "t", engine="zarr")
    assert tree["error/3/late"].values.tolist() == list(range(7))
    assert tree["error/3/error"].sizes["tick"] == 7


def test_an_interrupt_while_flushing_loses_nothing(tmp_path, monkeypatch):
    now = SimpleNamespace(tick=0)
    writer = TraceWriter(tmp_path / "t", [error_channel(now)], ticks=20)
    play(writer, now, range(9))
    folder = writer._trace.documents.folder
    with monkeypatch.context() as patch:
        patch.setattr(folder, "put", lambda key, text: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    writer.close()
    assert xr.open_datatree(tmp_path / "t", engine="zarr")["error/3/error"].sizes["tick"] == 9


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["chunks", "documents"])
def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch, where):
    now = SimpleNamespace(tick=0)
    writer = TraceWriter(tmp_path / "t", [error_channel(now)], ticks=20)
    play(writer, now, range(5))
    writer.flush()
    target = "pcsim.trace.store.Target.write" if where == "chunks" else "pathlib.Path.open"
    play(writer, now, range(5, 9))
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(RunError) as caught:
            writer.flush()
    words = "No space left on device; what was written until tick 4 is kept"
    expected = f"cannot write trace to {tmp_path / 't'}: {words}"
    assert str(caught.value) == expected
    writer.close()
    assert xr.open_datatree(tmp_path / "t", engine="zarr")["error/3/error"].sizes["tick"] == 5
    assert not list(tmp_path.rglob("*.partial"))


@pytest.fixture
def disk(monkeypatch):
    """A disk with room for so many bytes, once it is told how many."""
    place = SimpleNamespace(folder=None, size=0)
    put = Folder.put

    def bounded(self, key, content):
        held = sum(path.stat().st_size for path in place.folder.rglob("*") if path.is_file())
        if held + memoryview(content).nbytes > place.size:
            full_disk()
        put(self, key, content)

    monkeypatch.setattr(Folder, "put", bounded)
    return place


@pytest.mark.parametrize("room", [40, 100, 340, 600, 1000, 1800])
def test_on_a_full_disk_as_many_ticks_are_kept_as_fit(tmp_path, disk, room):
    """A record is 2 KiB of noise, a chunk holds some 170; lengths are told at the first chunk and twice a second."""
    disk.folder, disk.size = tmp_path, 1024 * room
    now, noise = SimpleNamespace(tick=0), np.random.default_rng(0).standard_normal((1000, 256))
    wide = Channel("value/256", "value", ("axis_0",), (256,), FLOAT, lambda: noise[now.tick])
    slow = clocked("series", "energy", (), (), now, every=3)
    writer = TraceWriter(tmp_path / "t", [wide, slow], ticks=1000, buffer_bytes=2**20)
    with pytest.raises(RunError, match=r"No space left on device; what was written until tick (\d+) is kept") as caught:
        play(writer, now, range(1000))
    writer.close()
    tree = xr.open_datatree(tmp_path / "t", engine="zarr")
    found = tree["value/256/value"].values
    np.testing.assert_array_equal(found, noise[: len(found)])
    energies = tree["series/energy"].values
    np.testing.assert_array_equal(energies, [numbers((), tick) for tick in range(0, 3 * len(energies), 3)])
    assert 3 * len(energies) - 2 <= len(found) <= 3 * len(energies)
    assert f"until tick {len(found) - 1} is kept" in str(caught.value)
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    documents = sum(size for path, size in sizes.items() if path.name == "zarr.json")
    others = sum(size for path, size in sizes.items() if "value/c" not in str(path.parent.parent))
    # one more, and there would be no room to tell of it and to write how the run ended
    assert 2048 * (len(found) + 1) > disk.size - others - 2 * documents - ROOM


def test_a_full_disk_at_the_start_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.open", full_disk)
    with pytest.raises(RunError, match="No space left on device; nothing was written"):
        TraceWriter(tmp_path / "t", [error_channel(SimpleNamespace(tick=0))], ticks=20)


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="is not empty; expected a new folder"):
        TraceWriter(tmp_path, [], ticks=1)
    with pytest.raises(RunError, match=r"cannot write trace to .*: .*exists"):
        TraceWriter(tmp_path / "mine.txt", [], ticks=1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"every": 2}, "error/3 is recorded every 1 and 2 ticks; expected one"),
        ({}, "error/3 is recorded twice"),
        ({"names": ("h1", "h3"), "variable": "other"}, "two lists of names along vertex"),
    ],
)
def test_channels_of_a_node_must_go_together(more, words):
    now = SimpleNamespace(tick=0)
    given = {"names": ("h1", "h2"), "variable": "error", **more}
    other = clocked("error/3", dims=("vertex", "axis_0"), shape=(2, 3), now=now, **given)
    with pytest.raises(InputError, match=words):
        TraceWriter(None, [error_channel(now), other], ticks=1)


def test_a_tick_beyond_the_horizon_is_refused():
    now = SimpleNamespace(tick=0)
    writer = TraceWriter(None, [error_channel(now)], ticks=3)
    with pytest.raises(ValueError, match="tick 3 is beyond the horizon"):
        play(writer, now, range(4))


def test_recording_nothing_costs_nothing():
    writer = TraceWriter(None, [], ticks=10**5)
    began = time.perf_counter()
    for tick in range(10**5):
        writer.record(tick)
    assert time.perf_counter() - began < 0.5


def test_importing_is_quick():
    code = "import sys, numpy, pcsim.trace; print([m for m in ('zarr', 'xarray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_forecast_counts_what_is_recorded():
    now = SimpleNamespace(tick=0)
    channels = [error_channel(now), clocked("series", "energy", (), (), now, every=3)]
    assert forecast(channels, 10) == {"error/3": 10 * 2 * 2 * 3 * 8, "series": 4 * 8, "total": 992}
    assert Path(channels[0].path).name == shape_key((3,))


def test_many_ticks_at_once_are_what_one_at_a_time_would_be(tmp_path):
    now = SimpleNamespace(tick=0)
    channel = clocked("series", "norm", ("vertex",), (2,), now, names=("h1", "h2"))
    with TraceWriter(tmp_path / "t", [channel], ticks=5000, buffer_bytes=2**12) as writer:
        play(writer, now, range(3))
        writer.extend("series", np.arange(3, 4999), {"norm": np.stack([numbers((2,), t) for t in range(3, 4999)])})
        play(writer, now, [4999])
        with pytest.raises(ValueError, match="beyond the horizon"):
            writer.extend("series", np.arange(5000, 5001), {"norm": np.ones((1, 2))})
    found = xr.open_datatree(tmp_path / "t", engine="zarr")["series"]
    assert found["tick"].values.tolist() == list(range(5000))
    np.testing.assert_array_equal(found["norm"].values, np.stack([numbers((2,), t) for t in range(5000)]))
