"""What a rule claims: in the units it allows, the rewritten node computes the same function.

    y'(x') = a_y y(x) + c_y        for  x = x' / a_x - d_x,  c_y = a_y d_y

Units are drawn at random among those that the rule's relations allow. With `c` apart from `a d` and `1/a` apart from
`a`, the formula holds of channels that are written or read dead, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import scipy.linalg
from onnx import helper, numpy_helper
from rule_case import Case, Data, names_of, node_of
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations import RULES
from bnfold.folding.units import Ids, Units
from bnfold.graph.float64 import evaluate
from bnfold.graph.scaled import Scaled

__all__ = [
    "Restriction",
    "draw",
    "layouts",
    "node_in_units",
    "restrictions",
    "scale_classes",
    "stored_and_wanted",
    "units_of",
]

PROMISE = 1e-10

Layout = tuple[tuple[int, ...] | None, ...]


def layouts(case: Case) -> list[Layout]:
    """For each operand of data, the axes along which its units differ; None: pinned.

    One axis at a time, counted from the last as broadcasting does, none, all, and one operand unlike the others.
    """
    data = [x for x in case.inputs if isinstance(x, Data)]
    known = [[k - len(x.shape) for k, n in enumerate(x.shape) if isinstance(n, int) and n > 1] for x in data]
    every = sorted({axis for axes in known for axis in axes})
    same = [tuple((axis,) if axis in axes else () for axes in known) for axis in every]
    found: list[Layout] = [*same, tuple(() for _ in data)]
    if len(every) > 1:
        found.append(tuple(tuple(axes) for axes in known))
    if len(data) > 1:
        found += [(None, *layout[1:]) for layout in found] + [(*layout[:-1], ()) for layout in same]
    return list(dict.fromkeys(found))


def refuses(case: Case, layout: Layout) -> bool:
    data = [x for x in case.inputs if isinstance(x, Data)]
    varying = {axis % len(x.shape) for x, axes in zip(data, layout, strict=True) for axis in axes or ()}
    return bool(varying & case.refused)


def units_of(case: Case, node: ir.Node, layout: Layout) -> Units:
    """Units of the operands, free along the axes of the layout."""
    units = Units()
    axes_of = iter(layout)
    for value, x in zip(node.inputs, case.inputs, strict=True):
        if isinstance(x, Data) and value is not None:
            axes = next(axes_of)
            if axes is not None:
                varying = {axis % len(x.shape) for axis in axes}
                units.ids[value] = units.fresh(n if k in varying else 1 for k, n in enumerate(x.lengths))
    return units


@dataclass(frozen=True)
class Restriction:
    """One equation or inequality between single ids: kind, and for an offset relation its (id, coefficient) terms."""

    kind: str
    terms: tuple[tuple[int, float], ...]


def restrictions(units: Units) -> list[Restriction]:
    """All that a rule has asked for, id by id."""
    found = []
    for kind, pairs in (("scale", units.equal_scales), ("offset", units.equal_offsets)):
        for a, b in pairs:
            found += [Restriction(kind, ((i, 1.0), (j, -1.0))) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    for kind, pins in (("scale", units.scale_pins), ("offset", units.offset_pins)):
        found += [Restriction(kind, ((i, 1.0), (0, -1.0))) for pin in pins for i in pin.ids.tolist()]
    found += [Restriction("positive", ((i, 1.0),)) for pin in units.positive for i in pin.ids.tolist()]
    for relation in units.offset_relations:
        ids, factors = np.stack(relation.ids), np.stack(relation.coefficients)
        for k in range(ids.shape[1]):
            found.append(Restriction("offset", tuple(zip(ids[:, k].tolist(), factors[:, k].tolist(), strict=True))))
    distinct = {r for r in found if not (len({i for i, _ in r.terms}) == 1 and len(r.terms) == 2)}
    return sorted(distinct, key=lambda r: (r.kind, r.terms))


def draw(units: Units, asked: list[Restriction], rng: np.random.Generator, *, sparse: bool = False) -> Gauge:
    """Random units under these restrictions: scales of both signs where they may, offsets as free as they are.

    `sparse`: about half of the offsets are 0, as if others had no use for them.
    """
    n, label = units.n_ids, scale_classes(units, asked)
    n_labels = int(label.max()) + 1
    scale = rng.uniform(0.5, 2.0, n_labels) * rng.choice([-1.0, 1.0], n_labels)
    positive = [label[r.terms[0][0]] for r in asked if r.kind == "positive"]
    scale[positive] = np.abs(scale[positive])
    scale[label[0]] = 1.0
    a = scale[label]
    rows = [r.terms for r in asked if r.kind == "offset"]
    rows += [((i, 1.0),) for i in np.flatnonzero(rng.random(n) < 0.5).tolist()] if sparse else []
    matrix = np.zeros((len(rows) + 1, n))
    matrix[0, 0] = 1.0
    for k, terms in enumerate(rows, start=1):
        for i, factor in terms:
            matrix[k, i] += factor
    free = scipy.linalg.null_space(matrix)
    d = free @ rng.standard_normal(free.shape[1]) * 1.5 if free.shape[1] else np.zeros(n)
    d[np.abs(d) < 1e-12] = 0.0
    return Gauge(units, a, d, a * d, 1 / a)


def holds(restriction: Restriction, gauge: Gauge) -> bool:
    """Whether units obey a restriction, by a margin that rounding does not reach."""
    if restriction.kind == "positive":
        return bool(gauge.scale[restriction.terms[0][0]] > 0)
    values = gauge.scale if restriction.kind == "scale" else gauge.offset
    return abs(sum(factor * values[i] for i, factor in restriction.terms)) < 1e-3


def node_in_units(case: Case, node: ir.Node, gauge: Gauge) -> onnx.ModelProto:
    """The case's node with the parameters that its rule gives it in these units."""
    rule = RULES[case.op_type]
    new = rule.rewrite(node, gauge) if rule.rewrite is not None else None
    arrays = (
        {k: a.numpy() if isinstance(a, Scaled) else np.asarray(a) for k, a in new.parameters.items()} if new else {}
    )
    return model_with(case, arrays, new.bias if new else None)


