"""Random networks of a dozen operators, folded and compared: no rule may be wrong among others either.

The seeds are fixed. Any other range of them must pass too: `random_graph` is where to look for a new mistake.
"""

from __future__ import annotations

import pytest
from fold_checks import check_fold
from fold_models import Parameters
from random_graphs import calibrate, random_graph

GAMMAS = ("positive", "mixed", "zeros", "tiny")


@pytest.mark.parametrize("gammas", GAMMAS)
@pytest.mark.parametrize("block", range(4))
def test_random_graphs_keep_their_function(gammas, block):
    absorbed = 0
    for seed in range(30 * block, 30 * (block + 1)):
        model, net = random_graph(Parameters(seed, dyadic=False, gammas=gammas), 8 + seed % 8)
        feed = net.feed()
        _, ledger = check_fold(calibrate(model, feed), feed, settled=gammas != "tiny")
        absorbed += ledger.absorbed + ledger.merged
    assert absorbed > 25
