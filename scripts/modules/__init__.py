"""Networks folded in memory: scripts/fold_modules.py."""
