"""Which options of `bnfold bench` go together."""

from __future__ import annotations

from typing import Any

import click

from bnfold.runtime.providers import provider_spec

__all__ = ["check_usage"]


def check_usage(
    *, slo_s: float | None, input_shapes: tuple[tuple[Any, ...], ...], picture: Any, **options: Any
) -> None:
    """Refuse options that do not go together, or that change nothing.

    Raises:
        click.UsageError: the first such option.
    """
    wrong = {
        "--picture wants a file that ends in .svg or .png.": picture is not None
        and picture.suffix.lower() not in (".svg", ".png"),
        "give equally many shapes in each --input-shape: the n-th ones belong together.": len(
            {len(shapes) for shapes in input_shapes}
        )
        > 1,
        "--fail-if-slower wants --baseline FILE or --fail-if-slower-than NAME.": options["fail_if_slower"] is not None
        and options["baseline"] is None
        and options["fail_if_slower_than"] is None,
        "--baseline wants --fail-if-slower 3%, the limit it is held to.": options["baseline"] is not None
        and options["fail_if_slower"] is None,
        "--source, --weights and --pretrained want --against PEER[,...], the peers to build.": not options["against"]
        and (options["source"] is not None or options["weights"] is not None or options["pretrained"]),
        "--against wants --source SOURCE, which the peers are built from.": options["against"]
        and options["source"] is None,
        "--inputs and --data are for --against ort-static or ort-static-best.": not any(
            peer.startswith("ort-static") for peer in options["against"]
        )
        and (options["inputs"] is not None or options["data"] is not None),
        "--inputs and --data exclude each other.": options["inputs"] is not None and options["data"] is not None,
        "--slo-p95 is the limit of --mode open-loop.": slo_s is not None and options["mode"] != "open-loop",
        "--concurrency wants --mode throughput or open-loop.": options["concurrency"] is not None
        and options["mode"] == "latency",
        "--cuda-graph wants --provider cuda.": options["cuda_graph"]
        and all(provider_spec(name).graph_options is None for name in options["provider"]),
        "a CUDA graph serves one request at a time: leave out --cuda-graph or --mode.": options["cuda_graph"]
        and options["mode"] != "latency",
    }
    for sentence, holds in wrong.items():
        if holds:
            raise click.UsageError(sentence)
