"""The proof that a file computes what its source computes."""
