"""What there is, as lists: each is a function that returns rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.text import Text

from pcsim.analysis.hardware import HARDWARE, constant_rows
from pcsim.analysis.measures import MEASURES
from pcsim.analysis.placement import PLACEMENTS
from pcsim.claims.claims_here import claims_here
from pcsim.claims.verdicts import CHECKS
from pcsim.engines import ENGINES
from pcsim.errors import EXITS, InputError, PcsimError
from pcsim.graph.channels import CHANNEL_KINDS
from pcsim.graph.graph_document import ActsEntry, DelayEntry, InitEntry
from pcsim.learn.metrics import METRICS
from pcsim.models.onnx_operators import OPERATORS
from pcsim.ops import ACTIVATIONS, FEEDBACKS, LOSSES, OPS
from pcsim.ops.op import FLOATS
from pcsim.ops.synapses.connect import CONNECTIONS
from pcsim.ops.synapses.delays import DELAYS, DISTANCE
from pcsim.optimisers import OPTIMISERS
from pcsim.rules import FIRINGS, RULES
from pcsim.scenario.claim_document import METHODS, CheckEntry
from pcsim.scenario.datasets import DATASETS
from pcsim.scenario.reader import load
from pcsim.scenario.scenario_document import CRITERIA, QUANTITIES, DataEntry
from pcsim.scenario.starts import STARTS
from pcsim.scenario.train_document import EVALUATIONS
from pcsim.schedules import SCHEDULES
from pcsim.view.json_schema import with_names
from pcsim.view.key_rows import rows_of_attributes, rows_of_keys
from pcsim.view.text import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

    from pcsim.ops.op import InputSlot, Op
    from pcsim.optimisers import Optimiser
    from pcsim.schedules import Schedule

Rows = list[dict[str, Any]]
"""The first key of a row is its name; ``keys`` are the rows of the keys that it takes."""


@dataclass(frozen=True)
class Section:
    """A list with what it is."""

    name: str
    about: str
    rows: Rows


def _ops() -> Rows:
    return [
        {
            "op": op.name,
            "inputs": _inputs(op),
            "parameters": "; ".join(f"{slot}: {shape}" for slot, shape in op.slots.items()),
            "attributes": ", ".join(op.attributes),
            "summary": op.summary,
            "source": op.source,
            "keys": rows_of_attributes(op.attributes),
        }
        for op in OPS.values()
    ]


def _inputs(op: Op) -> str:
    low, high = op.arity
    count = str(low) if low == high else f"{low}+" if high is None else f"{low}-{high}"
    return count if op.inputs == FLOATS else f"{count}: {', '.join(map(_slot, op.inputs))}"


def _slot(slot: InputSlot) -> str:
    facts = [f"{slot.format} numbers"] + ([] if slot.differentiable else ["no error returns"])
    return f"{slot.name} ({', '.join(facts)})"


def _activations() -> Rows:
    return [{"activation": name, "summary": row.summary, "source": row.source} for name, row in ACTIVATIONS.items()]


def _connections() -> Rows:
    return [
        {
            "rule": row.name,
            "attributes": ", ".join(row.keys),
            "summary": row.summary,
            "keys": rows_of_attributes(row.keys),
        }
        for row in CONNECTIONS.values()
    ]


def _channels() -> Rows:
    return [{"key": row.name, "summary": row.summary, "when": row.where} for row in CHANNEL_KINDS.values()] + [
        {"key": f"acts.{row['key']}", "summary": row["summary"], "when": "at each tick"} for row in _rows_of(ActsEntry)
    ]


def _delays() -> Rows:
    edges = [("delay of an input", row) for row in _rows_of(DelayEntry)]
    synapses = [("delays of a projection", row) for row in rows_of_attributes(DELAYS)]
    synapses += [("delays by distance", row) for row in rows_of_attributes(DISTANCE)]
    return [
        {"key": row["key"], "of": where, "type": row["type"], "summary": row["summary"]}
        for where, row in edges + synapses
    ]


def _inits() -> Rows:
    return _rows_of(InitEntry)


def _sources() -> Rows:
    return _rows_of(DataEntry)


def _rows_of(model: type[BaseModel]) -> Rows:
    return rows_of_keys(with_names(model.model_json_schema(by_alias=True)))


def _datasets() -> Rows:
    return [
        {
            "dataset": row.name,
            "fields": "; ".join(f"{name}: {held}" for name, held in row.fields.items()),
            "summary": row.summary,
            "source": row.origin,
            "keys": rows_of_attributes(row.keys),
        }
        for row in DATASETS.values()
    ]


def _losses() -> Rows:
    return [{"loss": row.name, "summary": row.summary, "source": row.source} for row in LOSSES.values()]


def _feedbacks() -> Rows:
    return [{"feedback": row.name, "summary": row.summary, "source": row.source} for row in FEEDBACKS.values()]


def _rules() -> Rows:
    return [
        {"rule": row.name, "predictions": "move" if row.moving else "fixed", "fires": row.fires.name,
         "step_size": row.step_size, "ticks": row.ticks, "needs": row.needs or "nothing global",
         "summary": row.summary, "source": row.source}
        for row in RULES.values()
    ]  # fmt: skip


def _optimisers() -> Rows:
    return [_row_with_settings("optimiser", row) | {"source": row.source} for row in OPTIMISERS.values()]


def _schedules() -> Rows:
    return [_row_with_settings("schedule", row) for row in SCHEDULES.values()]


def _row_with_settings(what: str, row: Optimiser | Schedule) -> dict[str, Any]:
    settings = ", ".join(f"{name} ({setting.default:g})" for name, setting in row.settings.items())
    return {what: row.name, "settings": settings, "summary": row.summary}


def _metrics() -> Rows:
    return [{"metric": row.name, "summary": row.summary} for row in METRICS.values()]


def _firings() -> Rows:
    return [{"firing": row.name, "summary": row.summary} for row in FIRINGS.values()]


def _engines() -> Rows:
    return [{"engine": row.name, "summary": row.summary} for row in ENGINES.values()]


def _measures() -> Rows:
    return [{"measure": row.name, "summary": row.summary, "source": row.source} for row in MEASURES.values()]


def _hardware() -> Rows:
    return [
        {"hardware": row.name, "summary": row.summary, "assumes": "; ".join(row.assumptions)}
        for row in HARDWARE.values()
    ]


def _placements() -> Rows:
    return [{"placement": row.name, "summary": row.summary, "source": row.source} for row in PLACEMENTS.values()]


def _evaluations() -> Rows:
    return [{"evaluation": name, "summary": summary} for name, summary in EVALUATIONS.items()]


def _starts() -> Rows:
    return [
        {"start": row.name, "cyclic graphs": "no" if row.acyclic else "yes", "summary": row.summary}
        for row in STARTS.values()
    ]


def _criteria() -> Rows:
    return [{"criterion": name, "summary": summary} for name, summary in CRITERIA.items()]


def _quantities() -> Rows:
    return [{"quantity": name, "summary": summary} for name, summary in QUANTITIES.items()]


def _errors() -> Rows:
    return [
        {
            "error": kind.__name__,
            "exit_code": kind.exit_code,
            "summary": (kind.__doc__ or "").partition("\n")[0].replace("``", "`"),
        }
        for kind in _kinds(PcsimError)
        if kind.__module__.startswith("pcsim.")
    ]


def _kinds(kind: type[PcsimError]) -> Iterator[type[PcsimError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _onnx() -> Rows:
    return [{"operator": name, "summary": OPERATORS[name].summary} for name in sorted(OPERATORS)]


def _exits() -> Rows:
    return [{"exit_code": code, "summary": summary} for code, summary in EXITS.items()]


_PAPERS = {
    "[M]": "Millidge, Tschantz & Buckley 2020, Predictive coding approximates backprop along arbitrary "
    "computation graphs",
    "[S]": "Salvatori et al. 2022, Reverse differentiation via predictive coding",
    "[So]": "Song et al. 2020, Can the brain do backpropagation? Exact implementation in predictive coding networks",
    "[WB]": "Whittington & Bogacz 2017, An approximation of the error backpropagation algorithm in a predictive coding "
    "network with local Hebbian synaptic plasticity",
    "[Z]": "Zahid, Guo & Fountas 2023, Predictive coding as a neuromorphic alternative to backpropagation",
}


def _papers() -> Rows:
    return [{"paper": key, "summary": title} for key, title in _PAPERS.items()]


def _checks() -> Rows:
    return [
        {"check": name, "summary": field.description, "keys": _rows_of(get_args(field.annotation)[0])}
        for name, field in CheckEntry.model_fields.items()
        if name in CHECKS
    ]


def _methods() -> Rows:
    return [{"method": name, "summary": summary} for name, summary in METHODS.items()]


def _claims() -> Rows:
    documents = {name: load(path).document for name, path in claims_here().items()}
    return [
        {"claim": name, "title": document.title, "says": document.claim.says, "source": document.source}
        for name, document in documents.items()
        if document.claim is not None
    ]


def _scenarios() -> Rows:
    rows: Rows = []
    for path in sorted(Path("scenarios").glob("*.yaml")):
        try:
            document = load(path).document
            rows.append(
                {"scenario": str(path), "title": document.title, "shows": document.about, "source": document.source}
            )
        except InputError as error:
            rows.append({"scenario": str(path), "title": "wrong", "shows": str(error), "source": ""})
    return rows


LISTS: dict[str, Callable[[], Rows]] = {
    "ops": _ops, "activations": _activations, "connections": _connections, "delays": _delays,
    "channels": _channels, "inits": _inits, "sources": _sources, "datasets": _datasets,
    "losses": _losses, "feedbacks": _feedbacks, "rules": _rules,
    "firings": _firings, "engines": _engines, "measures": _measures, "criteria": _criteria,
    "starts": _starts, "quantities": _quantities,
    "optimisers": _optimisers, "schedules": _schedules, "metrics": _metrics,
    "evaluations": _evaluations,
    "errors": _errors, "exits": _exits, "onnx": _onnx, "papers": _papers, "checks": _checks,
    "hardware": _hardware, "constants": constant_rows, "placements": _placements,
    "methods": _methods, "scenarios": _scenarios, "claims": _claims,
}  # fmt: skip


ABOUT = {
    "ops": "What a vertex computes: `op` of a vertex; its attributes are further keys of the vertex.",
    "activations": "Functions of each element: `activation` of an op.",
    "connections": "Which neuron feeds which: `connect` of a projection, {rule: NAME} with the keys of the rule.",
    "delays": "Ticks that messages travel: `delay` of an input, `delays` of a projection; a number, or these keys.",
    "channels": "What happens to a message beside its delay: keys of an input and of `channels`; when a vertex `acts`.",
    "inits": "How a parameter starts: `init` of a parameter, or of a vertex, by slot; one key, or `file` with `key`.",
    "sources": "Data under `inputs` and `targets`: a number, a list, or one of these keys with its options.",
    "datasets": "Known data: {dataset: NAME, field: FIELD} under `inputs` and `targets`, with keys of their own.",
    "losses": "What an output may carry: `loss` of a scenario or of a target.",
    "feedbacks": "How errors travel back: `feedback` of a vertex.",
    "rules": "The algorithm: `rule` of a scenario, a name or {name: NAME, step_size: 0.5}.",
    "firings": "When a parameter learns: each rule has one of these policies.",
    "engines": "What executes a run: `engine` of a scenario, or --engine.",
    "measures": "What a run is measured by: `measure` of a scenario.",
    "criteria": "What ends a run and what counts as converged: `stop: {measure: NAME, below: 1e-3}`, and `converged`.",
    "evaluations": "What samples are judged by that are kept apart: `by` of `train.validate` and `train.test`.",
    "starts": "Where values are at tick 0: `initial`.",
    "quantities": "What can be recorded: `what` under `record`.",
    "optimisers": "How parameters follow what was learnt: `optimiser` under `train`, as {name: adam, rate: 1e-3}.",
    "schedules": "How the learning rate changes: `schedule` under `train`, a name or {name: step, every: 10}.",
    "metrics": "What the log of training has of each batch, epoch and of validation and test samples.",
    "errors": "What pcsim raises in Python, and the exit code of the command that it ends.",
    "papers": "What the letters stand for that sources are named by.",
    "exits": "What the exit code of a command says.",
    "onnx": "Operators of ONNX that are read, beside If, Loop, Scan and those that ONNX defines by others.",
    "checks": "How a claim is checked: an entry under `checks` of a scenario's `claim`, with these keys.",
    "methods": "What the rows of a claim are measured by: `rows` of a scenario's `claim`.",
    "hardware": "What an update may run on: `pcsim cost` has a model of the energy and latency of each.",
    "constants": "Numbers of these models: --constant NAME=VALUE of `pcsim cost` takes another value.",
    "placements": "How actors are placed on the cores of a mesh: --placement of `pcsim cost`.",
    "scenarios": "Scenarios in the folder 'scenarios'.",
    "claims": "Claims of papers: pcsim reproduce NAME measures one and says whether it agrees.",
}
"""What the rows of a list are for, and where a document has them."""


def listing_tables(section: Section, *, titles: bool = False) -> list[Any]:
    """Return a list as a table for people: names and what they are; of many facts, the lesser ones below."""
    rows = section.rows
    if not rows:
        where = ": run pcsim where the folder 'scenarios' is" if section.name in ("scenarios", "claims") else ""
        return [f"no {section.name} here{where}"]
    name, main = next(iter(rows[0])), "summary" if "summary" in rows[0] else "title"
    table = columns(name.replace("_", " "), main)
    for row in rows:
        text = Text(str(row[main]))
        if less := _facts(row, (name, main, "keys", "attributes")):
            text.append("\n" + less, style="dim")
        for key in row.get("keys", ()):
            text.append(f"\n{key['key']}: {key['summary']}")
            text.append(f" ({_facts(key, ('key', 'summary'))})", style="dim")
        table.add_row(str(row[name]), text)
    return (
        [Text(section.name, style="bold"), *([section.about] if section.about else []), table, ""]
        if titles
        else [table]
    )


def _facts(row: dict[str, Any], but: tuple[str, ...]) -> str:
    """Return what a row says beside the keys ``but``: what a key takes and its default first."""
    default = row.get("default", "")
    taken = [row["type"], f"default {default}" if default not in ("", "required") else default] if "type" in row else []
    rest = {key: value for key, value in row.items() if key not in (*but, "type", "default")}
    others = [f"{key.replace('_', ' ')}: {value}" for key, value in rest.items() if value not in ("", None)]
    return "; ".join([text for text in taken if text] + others)
