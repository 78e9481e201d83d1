"""What several experiments share: networks, rows of measurements, tables, versions, the rule of times."""
