"""Print what `bnfold fold-export` costs beside `torch.onnx.export` alone, in CPU seconds of whole processes.

    python scripts/tool_cost.py [--runs 3] [--random] [--json FILE] [NAME ...]
    python scripts/tool_cost.py --files FILE.onnx ...

NAME is a network of timm; without names, the seven that docs/cost.md shows. Two kinds of processes run in turns, each
`--runs` times: one that only builds the network and calls `torch.onnx.export` with a dynamic batch, and
`bnfold fold-export timm:NAME --budget 0`. Both are whole, from the start of the interpreter to its end, with what their
own children take (`wait4`); of several runs the least counts, since other work on the machine only adds. `ratio` is the
one over the other; the stages are CPU seconds inside of `fold-export`, `certificate` is a part of `verify` and followed
by its ratio to the export alone, and `rest` is imports and what lies between the stages. `MB` are the peaks of resident
memory, of the export and of `fold-export`.

timm starts the last scale of each residual block at 0, so that bnfold removes half of a network; `--random` gives both
processes random scales instead.

`--json` appends a line for every network; what it holds already is not measured again.

`--files` takes `.onnx` files of any maker through `fold-export` and prints CPU seconds and stages alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NETWORKS = (
    "resnet18", "resnet50", "mobilenetv2_100", "efficientnet_b0", "ghostnetv3_100", "mobileone_s0", "densenet121",
)  # fmt: skip
STAGES = ("load", "export", "fold", "simplify", "verify")
MB = 10**6
ROW = "{:24} {:>7} {:>11} {:>6}" + " {:>8}" * len(STAGES) + " {:>11} {:>6} {:>6} {:>6} {:>6}"


def network(name: str, *, random: bool) -> Any:
    """The network, in eval mode."""
    import timm

    module = timm.create_model(name).eval()
    if random:
        from common.networks import randomise

        randomise(module, "positive", seed=1)
    return module


def export(name: str, folder: Path, *, random: bool) -> None:
    """What a user does without bnfold."""
    import torch

    module = network(name, random=random)
    inputs = (torch.randn(2, *module.pretrained_cfg["input_size"]),)
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(module, inputs, folder / "plain.onnx", dynamo=True, dynamic_shapes=batch, verbose=False)


def fold(source: str, folder: Path, extra: list[str]) -> None:
    """The command, in this process, with the CPU seconds of its stages written to a file."""
    import bnfold.verification.verdict
    from bnfold.cli.main import main
    from bnfold.workflows.stopwatch import Stopwatch

    seconds: dict[str, float] = {}
    timed: Any = Stopwatch.stage

    @contextlib.contextmanager
    def stage(watch: Any, name: str) -> Iterator[None]:
        start = time.process_time()
        with timed(watch, name):
            yield
        seconds[name] = time.process_time() - start

    gate: Any = bnfold.verification.verdict
    proven = gate.certified

    def certified(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        found = proven(*arguments, **options)
        seconds["certificate"] = seconds.get("certificate", 0.0) + time.process_time() - start
        return found

    watch: Any = Stopwatch
    watch.stage, gate.certified = stage, certified
    sys.argv = ["bnfold", "fold-export", source, "-o", str(folder / "out"), "--budget", "0", "-q", *extra]
    try:
        main()
    finally:
        (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")


def measured(arguments: list[str]) -> dict[str, float]:
    """CPU seconds and peak memory of a process of this script, with its children; and the stages that it names."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", __file__, *arguments, "--folder", folder]
        nothing = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=nothing)
        _, status, usage = os.wait4(pid, 0)
        if code := os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(arguments)}: exit code {code}")
        stages = Path(folder) / "seconds.json"
        found = json.loads(stages.read_text(encoding="utf-8")) if stages.exists() else {}
        return found | {"cpu": usage.ru_utime + usage.ru_stime, "peak": 1024 * usage.ru_maxrss}


