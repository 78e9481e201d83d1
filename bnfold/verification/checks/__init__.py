"""Whether what was executed is equal: each check takes answers and gives findings."""
