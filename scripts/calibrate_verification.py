"""How far from float64 right folds lie, and wrong ones: the constants of the verification criterion.

Small networks with many seeds (parameters, statistics, inputs), trained runs of BNNet, or timm networks if asked for,
are folded, by bnfold as `fold-export` does it and, where a few lines can, by algebra of this script's own; then the
very measurement of `bnfold.verification` is run. For contrast a wrong fold, the mildest we know: epsilon dropped.
Columns:

    rms, maximum     E_out / E_src, as root mean square and as maximum                          (K_RMS, K_MAXIMUM)
    parameters       distance of the functions in float64 / one rounding of every parameter     (K_PARAMETERS)
    order            E_out / (sqrt(1 + K) times one rounding of every factor of a sum)          (K_ORDER)

The rules: K_PARAMETERS is the geometric mean of the largest right ratio and the smallest wrong one; so are K_RMS and
K_MAXIMUM, of the networks that do not begin with a BatchNorm (what passes neither is judged by its parameters); K_ORDER
is twice the largest right ratio, rounded, since what it bounds has right parameters already.

    python scripts/calibrate_verification.py [--quick] [--seeds 40] [--runs 5] [--zoo resnet18 levit_128s ...]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from calibration.networks import ARCHITECTURES, folded, is_folded_here, randomise, settle
from onnx import numpy_helper

import bnfold
from bnfold.export import finish, plain_graph
from bnfold.folding import fold_model
from bnfold.records import InputSpec, SourceFacts
from bnfold.sources import load_source
from bnfold.sources.types import TorchSource
from bnfold.verification.checks.comparison import Compared, compare
from bnfold.verification.checks.parameter_errors import judge_execution, judge_parameters
from bnfold.verification.data.feeds import Feed, make_feeds
from bnfold.verification.execution.candidate import Candidate
from bnfold.verification.execution.torch_reference import TorchReference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

BATCHES = (1, 2, 3)


@dataclass(frozen=True)
class Ratios:
    """Of one fold; see above. `case` and `how` say which."""

    case: str
    how: str
    rms: float
    maximum: float
    parameters: float
    parameters_maximum: float
    order: float
    order_maximum: float


def source_of(module: nn.Module, row: tuple[int, ...]) -> TorchSource:
    """The module as `load_source` would hand it over."""
    facts = SourceFacts(type(module).__name__, "", sum(p.numel() for p in module.parameters()))
    return TorchSource(facts, module.eval(), (InputSpec("x", (None, *row), "float32"),), ("y",))


def with_parameters(graph: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """The graph with the module's parameters and buffers as initializers."""
    state = module.state_dict()
    new = onnx.ModelProto()
    new.CopyFrom(graph)
    for tensor in new.graph.initializer:
        if tensor.name in state:
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    return new


def by_bnfold(plain: onnx.ModelProto, *, keep_eps: bool = True) -> onnx.ModelProto:
    """The file that `fold-export` makes of a plain graph."""
    work = onnx.ModelProto()
    work.CopyFrom(plain)
    if not keep_eps:
        for node in work.graph.node:
            for attribute in node.attribute:
                if node.op_type == "BatchNormalization" and attribute.name == "epsilon":
                    attribute.f = 0.0
    model = ir.from_proto(work)
    fold_model(model)
    return finish(model)


def has_constant_channels(plain: onnx.ModelProto) -> bool:
    """Whether a BatchNorm has a running variance of 0: without epsilon it has no fold."""
    variances = {node.input[4] for node in plain.graph.node if node.op_type == "BatchNormalization"}
    return any((numpy_helper.to_array(t) == 0).any() for t in plain.graph.initializer if t.name in variances)


def measure(
    case: str, how: str, source: TorchSource, *, plain: onnx.ModelProto, file: onnx.ModelProto, seed: int
) -> Ratios:
    """Run the comparison of `bnfold verify` and take its ratios, the largest over the outputs."""
    reference = TorchReference(source.module, [source.inputs[0].name], source.output_names, plain)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        onnx.save(file, path)
        candidate = Candidate.opened(path, provider="cpu", threads=1)
        compared = compare(candidate, reference, source.inputs, samples=source.samples, batches=BATCHES, seed=seed)
        if not isinstance(compared, Compared):
            raise compared.refusal()
        facts, outputs = reference.input_facts, compared.errors.outputs
        u, judged = candidate.precision.u, compared.errors

        def feeds() -> Iterator[Feed]:
            return make_feeds(source.inputs, samples=source.samples, facts=facts, batches=BATCHES, seed=seed)

        if all(errors.parameters is None for errors in outputs.values()):
            judged.take_parameters(judge_parameters(file, reference, feeds(), u=u, seed=seed))
        if how == "right":
            judged.take_execution(judge_execution(file, feeds(), u=u, seed=seed))
    return max(
        (
            Ratios(
                case,
                how,
                errors.e_output / errors.e_source,
                errors.e_output_maximum / errors.e_source_maximum,
                errors.parameters.ratio,
                errors.parameters.distance.maximum / errors.parameters.rounding.maximum,
                errors.e_output / (errors.worst_order * errors.parameters.executed.rms),
                errors.e_output_maximum / (errors.worst_order * errors.parameters.executed.maximum),
            )
            for errors in outputs.values()
            if errors.parameters is not None
        ),
        key=lambda ratios: ratios.rms,
    )


