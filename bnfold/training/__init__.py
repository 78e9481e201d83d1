"""Training: tasks, data sets, the loop, run folders."""
