"""The BatchNorms that each tool leaves: scripts/survey.py."""
