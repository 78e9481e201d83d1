"""Folded networks against the plain export: scripts/bench_zoo.py."""
