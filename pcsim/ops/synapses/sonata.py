"""Edges of SONATA files: HDF5 datasets, groups of attributes, and the table of edge types.

What an edge has comes from its group; what the group lacks, from its type. As simulators of point neurons read the
format, an edge that stands for several synapses (``nsyns``) has its weight times their number. Whatever else would
change a simulation is refused or stands among the notes, by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, nearest, slip_of, wrong
from pcsim.ops.attributes import MAX_ELEMENTS
from pcsim.ops.synapses.edge_types import EdgeTypes, read_edge_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

Column = np.ndarray
Reading = tuple[dict[str, Column], tuple[str, ...]]
"""Columns of numbers by name, and what to know of the rest of the file."""

_MEANING = {"delay": "delay", "syn_weight": "weight", "weight": "weight", "nsyns": "nsyns"}
"""What attributes of edges mean here."""

_IDS = ("source_node_id", "target_node_id", "edge_type_id", "edge_group_id", "edge_group_index")
_INDICES = {"source_to_target": "source_node_id", "target_to_source": "target_node_id"}

_Group = tuple[Column, "Mapping[str, Any]"]
"""Which edges are in a group, and its attributes."""

_INFORMATIVE = frozenset({
    "@library", "distance_range", "edge_id", "population", "sec_id", "sec_x", "source_query", "target_query",
    "target_sections",
})  # fmt: skip
"""Attributes that say where a synapse is, or how it was made: of no consequence for neurons that are points."""

_WITHOUT_EFFECT = {"model_template": ("static_synapse", "nest:static_synapse"), "weight_function": ("wmax",)}
"""Values of attributes that ask for nothing but a weight and a delay."""


@dataclass(frozen=True)
class _Population:
    """One edge population of a file.

    Attributes
    ----------
    edges : its HDF5 group
    count : edges
    ids : {dataset: (count,)}, those of ``_IDS`` that there are
    ignore : attributes that are left out on purpose
    types : the table of edge types, where there is one
    """

    path: Path
    name: str
    edges: Any
    count: int
    ids: Mapping[str, Column]
    ignore: frozenset[str]
    types: EdgeTypes | None

    def wrong(self, where: str, message: str) -> InputError:
        """Return an error of the file; ``where`` is a path within the population."""
        place = "/".join(("", "edges", self.name, *filter(None, [where])))
        return wrong("file", f"{self.path}: {place}: {message}")

    @cached_property
    def kinds(self) -> tuple[list[int], Column]:
        """The types that edges have, and which of them each edge has."""
        assert self.types is not None
        if "edge_type_id" not in self.ids:
            raise self.wrong("", "there is no edge_type_id, so a table of types says nothing of its edges")
        kinds, which = np.unique(self.ids["edge_type_id"], return_inverse=True)
        for kind in kinds.tolist():
            if kind not in self.types.rows:
                raise wrong("types", f"{self.types.path} has no edge type {kind}, which edges of {self.name} have")
        return kinds.tolist(), which


def read_population(path: Path, file: Any, given: Mapping[str, Any], folder: Path) -> Reading:
    """Return the edges of a population of an open HDF5 file.

    Parameters
    ----------
    given : ``edges``, the population where there are several; ``types``, the table of edge types; ``ignore``;
        ``shape``, (neurons after, neurons before)
    folder : the table is sought here

    Raises
    ------
    InputError
        Where the file contradicts itself, lacks what its types would give, or exceeds the sizes of the populations.
    """
    name = _name(path, file, given.get("edges"))
    edges = file["edges"][name]
    ids = _ids(path, name, edges)
    table = given.get("types")
    types = None if table is None else read_edge_types(folder / table, name)
    ignore = frozenset(given.get("ignore", ()))
    found = _Population(path, name, edges, len(ids["source_node_id"]), ids, ignore, types)
    _check_nodes(found, file, dict(zip(_IDS, reversed(given["shape"]), strict=False)))
    _check_indices(found, dict(zip(_INDICES, reversed(given["shape"]), strict=True)))
    groups = {number: (rows, _group(found, number, rows)) for number, rows in _rows_by_group(found)}
    _check_names(found, [group for _, group in groups.values()])
    columns = {meaning: _property(found, meaning, groups) for meaning in ("delay", "weight", "nsyns")}
    _check_types_are_known(found, columns)
    notes = (*_notes(found, [group for _, group in groups.values()]), *_shared_rows(found, groups))
    ends = {"pre": ids["source_node_id"], "post": ids["target_node_id"]}
    return ends | _weighed(found, {key: column for key, column in columns.items() if column is not None}), notes


def _name(path: Path, file: Any, name: str | None) -> str:
    populations = list(file["edges"]) if "edges" in file else []
    if name is None and len(populations) == 1:
        return str(populations[0])
    if name not in populations:
        message = f"{path} holds the edges {', '.join(populations) or 'of none'}" + nearest(str(name), populations)
        raise wrong("edges", message)
    return str(name)


def _check_layout(path: Path, name: str, edges: Any) -> None:
    """Refuse datasets where the format has groups, and groups where it has datasets."""
    parts = {"": edges, **(edges if _is_group(edges) else {})}
    indices = parts.get("indices", {})
    parts |= {f"indices/{key}": item for key, item in (indices.items() if _is_group(indices) else ())}
    for key, item in parts.items():
        is_id = key in _IDS
        if _is_group(item) == is_id and (is_id or not key or key.startswith("indices") or key.isdigit()):
            expected = "a dataset" if is_id else "a group"
            raise wrong("file", f"{path}: /edges/{name}/{key} is {_described(item)}, expected {expected}")


def _is_group(item: Any) -> bool:
    return hasattr(item, "items")


def _described(item: Any) -> str:
    return "a group" if _is_group(item) else f"{item.dtype} of shape {list(item.shape or ())}"


def _ids(path: Path, name: str, edges: Any) -> dict[str, Column]:
    """Return the datasets that have one number for each edge; their sizes are checked before they are read."""
    _check_layout(path, name, edges)
    there = {key: edges[key] for key in _IDS if key in edges}
    for key in _IDS[:2]:
        if key not in there:
            raise wrong("file", f"{path}: /edges/{name} has no {key}" + nearest(key, edges))
    count = (there["source_node_id"].shape or (0,))[0]
    for key, dataset in there.items():
        if dataset.shape != (count,) or dataset.dtype.kind not in "iu":
            message = f"is {_described(dataset)}, expected {count:,} whole numbers, one for each edge"
            raise wrong("file", f"{path}: /edges/{name}/{key} {message}")
    if count > MAX_ELEMENTS:
        raise wrong("file", f"{path} holds {count:.1e} synapses, expected at most 10^9")
    return {key: dataset[:] for key, dataset in there.items()}


# -- groups --------------------------------------------------------------------------------------------------


def _rows_by_group(found: _Population) -> Iterator[tuple[int, Column]]:
    """Yield the number of each group, and which edges are in it."""
    if "edge_group_id" not in found.ids:
        yield 0, np.arange(found.count)
        return
    for number in np.unique(found.ids["edge_group_id"]).tolist():
        yield number, np.flatnonzero(found.ids["edge_group_id"] == number)


def _group(found: _Population, number: int, rows: Column) -> Mapping[str, Any]:
    """Return the attributes of a group; refuse such as there are not for all of its edges."""
    if str(number) not in found.edges:
        if len(rows) == found.count and number == 0:
            return {}
        names = [name for name in found.edges if name.isdigit()]
        raise found.wrong("edge_group_id", f"names group {number}" + nearest(str(number), names))
    group: Mapping[str, Any] = found.edges[str(number)]
    places = found.ids.get("edge_group_index")
    if places is None and len(rows) < found.count:
        raise found.wrong("", "there are several groups and no edge_group_index")
    first, last = (0, len(rows) - 1) if places is None else (int(places[rows].min()), int(places[rows].max()))
    if first < 0:
        raise found.wrong("edge_group_index", f"holds {first}, expected 0 or more")
    for name in _understood(found, group):
        dataset = group[name]
        good = (
            not _is_group(dataset)
            and len(dataset.shape or ()) == 1
            and dataset.dtype.kind in "iufb"
            and last < dataset.shape[0] <= len(rows)
        )
        if not good:
            message = f"is {_described(dataset)}, expected {len(rows):,} numbers, one for each edge of the group"
            raise found.wrong("/".join((str(number), name)), message)
    return group


def _understood(found: _Population, names: Iterable[str]) -> list[str]:
    """Return the attributes that are read; refuse two of one meaning."""
    there = [name for name in names if name in _MEANING and name not in found.ignore]
    if {"weight", "syn_weight"} <= set(there):
        raise found.wrong("", "there are both weight and syn_weight; list one of them under 'ignore'")
    return there


def _property(found: _Population, meaning: str, groups: Mapping[int, _Group]) -> Column | None:
    """Return a number for each edge, from its group, else from its type; None where no edge has one."""
    values, known = _of_types(found, meaning)
    for rows, group in groups.values():
        for name in _understood(found, group):
            if _MEANING[name] == meaning:
                places = found.ids["edge_group_index"][rows] if "edge_group_index" in found.ids else rows
                values[rows], known[rows] = group[name][:][places], True
    if meaning == "nsyns":
        values[~known] = 1
    elif known.any() and not known.all():
        edge = int(np.flatnonzero(~known)[0])
        kind = f", of type {found.ids['edge_type_id'][edge]}," if "edge_type_id" in found.ids else ""
        hint = "" if found.types is not None else _HOW_TO_NAME_TYPES
        raise found.wrong("", f"edge {edge}{kind} has no {meaning}, and others have one{hint}")
    return values if known.any() else None


def _of_types(found: _Population, meaning: str) -> tuple[Column, Column]:
    """Return what the types of edges give, and for which edges they give it."""
    values, known = np.zeros(found.count), np.zeros(found.count, bool)
    if found.types is None:
        return values, known
    kinds, which = found.kinds
    for name in _understood(found, found.types.columns):
        if _MEANING[name] == meaning:
            numbers = [found.types.number(kind, name) for kind in kinds]
            known = np.array([number is not None for number in numbers])[which]
            values = np.array([number or 0.0 for number in numbers])[which]
    return values, known


# -- what is refused, and what is said -----------------------------------------------------------------------

_HOW_TO_NAME_TYPES = "; name the table of edge types (.csv) as 'types'"


def _check_names(found: _Population, groups: list[Mapping[str, Any]]) -> None:
    """Refuse slips in names, and names to ignore that there are not."""
    names = _names(found, groups)
    legal = [*names, *found.edges, *found.edges.file]
    for name in sorted(found.ignore):
        if name not in legal:
            raise wrong("ignore", f"{found.path} has no {name!r}" + nearest(name, legal))
    for name in sorted(names - {*_MEANING, *found.ignore}):
        if close := slip_of(name, _MEANING):
            raise found.wrong("", f"unknown attribute {name!r}; did you mean {close!r}? (or list it under 'ignore')")


def _names(found: _Population, groups: list[Mapping[str, Any]]) -> set[str]:
    return {name for group in groups for name in group} | set(found.types.columns if found.types else ())


def _check_types_are_known(found: _Population, columns: Mapping[str, Column | None]) -> None:
    """Refuse edges that have types, of which nothing was read, where they lack what types give."""
    if found.types is not None or "edge_type_id" not in found.ids or "edge_type_id" in found.ignore:
        return
    if missing := [name for name in ("delay", "syn_weight") if columns[_MEANING[name]] is None]:
        beside = sorted(path.name for path in found.path.parent.glob("*edge_types*.csv"))
        hint = f"{_HOW_TO_NAME_TYPES} (beside it: {', '.join(beside[:3])})" if beside else _HOW_TO_NAME_TYPES
        message = f"edges have types (edge_type_id), and no {' and no '.join(missing)} of their own"
        raise found.wrong("", f"{message}{hint}, or list edge_type_id under 'ignore'")


def _weighed(found: _Population, columns: dict[str, Column]) -> dict[str, Column]:
    """Return the columns with weights times the number of synapses that each edge stands for."""
    many = columns.pop("nsyns", None)
    if many is None:
        return columns
    bad = np.flatnonzero((many != np.rint(many)) | (many < 0))
    if len(bad):
        raise found.wrong("", f"nsyns of edge {bad[0]} is {many[bad[0]]}, expected a whole number, 0 or more")
    if "weight" in columns:
        return {**columns, "weight": columns["weight"] * many}
    if (many != 1).any():
        raise found.wrong("", "nsyns multiplies weights, and there is no syn_weight; or list nsyns under 'ignore'")
    return columns


def _notes(found: _Population, groups: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what a reader should know: what is not simulated, what is left out."""
    folders = {name for name in found.edges if not name.isdigit() and name not in (*_IDS, "indices")}
    rest = sorted((_names(found, groups) | folders) - {*_MEANING, *found.ignore})
    plain = [name for name in rest if name in _INFORMATIVE or name.startswith(("afferent_", "efferent_"))]
    where = f"edges {found.name!r} of {found.path.name}"
    if others := [text for name in rest if name not in plain and (text := _unknown(found, name, groups))]:
        yield f"{where}: not simulated, though it may change the result: {', '.join(others)}"
    if plain:
        yield f"{where}: of no consequence here, and left out: {', '.join(plain)}"
    if "nodes" in found.edges.file and "nodes" not in found.ignore:
        yield f"{where}: the types and attributes of nodes, which the file holds too, are not read"
    if found.types is None and "edge_type_id" in found.ids and "edge_type_id" not in found.ignore:
        yield f"{where}: edges have types, and no table of them was named as 'types'"


