"""Wrong files, made on purpose: scripts/mutations.py."""
