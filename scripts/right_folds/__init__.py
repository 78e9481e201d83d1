"""How accurate right folds are: scripts/right_folds.py."""
