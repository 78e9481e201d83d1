"""What a network learns. The loop knows a task by its updates and by sums that become metrics, and nothing else."""

from bnfold.training.tasks.base import SupervisedTask, Task, Update
from bnfold.training.tasks.classification import Classification
from bnfold.training.tasks.detection import Detection
from bnfold.training.tasks.generation import Generation
from bnfold.training.tasks.registry import TASKS, make_task
from bnfold.training.tasks.segmentation import Segmentation

__all__ = [
    "TASKS",
    "Classification",
    "Detection",
    "Generation",
    "Segmentation",
    "SupervisedTask",
    "Task",
    "Update",
    "make_task",
]
