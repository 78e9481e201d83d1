"""Files and networks that others made: scripts/field_table.py and scripts/never_slower.py."""
