"""What folding and verification cost: scripts/fold_speed.py and scripts/verify_cost.py."""
