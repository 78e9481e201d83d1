"""Fold modules with `bnfold.fold`, and print, for each, what became of its BatchNorms, beside what other tools do.

    python scripts/fold_modules.py [--json FILE [--missing]] [--markdown FILE] [NAME[@GAMMA] ...]

NAME is `timm:NAME`, `torchvision:NAME`, `zoo:NAME` (models/), or one of the networks of
scripts/modules/networks.py; without names, all. Statistics are measured on random data; gamma is drawn from
0.5..1.5, beta from N(0, 0.2); GAMMA `mixed` makes 15 % of the gammas negative, `zeros` also sets 3 % to exactly 0;
without it, all three. `graph` is what the fold of the exported graph keeps without merging branches and removing
channels, and `kept` must not be more. `float64` is the largest difference before parameters are rounded, relative to
the largest output. `error` is the root mean square error of the folded module in float32 against the module in float64,
over that of the module itself; `bits` says whether the module is bit for bit as it was. Beside it
`torch.fx.experimental.optimization.fuse` and timm's `reparameterize_model`: BatchNorms left, largest difference in
float32 relative to the largest output, class of the result. Each row runs in a process of its own.
"""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch
from common.rows import measured_rows, parse
from modules.networks import GAMMAS, build, names, randomise
from torch import nn

import bnfold
from bnfold.errors import BnfoldError
from bnfold.export import plain_graph
from bnfold.folding import fold_model
from bnfold.sources import load_network

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

ROW = "{:42} {:>6} {:>5} {:>6} {:>8} {:>6} {:>5} {:>6}  {}"
WORKER = "--one"
LIMIT_S = 1800


class Float64Difference(logging.Handler):
    """Remembers what the fold logs of its comparison in float64."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.largest: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take the figure of the one line that has it."""
        if isinstance(record.args, tuple) and record.msg.startswith("%s: equal in float64"):
            self.largest = float(record.args[1])  # type: ignore[arg-type]


def flat(outputs: Any) -> list[torch.Tensor]:
    """The tensors that a network returns."""
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


@torch.no_grad()
def errors(module: nn.Module, folded: nn.Module, inputs: tuple[Any, ...]) -> tuple[float, float]:
    """Root mean square errors of module and fold in float32 against the module in float64, relative to its output."""
    wide = copy.deepcopy(module).double()
    exact = flat(wide(*(x.double() if x.is_floating_point() else x for x in inputs)))
    found = []
    for each in (module, folded):
        pairs = [
            ((a - b).square().mean().sqrt(), a.square().mean().sqrt())
            for a, b in zip(exact, flat(each(*inputs)), strict=True)
        ]
        found.append(max(float(error / size) for error, size in pairs))
    return found[0], found[1]


def n_norms(module: nn.Module) -> int:
    """BatchNorm modules, frozen ones too, and calls of `torch.nn.functional.batch_norm` in a traced graph."""
    kinds = (nn.modules.batchnorm._BatchNorm,)
    parts = sum(isinstance(part, kinds) or "FrozenBatchNorm" in type(part).__name__ for part in module.modules())
    graph: Any = getattr(module, "graph", None)
    return parts + sum(node.target is nn.functional.batch_norm for node in getattr(graph, "nodes", ()))


def kept_by_graph(module: nn.Module, inputs: tuple[Any, ...]) -> int:
    """What the exported graph's fold keeps without merging branches or removing channels."""
    model: ir.Model = plain_graph(load_network(module, inputs))
    return fold_model(model, merge_branches=False, remove_channels=False).kept


