"""Where a failure begins: the first node, and the layer of the user's, that diverges from the source."""
