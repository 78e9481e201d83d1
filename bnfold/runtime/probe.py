"""Does a provider really run a model? Asked with a convolution of four numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import EnvironmentNotReady
from bnfold.runtime.providers import provider_spec
from bnfold.runtime.sessions import open_session

if TYPE_CHECKING:
    from bnfold.runtime.providers import Provider

__all__ = ["run_probe"]

# A Conv, not an Add: on CUDA it needs cuDNN, too.
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
probe (float[1, 1, 2, 2] x) => (float[1, 1, 2, 2] y) <float[1, 1, 1, 1] w = {2.0}> { y = Conv (x, w) }
"""


def run_probe(provider: Provider) -> str:
    """Run a tiny model on a provider.

    Returns:
        The name of the provider that ran it.

    Raises:
        EnvironmentNotReady: ONNX Runtime or the provider does not load, or computes something else.
    """
    import numpy as np
    import onnx.parser

    session = open_session(onnx.parser.parse_model(MODEL).SerializeToString(), provider=provider, threads=1)
    values = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    (answer,) = session.run(None, {"x": values})
    if not np.array_equal(answer, 2 * values):
        raise EnvironmentNotReady(
            f"{provider_spec(provider).ort_name} computes wrong values", found=str(answer.ravel().tolist()),
            expected=str((2 * values).ravel().tolist()), remedy="reinstall ONNX Runtime, and the driver if it is a GPU",
        )  # fmt: skip
    return str(session.get_providers()[0])
