"""Questions to a trace: what a vertex held, what crossed an edge, when errors arrived, where two differ."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from pcsim.errors import InputError
from pcsim.trace import Channel, TraceWriter
from pcsim.trace.compare import compare
from pcsim.trace.entries import first_arrival, open_trace, recorded, series
from pcsim.trace.queries import Ticks, ask, overview, parse_ticks

FLOAT = np.dtype(float)
ARRIVES = {"h1": 4, "h2": 2, "y": 0, "dead": 99}


def errors(tick, names, width=3):
    alive = np.array([tick >= ARRIVES[name] for name in names], float)
    return alive[:, None, None] * (tick + 1.0) * np.ones((len(names), 2, width))


def trace(folder=None, ticks=10, every=1, wrong_from=None, without=(), until=None):
    now = SimpleNamespace(tick=0)
    unit = ("vertex", "batch", "axis_0")

    def seen(names, width):
        bump = wrong_from is not None and now.tick >= wrong_from
        return errors(now.tick, names, width) * (1.5 if bump else 1)

    rows = [
        Channel("error/3", "error", unit, (2, 2, 3), FLOAT, lambda: seen(["h1", "h2"], 3), ("h1", "h2")),
        Channel("error/1", "error", unit, (2, 2, 1), FLOAT, lambda: seen(["y", "dead"], 1), ("y", "dead")),
        Channel("series", "norm", ("vertex",), (2,), FLOAT, lambda: np.arange(2.0), ("h1", "extra")),
        Channel(
            "update/2", "update", ("parameter", "axis_0"), (1, 2), FLOAT, lambda: np.full((1, 2), now.tick), ("W",)
        ),
        Channel("series", "energy", (), (), FLOAT, lambda: np.asarray(0.5 * now.tick)),
        *(
            Channel(
                f"message/{kind}/1",
                "message",
                ("edge", "batch", "axis_0"),
                (2, 1, 1),
                FLOAT,
                lambda sign=sign: np.full((2, 1, 1), sign * now.tick),
                ("h1->h2", "h1->h2#1"),
            )
            for kind, sign in {"value": 1, "error": -1}.items()
        ),
    ]
    kept = [Channel(**{**vars(row), "every": every}) for row in rows if row.path not in without]
    with TraceWriter(folder, kept, ticks=ticks) as writer:
        for tick in range(ticks if until is None else until):
            now.tick = tick
            writer.record(tick)
        writer.static("learnt/2", "learnt", ("parameter", "axis_0"), np.ones((1, 2)), ["h1.weight"])
    return open_trace(writer.store)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return trace(tmp_path_factory.mktemp("run") / "trace.zarr")


def test_a_series_has_the_axes_of_its_vertex(tree):
    found = series(tree, "error", "h2")
    assert found.dims == ("tick", "batch", "axis_0")
    np.testing.assert_array_equal(found.sel(tick=7).values, np.full((2, 3), 8.0))
    assert series(tree, "message", "h1->h2#1", "error").sel(tick=3).item() == -3
    assert series(tree, "energy").sel(tick=4).item() == 2
    assert series(tree, "norm", "extra").sel(tick=4).item() == 1
    assert series(tree, "learnt", "h1.weight").values.tolist() == [1, 1]


def test_opening_a_file_reads_no_array(tree):
    assert not tree["error/3/error"].variable._in_memory


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("eror",), "unknown quantity 'eror'; did you mean 'error'?"),
        (
            ("value", "h1"),
            "no value was recorded; recorded: energy, error, error message, learnt, norm, update, value message",
        ),
        (("value", "h1"), "add 'record: [{what: [value], vertices: all}]' to the scenario"),
        (("error", "h22"), "error of 'h22' was not recorded; did you mean 'h2'?"),
        (("error", "h3"), "add 'record: [{what: [error], vertices: all}]'"),
        (("error",), "error of which vertex?; known: dead, h1, h2, y"),
        (("message", "h1->h2"), "a message is of kind 'value' or 'error', not None"),
        (
            ("message", "h2->h1", "error"),
            "error message of 'h2->h1' was not recorded; did you mean 'h1->h2'?",
        ),
    ],
)
def test_what_was_not_recorded_is_said(tree, asked, words):
    with pytest.raises(InputError) as caught:
        series(tree, *asked)
    assert words in str(caught.value)


def test_a_folder_that_is_no_trace_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a trace; expected a folder with zarr\.json"):
        open_trace(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_was_recorded_is_listed(tree):
    found = recorded(tree)
    assert set(found) == {"error", "norm", "energy", "value message", "error message", "learnt", "update"}
    assert sorted(found["error"]["names"]) == ["dead", "h1", "h2", "y"]
    assert found["error message"]["names"] == ["h1->h2", "h1->h2#1"]
    assert found["error"]["ticks"] == {"first": 0, "last": 9, "every": 1, "count": 10}
    assert found["learnt"]["ticks"] is None
    assert recorded(trace(every=4))["energy"]["ticks"] == {"first": 0, "last": 8, "every": 4, "count": 3}
    assert recorded(trace(ticks=0))["energy"]["ticks"]["count"] == 0


def test_first_arrival_is_the_first_tick_off_zero(tree, monkeypatch):
    expected = {"h1": 4, "h2": 2, "y": 0, "dead": None}
    assert {name: tick for name, tick in first_arrival(tree).items() if name != "extra"} == expected
    monkeypatch.setattr("pcsim.trace.entries.BLOCK", 20)
    assert {name: tick for name, tick in first_arrival(tree).items() if name != "extra"} == expected


def arriving(norm_every, errors_every, ticks=30, until=None):
    """A trace of h1, whose error leaves zero at tick 4, and of h2, at tick 2, of which no norm is recorded."""
    now = SimpleNamespace(tick=0)
    rows = [
        Channel("error/s", "error", ("vertex", "batch"), (2, 1), FLOAT,
                lambda: errors(now.tick, ["h1", "h2"])[:, :1, 0], ("h1", "h2"), every=errors_every),
        Channel("series", "norm", ("vertex",), (1,), FLOAT,
                lambda: errors(now.tick, ["h1"])[:, 0, 0], ("h1",), every=norm_every),
    ]  # fmt: skip
    with TraceWriter(None, rows, ticks=ticks) as writer:
        for tick in range(ticks if until is None else until):
            now.tick = tick
            writer.record(tick)
    return open_trace(writer.store)


@pytest.mark.parametrize(
    ("rhythms", "arrivals", "note"),
    [
        ((1, 10), {"h1": 4, "h2": 10}, "to the recorded ticks, every 1 or 10"),
        ((7, 3), {"h1": 6, "h2": 3}, "to the recorded ticks, every 3"),
        ((7, 7), {"h1": 7, "h2": 7}, "to the recorded ticks, every 7"),
        ((1, 1), {"h1": 4, "h2": 2}, ""),
        ((40, 40), {"h1": None, "h2": None}, "to the one tick that was recorded"),
    ],
)
def test_first_arrival_is_read_where_the_rhythm_is_finest(rhythms, arrivals, note):
    found = overview(arriving(*rhythms))
    assert found["first_arrival"] == arrivals
    assert found["first_arrival_note"] == note
    assert overview(arriving(*rhythms), {"h1": 4})["first_arrival"] == {"h1": 4}
    assert overview(arriving(*rhythms), {"h1": 4})["first_arrival_note"] == ""


def test_a_trace_that_ended_before_its_first_tick():
    tree = trace(until=0)
    for asked in ({"vertex": "h1"}, {"vertex": "h1", "ticks": "3"}, {"ticks": "0:"}, {"edge": "h1->h2", "ticks": "7"}):
        with pytest.raises(InputError, match=r"no tick was recorded$"):
            ask(tree, **asked)
    assert overview(tree)["first_arrival_note"] == "no tick was recorded"


def test_a_parameter_is_asked_for_like_a_vertex(tree):
    rows = ask(tree, vertex="W", ticks="3")
    assert [(row.what, row.name, row.values) for row in rows] == [("update", "W", [3, 3])]
    assert ask(tree, vertex="W", kind="update", ticks="3") == rows


def test_names_are_told_once(tree):
    with pytest.raises(InputError) as caught:
        ask(tree, kind="fish")
    assert "; known: energy, error, norm, update, value" in str(caught.value)


def test_first_arrival_falls_back_on_norms():
    assert first_arrival(trace(without=("error/1", "error/3"))) == {"h1": None, "extra": 0}
    assert first_arrival(trace(without=("error/1", "error/3", "series"))) == {}


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("7", Ticks(7, 7)),
        ("3:9", Ticks(3, 9)),
        (":9", Ticks(None, 9)),
        ("3:", Ticks(3)),
        (" 3 : 9 ", Ticks(3, 9)),
        (":", Ticks()),
    ],
)
def test_ticks_are_read(text, ticks):
    assert parse_ticks(text) == ticks


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2:3", "3.5", "١"])
def test_no_ticks_are_refused(text):
    with pytest.raises(InputError, match=r"expected a tick or a range of ticks: 7, 3:9, :9 or 3:"):
        parse_ticks(text)


def test_backward_ticks_are_refused():
    with pytest.raises(InputError, match="ends before it begins; expected 3:9"):
        parse_ticks("9:3")


def test_what_a_vertex_held(tree):
    rows = ask(tree, vertex="h2", ticks="7")
    assert [row.as_dict() for row in rows] == [
        {"tick": 7, "what": "error", "name": "h2", "kind": None, "min": 8.0, "max": 8.0,
         "norm": pytest.approx(8 * 6**0.5), "values": [[8.0] * 3] * 2}
    ]  # fmt: skip


def test_what_crossed_an_edge(tree):
    rows = ask(tree, edge="h1->h2", kind="error", ticks="3:9")
    assert [(row.tick, row.kind, row.values) for row in rows] == [(t, "error", [[-t]]) for t in range(3, 10)]
    assert {row.kind for row in ask(tree, edge="h1->h2", ticks="3")} == {"value", "error"}


@given(first=st.integers(0, 12), last=st.none() | st.integers(0, 30))
def test_a_range_includes_both_ends(tree, first, last):
    expected = [tick for tick in range(10) if first <= tick <= (99 if last is None else last)]
    if expected:
        assert [row.tick for row in ask(tree, vertex="y", ticks=Ticks(first, last))] == expected
    else:
        with pytest.raises(InputError, match="recorded: ticks 0 to 9"):
            ask(tree, vertex="y", ticks=Ticks(first, last))


def test_everything_of_a_tick(tree):
    rows = ask(tree, ticks="5")
    assert {(row.what, row.name) for row in rows} >= {
        ("energy", None),
        ("error", "h1"),
        ("message", "h1->h2#1"),
    }
    assert len(rows) == 4 + 2 + 1 + 4 + 1


def test_large_arrays_show_no_values(monkeypatch, tree):
    monkeypatch.setattr("pcsim.trace.queries.FEW", 5)
    assert ask(tree, vertex="h2", ticks="7")[0].values is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"vertex": "h22"}, "nothing was recorded of vertex 'h22'; did you mean 'h2'?"),
        ({"edge": "h1->y"}, "nothing was recorded of edge 'h1->y'; did you mean 'h1->h2'?"),
        (
            {"vertex": "h2", "kind": "value"},
            "nothing of kind 'value' was recorded of vertex 'h2'; to record it, add",
        ),
        ({"kind": "eror"}, "nothing of kind 'eror' was recorded; did you mean 'error'?"),
        ({"ticks": "99999999999999999999:"}, "no tick from 99999999999999999999 to the last was recorded"),
    ],
)
def test_questions_without_an_answer(tree, asked, words):
    with pytest.raises(InputError) as caught:
        ask(tree, **asked)
    assert words in str(caught.value)


def test_without_a_question(tree):
    found = overview(tree)
    assert found["first_arrival"]["h1"] == 4
    assert "energy" in found["recorded"]


def test_a_trace_does_not_differ_from_itself(tree):
    rows = compare(tree, trace())
    assert all(row.equal and row.tick is None and not row.note for row in rows)
    assert {row.name for row in rows if row.what == "error"} == {"h1", "h2", "y", "dead"}


def test_where_two_traces_differ(monkeypatch, tree):
    monkeypatch.setattr("pcsim.trace.entries.BLOCK", 20)
    rows = {(row.what, row.name): row for row in compare(tree, trace(wrong_from=3))}
    assert rows["error", "h1"].tick == 4
    assert rows["error", "h2"].tick == 3
    assert rows["error", "dead"].equal
    assert rows["error", "h2"].absolute == 5
    assert rows["error", "h2"].relative == pytest.approx(1 / 3)
    assert rows["energy", None].equal


def test_what_is_only_in_one(tree):
    rows = {(row.what, row.name): row for row in compare(tree, trace(without=("error/3",)))}
    assert rows["error", "h1"].note == "only in the first"
    assert rows["error", "h1"].as_dict()["absolute"] is None
    back = {(row.what, row.name): row for row in compare(trace(without=("error/3",)), tree)}
    assert back["error", "h1"].note == "only in the second"


def test_only_common_ticks_are_compared(tree):
    assert all(row.equal for row in compare(tree, trace(ticks=6, every=2)))
    notes = {row.note for row in compare(tree, trace(ticks=0)) if row.what != "learnt"}
    assert notes == {"no common tick"}


def one(value):
    channel = Channel("value/s", "value", ("vertex", "axis_0"), value.shape, value.dtype, lambda: value, ("a",))
    with TraceWriter(None, [channel], ticks=1) as writer:
        writer.record(0)
    return open_trace(writer.store)


@pytest.mark.parametrize(
    ("first", "second", "absolute"),
    [
        (np.nan, np.nan, 0), (np.nan, 1.0, np.inf), (np.inf, np.inf, 0), (np.inf, 1.0, np.inf),
        (-0.0, 0.0, 0), (1e308, -1e308, np.inf),
    ],
)  # fmt: skip
def test_numbers_at_the_edge_are_compared(first, second, absolute):
    (row,) = compare(one(np.array([[first]])), one(np.array([[second]])))
    assert row.absolute == absolute
    assert row.tick == (None if absolute == 0 else 0)


def test_shapes_that_differ_are_said():
    (row,) = compare(one(np.ones((1, 2))), one(np.ones((1, 3))))
    assert row.note == "shapes (2,) and (3,)"
    assert not row.equal


def test_numbers_beyond_the_format_are_shown():
    (row,) = ask(one(np.array([[np.inf, 1e200]])))
    assert row.max == np.inf
    assert row.norm == np.inf


def test_plain_xarray_sees_the_same(tree):
    assert isinstance(tree, xr.DataTree)
    assert tree["error/3"].ds.sel(vertex="h1", tick=slice(4, 5)).error.shape == (2, 2, 3)