def least(runs: list[dict[str, float]]) -> dict[str, float]:
    """The run that took the least."""
    return min(runs, key=lambda run: run["cpu"])


def stage_cells(run: dict[str, float]) -> list[str]:
    """Of the stages, in their order."""
    return [f"{run.get(stage, 0.0):.2f}" for stage in STAGES]


def network_costs(name: str, n_runs: int, *, random: bool) -> list[dict[str, float]]:
    """The least of the exports alone, and of `fold-export`."""
    extra = ["--random"] if random else []
    plain: list[dict[str, float]] = []
    folded: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as weights:
        if random:
            measured(["--write-weights", name, "--weights", f"{weights}/weights.safetensors"])
        given = ["--weights", f"{weights}/weights.safetensors"] if random else []
        for _ in range(n_runs):
            plain.append(measured(["--export", name, *extra]))
            folded.append(measured(["--fold", f"timm:{name}", *given]))
    return [least(plain), least(folded)]


def costs(names: list[str], n_runs: int, memory: Path | None, *, random: bool) -> None:
    """Print the table of networks, and the geometric mean of the ratios."""
    lines = memory.read_text(encoding="utf-8").splitlines() if memory is not None and memory.exists() else []
    known: dict[str, list[dict[str, float]]] = dict(map(json.loads, lines))
    print(ROW.format("network", "export", "fold-export", "ratio", *STAGES, "certificate", "ratio", "rest", "MB", "MB"))
    ratios = []
    for name in names:
        a, b = known.get(name) or network_costs(name, n_runs, random=random)
        if name not in known and memory is not None:
            with memory.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, [a, b]]) + "\n")
        ratios.append(b["cpu"] / a["cpu"])
        rest = b["cpu"] - sum(b.get(stage, 0.0) for stage in STAGES)
        cells = [name, f"{a['cpu']:.2f}", f"{b['cpu']:.2f}", f"{ratios[-1]:.2f}", *stage_cells(b)]
        cells += [f"{b.get('certificate', 0.0):.2f}", f"{b.get('certificate', 0.0) / a['cpu']:.2f}", f"{rest:.2f}"]
        print(ROW.format(*cells, *(f"{run['peak'] / MB:.0f}" for run in (a, b))), flush=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean {mean:.2f}, largest {max(ratios):.2f}")


def file_costs(files: list[str], n_runs: int) -> None:
    """Print the table of files."""
    print(ROW.format("file", "", "fold-export", "", *STAGES, "certificate", "", "rest", "", "MB"))
    for file in files:
        run = least([measured(["--fold", file]) for _ in range(n_runs)])
        rest = run["cpu"] - sum(run.get(stage, 0.0) for stage in STAGES)
        cells = ["/".join(Path(file).parts[-2:])[-24:], "", f"{run['cpu']:.2f}", "", *stage_cells(run)]
        cells += [f"{run.get('certificate', 0.0):.2f}", "", f"{rest:.2f}", "", f"{run['peak'] / MB:.0f}"]
        print(ROW.format(*cells), flush=True)


def write_weights(name: str, path: Path) -> None:
    """The parameters of the network with random scales."""
    from safetensors.torch import save_file

    save_file(network(name, random=True).state_dict(), path)


def main() -> None:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--files", action="store_true", help="NAME are .onnx files")
    parser.add_argument("--export", help=argparse.SUPPRESS)
    parser.add_argument("--fold", help=argparse.SUPPRESS)
    parser.add_argument("--write-weights", help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.export, arguments.folder, random=arguments.random)
    elif arguments.write_weights:
        write_weights(arguments.write_weights, Path(arguments.weights))
    elif arguments.fold:
        fold(arguments.fold, arguments.folder, ["--weights", arguments.weights] if arguments.weights else [])
    elif arguments.files:
        file_costs(arguments.names, arguments.runs)
    else:
        costs(arguments.names, arguments.runs, arguments.json, random=arguments.random)


if __name__ == "__main__":
    main()
