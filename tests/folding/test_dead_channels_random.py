"""Random image networks of branches, residual streams and gates, with dead channels strewn in."""

from __future__ import annotations

import numpy as np
import pytest
from fold_checks import check_fold
from fold_models import Net, Parameters

from bnfold.export import count_macs

N_SEEDS = 60
C = 4


class _Network:
    """Grows a network of values (N, C, 6, 6), and ends it with a head."""

    def __init__(self, seed: int, *, dyadic: bool) -> None:
        p = Parameters(seed, dyadic=dyadic, gammas="zeros" if seed % 3 else "mixed")
        self.rng = p.rng
        self.net = Net(p, {"x": ("N", C, *[("H", "W"), (6, 6)][int(self.rng.random() < 0.7)])})
        self.values = ["x"]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: list) -> object:
        return options[self.rng.integers(len(options))]

    def pick(self) -> str:
        return self.values[-min(int(self.rng.geometric(0.6)), len(self.values))]

    def batchnorm(self, x: str) -> str:
        return self.net.batchnorm(x, C) if self.chance(0.7) else x

    def weight(self, group: int, kernel: int) -> np.ndarray:
        """Now and then whole rows and columns are 0."""
        weight = self.net.parameters.array(C, C // group, kernel, kernel)
        for axis in (0, 1):
            if self.chance(0.3):
                zeros = self.rng.random(weight.shape[axis]) < 0.4
                weight[(slice(None),) * axis + (zeros,)] = 0
        return weight

    def conv(self, x: str) -> str:
        kernel = int(self.choose([1, 1, 2, 3, 5]))
        lead = int(self.rng.integers(0, kernel))
        dilation = 2 if kernel == 3 and self.chance(0.2) else 1
        lead, trail = lead * dilation, (kernel - 1 - lead) * dilation
        group = int(self.choose([1, 1, C, 2]))
        constants = [self.net.constant(self.weight(group, kernel))]
        if self.chance(0.6):
            constants.append(self.net.constant(self.net.parameters.array(C)))
        pads = {"pads": [lead, lead, trail, trail], "dilations": [dilation] * 2}
        return self.batchnorm(self.net.node("Conv", [x, *constants], group=group, **pads))

    def valid_conv(self, x: str) -> str:
        """Unpadded, over an edge padding of its own."""
        padded = self.net.node("Pad", [x, self.net.integers([0, 0, 1, 1, 0, 0, 1, 1])], mode="edge")
        return self.batchnorm(self.net.node("Conv", [padded, self.net.constant(self.weight(1, 3))]))

    def branches(self, x: str) -> str:
        parts = [self.branch(x) for _ in range(self.rng.integers(2, 5))]
        while len(parts) > 1:
            at = int(self.rng.integers(len(parts) - 1))
            y = self.net.node(str(self.choose(["Add", "Add", "Sub", "Sum"])), parts[at : at + 2])
            parts[at : at + 2] = [self.batchnorm(y) if self.chance(0.2) else y]
        return parts[0]

    def branch(self, x: str) -> str:
        kind = self.rng.random()
        if kind < 0.2:
            return self.batchnorm(x)
        if kind < 0.3 and not self.net.parameters.dyadic:
            counted = int(self.chance(0.6))
            return self.net.node(
                "AveragePool", [x], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=counted, ceil_mode=0
            )
        if kind < 0.45:
            factor = self.net.constant(self.net.parameters.gamma(C).reshape(C, 1, 1))
            return self.net.node("Mul", [self.conv(x), factor])
        return self.conv(x)

    def activation(self, x: str) -> str:
        return self.net.node(str(self.choose(["Relu", "Relu", "Relu", "Abs", "Identity"])), [x])

    def gate(self, x: str) -> str:
        squeezed = self.net.node("GlobalMaxPool", [x])
        hidden = self.net.node("Relu", [self.net.conv(squeezed, C, 3)])
        gate = self.net.node("Relu", [self.net.conv(hidden, 3, C)])
        return self.net.node("Mul", [x, gate])

    def pool(self, x: str) -> str:
        return self.net.node("MaxPool", [x], kernel_shape=[3, 3], pads=[1] * 4)

    def narrow(self, x: str) -> str:
        both = self.net.node("Concat", [x, self.pick()], axis=1)
        return self.batchnorm(self.net.conv(both, 2 * C, C))

    def residual(self, x: str) -> str:
        return self.net.node("Add", [self.pick(), x])

    def grow(self, n_blocks: int) -> list[str]:
        blocks = [self.conv, self.valid_conv, self.branches, self.branches, self.activation, self.activation]
        blocks += [self.gate, self.pool, self.narrow, self.residual]
        for _ in range(n_blocks):
            self.values.append(self.choose(blocks)(self.pick()))
        outputs = [self.head(self.values[-1])]
        if self.chance(0.3):
            outputs.append(self.pick())
        return outputs if outputs[-1] != "x" else outputs[:1]

    def head(self, x: str) -> str:
        net = self.net
        if self.chance(0.5) or "H" in net.inputs["x"]:
            x, length = net.node("GlobalMaxPool", [x]), C
        else:
            length = 36 * C
        flat = net.node("Flatten", [x]) if self.chance(0.5) else net.node("Reshape", [x, net.integers([-1, length])])
        y = net.gemm(flat, length, 3, bias=(3,) if self.chance(0.5) else None)
        return net.batchnorm(y, 3) if self.chance(0.5) else y


def check_seed(seed: int, *, dyadic: bool, block: int) -> None:
    network = _Network(seed, dyadic=dyadic)
    model = network.net.model(*network.grow(int(network.rng.integers(3, 7))))
    feed = {"x": network.net.parameters.array(2, C, 6, 6)}
    folded, _ = check_fold(model, feed, exact=dyadic, channel_block=block)
    before, after = count_macs(model), count_macs(folded)
    if before is not None and after is not None:
        assert after <= before


@pytest.mark.parametrize("seed", range(N_SEEDS))
@pytest.mark.parametrize("block", [1, 2])
def test_random_network(seed, block):
    """In blocks of 2, most dead channels stay as zeros."""
    check_seed(seed, dyadic=seed % 2 == 0, block=block)
