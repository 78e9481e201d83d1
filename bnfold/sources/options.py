"""What may be said of a source beside its name: one definition, taken as keyword arguments wherever one is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TypedDict

from bnfold.records.input_shapes import check_shapes

__all__ = ["GraphOptions", "SourceOptions", "graph_options", "source_options"]


class GraphOptions(TypedDict, total=False):
    """Of a source that is an ONNX graph.

    input_shapes: one per input, axis 0 the batch, where they cannot be known or shall be others; sizes to test the
        dynamic axes of a graph with, besides the batch.
    dims: sizes of the graph's dynamic axes by name; axes that have no size yet are `None` in the inputs.
    batch_dim: the name of the axis that counts the samples; None for that of `bnfold.sources.axes`.
    runs: whether the source will be run and written, as it is by default; a graph that will only be read needs no
        sizes, and its inputs and outputs may be of any kind.
    """

    input_shapes: Sequence[tuple[int, ...]] | None
    dims: Mapping[str, int] | None
    batch_dim: str | None
    runs: bool


class SourceOptions(GraphOptions, total=False):
    """Of any source.

    weights: a weight file for a network that is named by its code.
    pretrained: load the published weights of a timm or torchvision network, which may download them.
    input_dtypes: NumPy's name of each input's type, or one for all, for a network that is Python code; None takes
        INPUT_DTYPES of its file, or the type of its parameters.
    """

    weights: str | PathLike[str] | None
    pretrained: bool
    input_dtypes: Sequence[str] | None


_OF_GRAPHS: GraphOptions = {"input_shapes": None, "dims": None, "batch_dim": None, "runs": True}
_OF_SOURCES: SourceOptions = {**_OF_GRAPHS, "weights": None, "pretrained": False, "input_dtypes": None}


def graph_options(given: GraphOptions) -> GraphOptions:
    """The options of a graph, each with its default where it is not given.

    Raises:
        InputRefused: `input_shapes` is one shape, not one for each input.
        TypeError: there is no such option.
    """
    _refuse_unknown(given, _OF_GRAPHS)
    check_shapes(given.get("input_shapes"))
    return {**_OF_GRAPHS, **given}


def source_options(given: SourceOptions) -> SourceOptions:
    """The options of a source, each with its default where it is not given.

    Raises:
        InputRefused: `input_shapes` is one shape, not one for each input.
        TypeError: there is no such option.
    """
    _refuse_unknown(given, _OF_SOURCES)
    check_shapes(given.get("input_shapes"))
    return {**_OF_SOURCES, **given}


def _refuse_unknown(given: Mapping[str, object], known: Mapping[str, object]) -> None:
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r} of a source, only {', '.join(known)}")