def _shared_rows(found: _Population, groups: Mapping[int, _Group]) -> Iterator[str]:
    """Yield, for each group of which something is read, that several of its edges have one row of attributes."""
    places = found.ids.get("edge_group_index")
    for number, (rows, group) in groups.items():
        if places is None or not (names := _understood(found, group)):
            continue
        counts = np.bincount(places[rows].astype(np.int64))
        if counts.max(initial=0) > 1:
            row = int(np.argmax(counts > 1))
            yield (
                f"edges {found.name!r} of {found.path.name}: {counts[row]:,} edges have edge_group_index {row} of "
                f"group {number}, and so the same {', '.join(sorted(names))}"
            )


def _unknown(found: _Population, name: str, groups: list[Mapping[str, Any]]) -> str:
    """Return an attribute with its first value in the table of types; empty where it asks for nothing."""
    if any(name in group for group in groups) or name in found.edges or found.types is None:
        return name
    kinds, _ = found.kinds
    values = sorted({found.types.rows[kind].get(name, "") for kind in kinds} - {"", *_WITHOUT_EFFECT.get(name, ())})
    return f"{name} ({values[0][:40]}{', ...' if len(values) > 1 else ''})" if values else ""


def _check_nodes(found: _Population, file: Any, sizes: Mapping[str, int]) -> None:
    """Refuse populations of another size than the file gives the nodes of these edges, where it holds them."""
    for ends, size in sizes.items():
        name = _text(found.edges[ends].attrs.get("node_population", ""))
        nodes = file["nodes"][name] if "nodes" in file and name in file["nodes"] else {}
        count = len(nodes["node_type_id"]) if "node_type_id" in nodes else size
        if count != size:
            message = f"are nodes of {name!r}, of which the file has {count:,}; the population has {size:,} neurons"
            raise found.wrong(ends, message)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


