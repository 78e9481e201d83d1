"""Affine algebra and error bounds, NumPy only."""
