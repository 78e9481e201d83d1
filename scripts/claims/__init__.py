"""What papers say about BatchNorm, measured: scripts/claims.py."""