def model_with(case: Case, arrays: dict[int, np.ndarray], added: np.ndarray | None = None) -> onnx.ModelProto:
    """The case's node alone, its data as inputs, with these parameters; `added` is added behind it."""
    inputs = [*case.inputs, *[None] * (max(arrays, default=-1) + 1 - len(case.inputs))]
    for k, array in arrays.items():
        before = inputs[k]
        assert before is None or isinstance(before, np.ndarray), f"input {k} is no parameter"
        inputs[k] = array
    changed = Case(case.op_type, tuple(inputs), case.attributes, opset=case.opset, n_outputs=case.n_outputs)
    names = names_of(changed)
    nodes = [node_of(changed)]
    constants = [numpy_helper.from_array(x, n) for n, x in zip(names, inputs, strict=True) if isinstance(x, np.ndarray)]
    if added is not None:
        nodes[0].output[0] = "before_bias"
        constants.append(numpy_helper.from_array(added, "added"))
        nodes.append(helper.make_node("Add", ["before_bias", "added"], ["y"]))
    given = [onnx.ValueInfoProto(name=n) for n, x in zip(names, inputs, strict=True) if x is not None]
    given = [info for info in model_inputs(case) if info.name in {g.name for g in given}]
    outputs = [onnx.ValueInfoProto(name=name) for name in node_of(changed).output]
    graph = helper.make_graph(nodes, "node", given, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)


def model_inputs(case: Case) -> Iterator[onnx.ValueInfoProto]:
    for name, x in zip(names_of(case), case.inputs, strict=True):
        if x is not None and not isinstance(x, np.ndarray):
            kind = onnx.TensorProto.DOUBLE if isinstance(x, Data) else onnx.TensorProto.INT64
            yield helper.make_tensor_value_info(name, kind, [None] * len(x.shape))


def stored_and_wanted(
    case: Case, node: ir.Node, gauge: Gauge, feed: dict[str, np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each output: what the node in these units stores, and `a_y y + c_y` of what it computes in the source's."""
    units = gauge.units
    read, plain = dict(feed), dict(feed)
    for k, (value, x) in enumerate(zip(node.inputs, case.inputs, strict=True)):
        if isinstance(x, Data) and value is not None:
            name, ids = f"in{k}", units.of(value)
            if gauge.inverse[ids].all():
                read[name] = gauge.scale[ids] * feed[name] + gauge.constant[ids]
            else:  # some are read dead: what is stored there does not matter
                plain[name] = feed[name] * gauge.inverse[ids] - gauge.offset[ids]
    before = evaluate(model_with(case, {}), plain)
    after = evaluate(node_in_units(case, node, gauge), read)
    for value, (name, y) in zip(node.outputs, before.items(), strict=True):
        stored = after[name]
        assert stored.shape == y.shape, f"{stored.shape} and not {y.shape}"
        if y.dtype.kind != "f":
            yield stored, y
            continue
        ids: Ids = np.broadcast_to(units.of(value), y.shape)
        yield stored, gauge.scale[ids] * y + gauge.constant[ids]


def error(stored: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest magnitude."""
    assert np.isfinite(wanted).all()
    assert np.isfinite(stored).all()
    largest = np.abs(wanted).max(initial=0)
    return float(np.abs(stored - wanted).max(initial=0) / (largest or 1.0))


def scale_classes(units: Units, asked: list[Restriction]) -> Ids:
    """A label for each id, the same where the restrictions make scales equal."""
    pairs = [(r.terms[0][0], r.terms[1][0]) for r in asked if r.kind == "scale"]
    left, right = (np.array([p[k] for p in pairs], np.int64) for k in (0, 1))
    links = coo_matrix((np.ones(left.size), (left, right)), shape=(units.n_ids, units.n_ids))
    return connected_components(links, directed=False)[1].astype(np.int64)
