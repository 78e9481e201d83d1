"""The sentences that say why a BatchNorm stays: the one place where they are made, from the data of `causes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from bnfold.records.causes import Cause, Cycle, Growth, Held, HeldSign, Holder, Overflow, Refusal, Stays, ZeroScale
from bnfold.records.input_format import PreprocessingFold

__all__ = ["REFUSALS", "preprocessing_sentence", "reason"]

# Of a refusal: by its cause and the part of the operator that it is about. `{part}` and `{found}` are filled in.
REFUSALS: Mapping[tuple[Cause, str], str] = {
    (Cause.NO_RULE, "attribute"): "bnfold does not know its attribute {found}",
    (Cause.NO_RULE, "attribute value"): "{found} is not supported",
    (Cause.NO_RULE, "axes"): "it normalises over several axes",
    (Cause.NO_RULE, "beta"): "with beta = 0 it ignores its bias",
    (Cause.NO_RULE, "broadcast"): "its constant adds axes to the data",
    (Cause.NO_RULE, "channel padding"): "it pads the axis along which the units differ",
    (Cause.NO_RULE, "constant of several axes"): "its constant varies along several axes",
    (Cause.NO_RULE, "constant operand"): "it adds a constant",
    (Cause.NO_RULE, "constant part"): "it joins a constant",
    (Cause.NO_RULE, "constant per channel"): "its constant is not one per channel",
    (Cause.NO_RULE, "gate"): "a gate keeps the scale of its smaller operand",
    (Cause.NO_RULE, "indices"): "the indices of its maxima are used",
    (Cause.NO_RULE, "matrix"): "it is not (..., K) times a constant matrix (K, N)",
    (Cause.NO_RULE, "maximum of data"): "it does not compare the data with one constant",
    (Cause.NO_RULE, "minuend"): "it subtracts the data from a constant",
    (Cause.NO_RULE, "resized axes"): "it resizes the batch or the channels",
    (Cause.NO_RULE, "scalar"): "its data is one number",
    (Cause.NO_RULE, "scale per group"): "its scale is per group",
    (Cause.NO_RULE, "spatial"): "it normalises every position by itself (spatial=0)",
    (Cause.NO_RULE, "table"): "it neither reads a constant table nor picks constant positions",
    (Cause.UNKNOWN_SHAPE, "channels"): "its input has an unknown number of axes, or no axis of as many channels",
    (Cause.UNKNOWN_SHAPE, "indices"): "the rank of its indices is unknown",
    (Cause.UNKNOWN_SHAPE, "input"): "the rank of its input is unknown",
    (Cause.UNKNOWN_SHAPE, "operands"): "the shapes of its operands are unknown",
    (Cause.UNKNOWN_SHAPE, "output"): "the rank of its output is unknown",
    (Cause.UNKNOWN_SHAPE, "parts"): "the lengths of its parts are unknown",
    (Cause.UNKNOWN_SHAPE, "regrouped axes"): "its shapes are not known well enough to follow the channels",
    (Cause.UNKNOWN_SHAPE, "shapes"): "its shapes are unknown",
    (Cause.UNKNOWN_SHAPE, "sliced axis"): "the length of the axis it slices is unknown",
    (Cause.FAILED_RULE, ""): "{part} failed ({found}): report it",
    (Cause.NONLINEAR, "bounds"): "its bounds are given in the units of its input",
    (Cause.NONLINEAR, "cast"): "it casts between floats and other types",
    (Cause.NONLINEAR, "divisor"): "it divides a constant by the data",
    (Cause.PADDING, "extrapolation"): "it extrapolates with a constant",
    (Cause.PADDING, "fill"): "it pads with a constant other than 0",
    (Cause.FUSED_KERNEL, ""): "it is part of a {found}, which runtimes compute in one kernel",
    (Cause.TRAINING_MODE, ""): "it is in training mode",
    (Cause.BATCH_STATISTICS, ""): "its statistics are outputs",
    (Cause.NOT_CONSTANT, "axes"): "its axes are not constant",
    (Cause.NOT_CONSTANT, "axes or steps"): "its axes or steps are not constant",
    (Cause.NOT_CONSTANT, "bias"): "its bias is not a constant",
    (Cause.NOT_CONSTANT, "bounds"): "its bounds are not constant",
    (Cause.NOT_CONSTANT, "input weights"): "its input weights are not constants",
    (Cause.NOT_CONSTANT, "parameters"): "its parameters are not constants",
    (Cause.NOT_CONSTANT, "positions"): "it picks positions that are not constant",
    (Cause.NOT_CONSTANT, "scale and bias"): "its scale and bias are not constants of one axis",
    (Cause.NOT_CONSTANT, "slope"): "its slope is not a constant",
    (Cause.NOT_CONSTANT, "weight"): "its weight is not a constant",
    (Cause.NOT_CONSTANT, "widths"): "its widths are not constant",
    (Cause.REPLACEABLE, ""): "`{found}` is an input, whose value a caller may replace: take it off the graph's inputs",
    (Cause.NO_PARAMETER, "bias"): "the module has no bias there that could be written",
    (Cause.NO_PARAMETER, "calls"): "`{found}` is called several times, and cannot vanish in all of them",
    (Cause.NO_PARAMETER, "constant"): "a constant of it is no parameter of the module",
    (Cause.NO_PARAMETER, "scope"): "it stands inside a condition or a loop, whose body is not written back",
    (Cause.NO_PARAMETER, "shared"): "it shares its parameters with others in other units",
    (Cause.INVALID, "bias"): "its bias has {found} axes",
    (Cause.INVALID, "channels"): "its input has another number of channels",
    (Cause.INVALID, "divisor"): "it divides by 0",
    (Cause.INVALID, "input"): "its input is missing",
    (Cause.INVALID, "parameters"): "its parameters are not one for each channel",
    (Cause.INVALID, "squeezed axis"): "it removes an axis whose length is not 1",
}


def reason(stays: Stays) -> str:
    """The sentence that says why a BatchNorm stays, without its name."""
    match stays:
        case Refusal():
            return _refusal(stays)
        case Held():
            return f"{stays.units} {_sides(stays)}"
        case HeldSign(channel=channel, holder=holder):
            return f"scale of channel {channel} is negative, and its sign is held by {_holder(holder)}"
        case Cycle(channel=channel):
            return f"scale of channel {channel}: input and output share one scale, a cycle around it"
        case ZeroScale(channel=channel, before=Holder() as before, after=Holder() as after):
            more = "" if before.name else " besides this BatchNorm"
            return f"channel {channel} has scale 0: its input {_use(before)}{more}, and its output {_use(after)}"
        case ZeroScale(channel=channel):
            return f"channel {channel} shares its units with a channel of scale 0"
        case Growth(channel=channel, value=value, times=times):
            return (
                f"conditioning: channel {channel} has gamma so small that its offset would be stored at {times:.3g} "
                f"times the magnitude of `{value}`, which others read"
            )
        case Overflow(parameter=parameter, dtype=dtype):
            return f"its scale takes `{parameter}` beyond the range of {dtype}"
        case _:
            assert_never(stays)


def _refusal(refusal: Refusal) -> str:
    text = REFUSALS.get((refusal.cause, refusal.part)) or REFUSALS[refusal.cause, ""]
    return text.format(part=refusal.part, found=refusal.found)


def _sides(held: Held) -> str:
    before, after = held.before, held.after
    if before is not None and after is not None and before != after:
        return f"pinned by {_holder(before)} on its input and by {_holder(after)} on its output"
    one = before or after
    return "caught in a cycle of operators that share their units" if one is None else f"pinned by {_holder(one)}"


def _holder(holder: Holder) -> str:
    """What holds, as the object of a sentence."""
    operator = f"{holder.operator} `{holder.name}`"
    if holder.refusal is not None:
        return f"{operator} ({_refusal(holder.refusal)})"
    match holder.cause:
        case Cause.GRAPH_INPUT:
            return f"graph input `{holder.name}`"
        case Cause.GRAPH_OUTPUT:
            return f"graph output `{holder.name}`"
        case Cause.SHARED:
            return f"the units chosen for `{holder.name}`"
        case Cause.CAPTURED:
            own = f"`{holder.name}`, which is of the graph around its own"
            return f"{operator}, which captures it" if holder.operator else own
        case Cause.NO_RULE:
            return f"{operator} (bnfold has no rule for it yet)"
        case Cause.PADDING:
            return f"{_PADDED.get(holder.operator, 'zero padding of')} {operator}"
        case _:
            return operator


_PADDED = {"AveragePool": "padded zeros counted by", "ConvTranspose": "the borders of"}


def _use(holder: Holder) -> str:
    """What else stands on one side of a channel of scale 0, as the predicate of a clause."""
    if holder.name:
        return f"is held by {_holder(holder)}"
    if holder.cause == Cause.NONLINEAR:
        return "is read by operators that are not linear"
    return "has several readers, or none that is linear"


def preprocessing_sentence(fold: PreprocessingFold) -> str:
    """Where the preprocessing of pixels is."""
    resized = "; nodes in front resize the image, compared on inputs" if fold.resized else ""
    if fold.outcome == "folded":
        mean = f"; the mean in a node in front, since {fold.reason}" if fold.mean_in_node else ""
        return f"in the weights of {', '.join(fold.into)}{mean}{resized}"
    return f"in nodes of its own, since {fold.reason}{resized}"