def measure_all(case: str, source: TorchSource, plain: onnx.ModelProto, seed: int) -> Iterator[Ratios]:
    """bnfold's fold of a network, and the one without epsilon where there is one."""
    yield measure(case, "right", source, plain=plain, file=by_bnfold(plain), seed=seed)
    if not has_constant_channels(plain):
        wrong = by_bnfold(plain, keep_eps=False)
        yield measure(case, "epsilon dropped", source, plain=plain, file=wrong, seed=seed)


def small_networks(n_seeds: int) -> Iterator[Ratios]:
    """Measure each architecture at each seed; the graphs are exported once and get new parameters."""
    for name, (build, row) in ARCHITECTURES.items():
        module = build()
        randomise(module, row, 1)
        source = source_of(module, row)
        exported = ir.to_proto(plain_graph(source))
        ours = ir.to_proto(plain_graph(source_of(folded(module), row))) if is_folded_here(module) else None
        for seed in range(n_seeds):
            randomise(module, row, seed)
            plain = with_parameters(exported, module)
            yield from measure_all(name, source, plain, seed)
            if ours is not None:
                file = with_parameters(ours, folded(module))
                yield measure(name, "right", source, plain=plain, file=file, seed=seed)


def trained_runs(n_runs: int) -> Iterator[Ratios]:
    """Train BNNet on the digits, as it is and with pixels shifted to mean 0 (its constant ones are then far from 0)."""
    for settings in ({}, {"standardise": True}):
        name = "bnnet, " + ("pixels shifted" if settings else "as it is")
        for seed in range(n_runs):
            with tempfile.TemporaryDirectory() as folder:
                run = bnfold.train("bnnet", Path(folder) / "run", seed=seed, settings=settings).run
                source = load_source(str(run))
            if not isinstance(source, TorchSource):
                raise TypeError("a run folder is a PyTorch source")
            yield from measure_all(name, source, ir.to_proto(plain_graph(source)), seed)


def zoo_networks(names: Sequence[str], size: int) -> Iterator[Ratios]:
    """Measure timm networks with statistics of random images, at a small size where they are free to choose."""
    import timm

    for name in names:
        torch.manual_seed(0)
        module: Any = timm.create_model(name)
        fixed = module.default_cfg.get("fixed_input_size", False)
        row = tuple(module.default_cfg["input_size"]) if fixed else (3, size, size)
        settle(module, torch.randn(16, *row))
        source = source_of(module, row)
        yield from measure_all(name, source, ir.to_proto(plain_graph(source)), seed=0)


def report(title: str, ratios: list[Ratios], *, worst: Any) -> None:
    """Print the median and the worst value of each column, over all and for each network."""
    names = [field.name for field in fields(Ratios)[2:]]
    print(f"\n{title}: {len(ratios)} folds, median / {worst.__name__}imum")
    print(f"{'':>24}" + "".join(f"{name:>20}" for name in names))
    for case in ["all", *dict.fromkeys(ratio.case for ratio in ratios)]:
        chosen = np.array([astuple(ratio)[2:] for ratio in ratios if case in {"all", ratio.case}])
        cells = (f"{np.median(column):.2f} / {worst(column):.2f}" for column in chosen.T)
        print(f"{case:>24}" + "".join(f"{cell:>20}" for cell in cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 seeds and 1 run: about two minutes")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5, help="trained runs of BNNet")
    parser.add_argument("--zoo", nargs="*", default=[], help="timm networks; with none of the others then")
    parser.add_argument("--size", type=int, default=64, help="of the images of timm networks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # the exporter's, of its own internals
    n_seeds, n_runs = (8, 1) if arguments.quick else (arguments.seeds, arguments.runs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        if arguments.zoo:
            ratios = list(zoo_networks(arguments.zoo, arguments.size))
        else:
            ratios = [*small_networks(n_seeds), *trained_runs(n_runs)]
    right = [ratio for ratio in ratios if ratio.how == "right"]
    wrong = [ratio for ratio in ratios if ratio.how != "right"]
    report("right folds", right, worst=max)
    if not wrong:
        return
    report("epsilon dropped", wrong, worst=min)
    print("\nlargest right, smallest wrong, geometric mean")
    for field in fields(Ratios)[2:]:
        largest = max(getattr(ratio, field.name) for ratio in right)
        smallest = min(getattr(ratio, field.name) for ratio in wrong)
        print(f"    {field.name:>20} {largest:8.2f} {smallest:8.2f} {np.sqrt(largest * smallest):8.2f}")


if __name__ == "__main__":
    main()
