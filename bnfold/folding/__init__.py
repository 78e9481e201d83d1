"""The fold core: BatchNorms vanish into the weights around them."""
