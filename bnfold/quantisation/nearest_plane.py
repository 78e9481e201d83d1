"""Integers of a weight whose errors cancel in what its layer computes.

    least over q of e^T H e        e = s q - w        H of what w is multiplied with, see `moments`

Nearest to w in this metric is a closest vector of a lattice. Babai's nearest plane (1986) rounds one weight after the
other, each where it makes up best for the errors of those before; in layers of networks Frantar et al. (2022, GPTQ)
do the same:

    H = R^T R, R upper triangular        q_k = round((w_k - sum_(j > k) R_kj / R_kk e_j) / s)

Inputs of the largest mean square go first.
"""

from __future__ import annotations

import numpy as np

__all__ = ["nearest_plane"]

TIE = 2.0**20  # a fraction of a step in which a half is a half, whatever was rounded on the way
BLOCK = 64
Array = np.ndarray


def nearest_plane(w: Array, steps: Array, limit: int, moments: Array) -> Array:
    """Whole numbers, as floats.

    Args:
        w: rows of weights, (M, K) in float64.
        steps: one for each row, (M,), or one for all, ().
        limit: the largest magnitude.
        moments: H, (K, K), positive definite.
    """
    order = np.argsort(np.diag(moments), kind="stable")
    upper = np.linalg.cholesky(moments.astype(np.float64)[np.ix_(order, order)]).T
    upper /= np.diag(upper)[:, None].copy()
    step = steps.reshape(-1, 1)
    exact = w[:, order]
    whole, errors = np.zeros_like(exact), np.zeros_like(exact)
    n = len(order)
    for end in range(n, 0, -BLOCK):
        first = max(0, end - BLOCK)
        wanted = exact[:, first:end] - errors[:, end:] @ upper[first:end, end:].T
        for k in range(end - 1, first - 1, -1):
            own = wanted[:, [k - first]] - errors[:, k + 1 : end] @ upper[k : k + 1, k + 1 : end].T
            q = np.clip(np.rint(np.rint(own / step * TIE) / TIE), -limit, limit)
            whole[:, [k]], errors[:, [k]] = q, q * step - exact[:, [k]]
    found = np.empty_like(whole)
    found[:, order] = whole
    return found
