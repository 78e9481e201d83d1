"""float16 for CUDA: a folded graph whose values stay in range, with float32 where they cannot.

| stage | module |
|---|---|
| the largest magnitudes of every value, by channel | `peaks.py` |
| channels in units of powers of two, so that they come into range | `units.py` |
| which operators stay in float32, and why | `islands.py` |
| the file, with a Cast at each border | `write.py` |
| the file as a GPU computes it, on the CPU | `simulate.py` |
| every parameter derived a second time | `bnfold.derivation.half` |
| from a graph and samples to the file, and its proof | `convert.py`, `prove.py` |

Ranges are judged, not runs: ONNX Runtime's CPU provider computes float16 in float32, which hides overflow.
"""
