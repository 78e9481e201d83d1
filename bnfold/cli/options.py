"""Options that mean the same in every command."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from bnfold.cli.log_lines import configure_logging
from bnfold.cli.outputs import refuse_overwriting, writable
from bnfold.cli.parameter_types import Batches, InputShape, NamedAxes, NamedPath, NamedSize
from bnfold.runtime.providers import provider_names
from bnfold.workflows.arguments import MAX_THREADS

__all__ = [
    "VERBOSITY",
    "batch_option",
    "comparison_options",
    "dim_option",
    "dim_options",
    "dynamic_option",
    "input_shape_option",
    "interface_options",
    "json_option",
    "metadata_options",
    "provider_option",
    "seed_option",
    "session_option",
    "source_options",
    "threads_option",
    "verbosity_options",
]

F = TypeVar("F", bound=Callable[..., Any])
VERBOSITY = "bnfold.verbosity"
"""Key of `click.Context.meta`: the logging level of this call (logging.WARNING with -q, logging.DEBUG with -v)."""


def _set_verbosity(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        return
    if VERBOSITY in ctx.meta and ctx.get_parameter_source(str(param.name)) is ParameterSource.DEFAULT_MAP:
        return  # the command line has said otherwise
    if VERBOSITY in ctx.meta:
        raise click.UsageError("--quiet and --verbose exclude each other.", ctx)
    ctx.meta[VERBOSITY] = logging.WARNING if param.name == "quiet" else logging.DEBUG
    configure_logging(ctx.meta[VERBOSITY])


def verbosity_options(function: F) -> F:
    """Add -q/--quiet and -v/--verbose; they set up logging and pass nothing to the command.

    Code that draws progress asks `logging.getLogger("bnfold").isEnabledFor(logging.INFO)`.
    """
    quiet = click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, is_eager=True, callback=_set_verbosity,
        help="Print results and errors only.",
    )  # fmt: skip
    verbose = click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, is_eager=True, callback=_set_verbosity,
        help="Print details, and a traceback where something fails.",
    )  # fmt: skip
    return quiet(verbose(function))


def provider_option(function: F) -> F:
    """Add --provider; the command gets `provider: str`, the name of one."""
    return click.option(
        "--provider", type=click.Choice(provider_names()), default="cpu", show_default=True,
        help="Where ONNX Runtime runs. Exit code 4 where it does not load; never another one instead.",
    )(function)  # fmt: skip


def threads_option(function: F) -> F:
    """Add --threads; the command gets `threads: int | None`, None for every CPU this process may use."""
    return click.option(
        "--threads", type=click.IntRange(min=1, max=MAX_THREADS), default=None, metavar="N",
        help="Threads of one operator.  [default: the CPUs this process may use]",
    )(function)  # fmt: skip


def session_option(function: F) -> F:
    """Add --session; the command gets `session: Path | None`."""
    return click.option(
        "--session", type=NamedPath(), default=None, metavar="FILE",
        help="A session.json of bnfold tune: its provider, threads and options, in place of those given here.",
    )(function)  # fmt: skip


def batch_option(default: tuple[int, ...]) -> Callable[[F], F]:
    """Add --batch with its default; the command gets `batch: tuple[int, ...]`."""
    return click.option(
        "--batch", type=Batches(), default=",".join(map(str, default)), show_default=True, help="Batch sizes."
    )


def comparison_options(function: F) -> F:
    """Add --batch and --inputs; the command gets `batch: tuple[int, ...]` and `inputs: Path | None`."""
    batch = click.option(
        "--batch", type=Batches(), default=(), help="Batch sizes to compare at besides 1, 2 and 3.",
    )  # fmt: skip
    inputs = click.option(
        "--inputs", type=NamedPath(), default=None, metavar="FILE.npz|FOLDER",
        help="Compare on these: arrays by input name, as the network reads them, or a folder of images.",
    )  # fmt: skip
    return batch(inputs(function))


def metadata_options(function: F) -> F:
    """Add --classes (`classes: str | None`) and --normalize (`normalize: str | None`)."""
    classes = click.option(
        "--classes", default=None, metavar="FILE|imagenet",
        help="Class names in the order of the output, a name a line.  [default: what the source says]",
    )  # fmt: skip
    normalize = click.option(
        "--normalize", default=None, metavar="imagenet|KEY=VALUE,...",
        help="How images become the input: divide=255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,channels=bgr,"
        "crop=0.875.  [default: what the source says]",
    )  # fmt: skip
    return classes(normalize(function))


def seed_option(function: F) -> F:
    """Add --seed; the command gets `seed: int`, 0 where nothing is asked."""
    return click.option(
        "--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True, metavar="N",
        help="Seed of everything random.",
    )(function)  # fmt: skip


def json_option(function: F) -> F:
    """Add --json; the command gets `json_file: str | None`, "-" for standard output.

    With "-" a command prints no table: standard output holds the JSON and nothing else. A file that the command reads,
    or that cannot be written, is refused before the command runs.
    """

    @wraps(function)
    def checked(*arguments: Any, **parameters: Any) -> Any:
        refuse_overwriting(parameters)
        return function(*arguments, **parameters)

    option = click.option(
        "--json", "json_file", type=click.Path(allow_dash=True), default=None, metavar="FILE", callback=writable,
        help="Write the report as JSON; - for standard output, which then holds nothing else.",
    )  # fmt: skip
    return option(cast("F", checked))


def input_shape_option(function: F) -> F:
    """Add --input-shape, once per input; the command gets `input_shapes: tuple[tuple[int, ...], ...]`."""
    return click.option(
        "--input-shape", "input_shapes", type=InputShape(), multiple=True, metavar="1xCxHxW",
        help="Shape of an input, batch first, where it cannot be known; once per input, in their order.",
    )(function)  # fmt: skip


def _as_mapping(ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, int], ...]) -> dict[str, int]:
    names = [name for name, _ in value]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise click.BadParameter(f"{twice!r} is given twice.", ctx, param)
    return dict(value)


def dim_option(more: str = "") -> Callable[[F], F]:
    """Add --dim; the command gets `dims: dict[str, int]`."""
    return click.option(
        "--dim", "dims", type=NamedSize(), multiple=True, metavar="NAME=N", callback=_as_mapping,
        help="Size of a dynamic axis of an .onnx file, by its name there (INPUT[AXIS] where it has none); repeatable."
        + more,
    )  # fmt: skip


def dim_options(function: F) -> F:
    """Add --dim (`dims: dict[str, int]`) and --batch-dim (`batch_dim: str | None`)."""
    dim = dim_option(" Sizes that are not given are tried.")
    batch = click.option(
        "--batch-dim", default=None, metavar="NAME",
        help="The dynamic axis of an .onnx file that counts the samples, on any axis of any input.  [default: one "
        "called batch, batch_size, bs or n, else axis 0]",
    )  # fmt: skip
    return dim(batch(function))


def _by_input(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, dict[int, str]], ...]
) -> dict[str, dict[int, str]] | None:
    found: dict[str, dict[int, str]] = {}
    for name, axes in value:
        twice = set(axes) & set(found.get(name, {}))
        if twice:
            raise click.BadParameter(f"axis {min(twice)} of {name!r} is named twice.", ctx, param)
        found.setdefault(name, {}).update(axes)
    return found or None


def _names(*_: Any) -> tuple[str, ...] | None:
    given: tuple[str, ...] = _[2]
    return tuple(part.strip() for each in given for part in each.split(",")) or None


def dynamic_option(function: F) -> F:
    """Add --dynamic; the command gets `dynamic_shapes: dict[str, dict[int, str]] | None`."""
    return click.option(
        "--dynamic", "dynamic_shapes", type=NamedAxes(), multiple=True, metavar="INPUT:AXIS=NAME[,...]",
        callback=_by_input,
        help="Axes of a PyTorch network that stay dynamic besides the batch: x:0=batch,2=height,3=width; repeatable.",
    )(function)  # fmt: skip


def interface_options(function: F) -> F:
    """Add --dynamic, --input-names and --output-names (`input_names`, `output_names: tuple[str, ...] | None`)."""
    inputs = click.option(
        "--input-names", multiple=True, metavar="NAME[,...]", callback=_names,
        help="Names of the file's inputs, in order.  [default: those of forward, or of the file]",
    )  # fmt: skip
    outputs = click.option(
        "--output-names", multiple=True, metavar="NAME[,...]", callback=_names,
        help="Names of the file's outputs, in order.",
    )  # fmt: skip
    return dynamic_option(inputs(outputs(function)))


def source_options(function: F) -> F:
    """Add what a SOURCE may need: --weights (`weights: Path | None`), --pretrained (bool), --input-shape, --dim.

    And --input-dtype: `input_dtypes: tuple[str, ...] | None`, names that `load_source` judges.
    """
    dtypes = click.option(
        "--input-dtype", "input_dtypes", multiple=True, metavar="DTYPE[,...]",
        callback=lambda _, __, given: tuple(part.strip() for each in given for part in each.split(",")) or None,
        help="Type of an input, for Python code: int64; once per input or with commas, in the order of forward.",
    )  # fmt: skip
    weights = click.option(
        "--weights", type=NamedPath(), default=None, metavar="FILE",
        help="Parameters of the network: .safetensors, or .pt read with weights_only.",
    )  # fmt: skip
    pretrained = click.option(
        "--pretrained", is_flag=True, help="Take the published parameters of a timm or torchvision name; may download."
    )
    return weights(pretrained(input_shape_option(dim_options(dtypes(function)))))