def measure(key: str) -> dict[str, Any]:
    """Fold one network, and let the others try: the row of the table."""
    name, _, gamma = key.partition("@")
    module, inputs = build(name)
    randomise(module, inputs, gamma)
    before = {path: value.clone() for path, value in module.state_dict().items()}
    handler = Float64Difference()
    log = logging.getLogger("bnfold.modules")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    start = time.perf_counter()
    try:
        folded, ledger = bnfold.fold(module, inputs)
    except BnfoldError as error:
        return {"network": key, "failure": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - start
    own, ours = errors(module, folded, inputs)
    after = module.state_dict()
    return {
        "network": key, "failure": None, "found": ledger.found, "absorbed": ledger.absorbed, "kept": ledger.kept,
        "graph": kept_by_graph(module, inputs), "float64": handler.largest, "error": ours / own if own else None,
        "unchanged": after.keys() == before.keys() and all(torch.equal(after[path], before[path]) for path in before),
        "same_class": type(folded) is type(module), "class": type(module).__name__, "left": n_norms(folded),
        "seconds": seconds,
        "reasons": [f"{entry.name}: {entry.reason}" for entry in ledger.entries if entry.outcome == "kept"],
        "others": others(module, inputs),
    }  # fmt: skip


@torch.no_grad()
def others(module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
    """What other tools make of the same network."""
    expected, found = flat(module(*inputs)), {}
    tools: dict[str, Callable[[nn.Module], nn.Module]] = {"fx": _fuse, "timm": _reparameterize}
    for tool, function in tools.items():
        try:
            made = function(copy.deepcopy(module)).eval()
            pairs = zip(expected, flat(made(*inputs)), strict=True)
            largest = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
            found[tool] = {"left": n_norms(made), "difference": largest, "class": type(made).__name__}
        except Exception as error:  # noqa: BLE001 - another project's tool may raise anything; the table says so
            found[tool] = {"failure": f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]}
    return found


def _fuse(module: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse

    return fuse(module)


def _reparameterize(module: nn.Module) -> nn.Module:
    from timm.utils.model import reparameterize_model

    return reparameterize_model(module)  # type: ignore[no-any-return]


def show(row: dict[str, Any]) -> str:
    """A row as lines: the figures, what the others made of it, and the first reasons."""
    if row["failure"]:
        return f"{row['network']:42} {row['failure']}"
    verdict = "same class" if row["same_class"] else "ANOTHER CLASS"
    line = ROW.format(
        row["network"], row["found"], row["kept"], row["graph"], f"{row['float64']:.0e}", _times(row["error"]),
        "yes" if row["unchanged"] else "NO", f"{row['seconds']:.1f}",
        verdict + ("" if row["kept"] <= row["graph"] else ", KEPT MORE THAN THE GRAPH"),
    )  # fmt: skip
    told = "; ".join(f"{tool}: {_other(result)}" for tool, result in row["others"].items())
    kept = row["reasons"]
    more = [f"    and {len(kept) - 3} more"] if len(kept) > 3 else []
    return "\n".join([line, f"    {told}", *(f"    kept {reason}" for reason in kept[:3]), *more])


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _other(result: dict[str, Any]) -> str:
    if "failure" in result:
        return str(result["failure"])
    return f"{result['left']} left, {result['difference']:.0e}, {result['class']}"


def in_process(key: str) -> dict[str, Any]:
    """The row of a network, measured in a process of its own."""
    command = [sys.executable, __file__, WORKER, key]
    try:
        done = subprocess.run(command, check=True, text=True, capture_output=True, timeout=LIMIT_S)
    except subprocess.CalledProcessError as error:
        return {"network": key, "failure": "; ".join(error.stderr.strip().splitlines()[-1:])}
    except subprocess.TimeoutExpired:
        return {"network": key, "failure": f"more than {LIMIT_S} s"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    """Print the table."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == [WORKER]:
        print(json.dumps(measure(sys.argv[2])))
        return
    arguments = parse(__doc__, names())
    arguments.names = [key for name in arguments.names for key in ([name] if "@" in name else _each_gamma(name))]
    print(ROW.format("network", "found", "kept", "graph", "float64", "error", "bits", "s", "result"))
    rows = measured_rows(arguments, in_process, show)
    if arguments.markdown:
        from modules.page import write_page

        write_page(rows, arguments.markdown)


def _each_gamma(name: str) -> list[str]:
    return [f"{name}@{gamma}" for gamma in GAMMAS]


if __name__ == "__main__":
    main()
