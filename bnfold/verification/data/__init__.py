"""What a file and its source are compared on: sizes, ranges, rows and feeds, and what a graph tells of its inputs."""
