"""From a source to a plain ONNX graph, and from a folded graph to the file that ships."""

from __future__ import annotations

from bnfold.export.facts import count_batchnorms, count_macs, count_nodes, graph_facts
from bnfold.export.file_metadata import complete_facts, write_facts
from bnfold.export.finish import finish
from bnfold.export.plain import plain_export, plain_graph
from bnfold.export.save import save

__all__ = [
    "complete_facts",
    "count_batchnorms",
    "count_macs",
    "count_nodes",
    "finish",
    "graph_facts",
    "plain_export",
    "plain_graph",
    "save",
    "write_facts",
]
