"""The constants of the verification criterion: scripts/calibrate_verification.py."""
