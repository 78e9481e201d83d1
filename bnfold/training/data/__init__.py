"""Data sets: inputs and targets in three splits, normalised and shaped as the network takes them."""

from bnfold.training.data.batches import SPLITS, Batch, DataSet, IndexedData, MemoryData, Split
from bnfold.training.data.registry import DATA_SETS, make_data
from bnfold.training.data.splits import stratified_split

__all__ = [
    "DATA_SETS",
    "SPLITS",
    "Batch",
    "DataSet",
    "IndexedData",
    "MemoryData",
    "Split",
    "make_data",
    "stratified_split",
]
