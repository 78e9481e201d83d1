"""The command line: one small file per command. Parses, calls a workflow, renders."""
