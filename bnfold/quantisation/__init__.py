"""int8: a folded graph becomes integers where that is faster, with its error measured and its file proven.

| stage | module |
|---|---|
| samples, part held out | `samples.py` |
| the graph in the form that has integer kernels | `prepare.py` |
| which operators can be in integers, and which are | `operators.py`, `placement.py` |
| what they cost, and the plan of least time | `costs/`, `costs.py`, `cheapest.py`, `plans.py` |
| units of least noise | `gradients.py`, `sensitivity.py`, `noise.py`, `gauge.py` |
| ranges, means and moments, streamed | `calibrate.py`, `ranges.py`, `moments.py` |
| scales, zero points, integer weights and biases | `grids.py`, `nearest_plane.py`, `digits.py` |
| the file with QuantizeLinear and DequantizeLinear | `write.py` |
| biases corrected, layer after layer | `steps.py`, `correct.py` |
| the proof | `simulate.py`, `float_nodes.py`, `integer_kernels.py`, `kernels.py`, `prove.py`, `bnfold.derivation` |
| what it costs | `measure_error.py` |
"""
