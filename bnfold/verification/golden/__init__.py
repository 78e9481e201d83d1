"""Golden values: what a source has computed, by which a file is judged without it."""