# -- the index -----------------------------------------------------------------------------------------------


def _check_indices(found: _Population, sizes: Mapping[str, int]) -> None:
    """Refuse an index of edges by node that says other edges than there are."""
    indices = found.edges["indices"] if "indices" in found.edges and "indices" not in found.ignore else {}
    for name in sorted(set(indices) & set(_INDICES)):
        by_node = "node_id_to_range" if "node_id_to_range" in indices[name] else "node_id_to_ranges"
        missing = [table for table in (by_node, "range_to_edge_id") if table not in indices[name]]
        if missing or not _agrees(indices[name], by_node, found.ids[_INDICES[name]], sizes[name]):
            slip = f"has no {missing[0]}" if missing else f"does not agree with {_INDICES[name]}"
            raise found.wrong("/".join(("indices", name)), f"{slip}: make it anew, or list indices under 'ignore'")


def _agrees(index: Any, name: str, nodes: Column, size: int) -> bool:
    """Return whether an index leads from each node to its edges, each of them once; ``name`` is its table by node."""
    by_node, ranges = index[name], index["range_to_edge_id"]
    most = len(nodes) + size
    if any(
        _is_group(table)
        or len(table.shape or ()) != 2
        or table.shape[1] != 2
        or table.shape[0] > most
        or table.dtype.kind not in "iu"
        for table in (by_node, ranges)
    ):
        return False
    which, node = _spread(by_node[:], len(ranges))
    if which is None:
        return False
    edges, row = _spread(ranges[:][which], len(nodes))
    return edges is not None and bool(
        (np.bincount(edges, minlength=len(nodes)) == 1).all() and (nodes[edges] == node[row]).all()
    )


def _spread(ranges: Column, count: int) -> tuple[Column | None, Column]:
    """Return the numbers in ranges, end to end, and the row of each; None where they are not ``count`` numbers."""
    first, last = ranges.astype(np.int64).T
    lengths = np.where(first < 0, 0, last - first)
    if (lengths < 0).any() or lengths.sum() != count or (last[lengths > 0] > count).any():
        return None, lengths
    row = np.repeat(np.arange(len(lengths)), lengths)
    return np.arange(count) - np.repeat(np.cumsum(lengths) - lengths - first, lengths), row
