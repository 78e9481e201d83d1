"""The tasks' metrics against values worked out by hand, and what a step of each moves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

from bnfold.errors import InputRefused
from bnfold.sources.model_file import load_model_file
from bnfold.training.data import Batch, MemoryData, make_data
from bnfold.training.loop import evaluate, fit
from bnfold.training.recipe import Recipe, read_recipe
from bnfold.training.tasks import Detection, Generation, Segmentation, make_task
from bnfold.training.tasks.boxes import centres, decoded, detections, heat_targets, iou, matched
from bnfold.training.tasks.detection import average_precision
from bnfold.training.tasks.generation import frechet_distance

NONE = torch.empty(0)


def _scores(classes: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Logits (N, n_classes, H, W) whose largest is that of the class asked for."""
    return 9.0 * nn.functional.one_hot(classes, n_classes).movedim(-1, 1).float()


def test_mean_intersection_over_union_by_hand() -> None:
    wanted = torch.tensor([[[0, 0, 0, 0], [1, 1, 2, 2]]])
    found = torch.tensor([[[0, 0, 0, 1], [1, 1, 2, 0]]])
    task = Segmentation(n_classes=4)
    logits = _scores(found, 4)
    metrics = task.metrics(task.tally(logits, Batch((NONE,), wanted)))
    # class 0: 3 of 5 pixels, class 1: 2 of 3, class 2: 1 of 2, class 3 is nowhere
    assert metrics["miou"] == pytest.approx((3 / 5 + 2 / 3 + 1 / 2) / 3)
    assert metrics["pixel_accuracy"] == pytest.approx(6 / 8)
    right, wrong = math.log(1 + 3 * math.exp(-9)), math.log(1 + 3 * math.exp(-9)) + 9
    assert metrics["loss"] == pytest.approx((6 * right + 2 * wrong) / 8, rel=1e-5)


def test_segmentation_adds_up_over_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 4, 4, generator=generator)
    wanted = torch.randint(0, 3, (5, 4, 4), generator=generator)
    task = Segmentation(n_classes=3)
    whole = task.metrics(task.tally(logits, Batch((NONE,), wanted)))
    parts = [task.tally(logits[a:b], Batch((NONE,), wanted[a:b])) for a, b in ((0, 2), (2, 5))]
    assert task.metrics(parts[0] + parts[1]) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),
        ((3, 3, 1, 1), (0, 0, 4, 4), 0.0),
    ],
)
def test_overlap_of_boxes(a: tuple[int, ...], b: tuple[int, ...], expected: float) -> None:
    assert iou(torch.tensor(a).float(), torch.tensor(b).float()).item() == pytest.approx(expected)


def test_average_precision_by_hand() -> None:
    # From sure to unsure: right, wrong, right, wrong, right; five objects, two of which are never found.
    right, wrong = torch.tensor([1.0, 0, 1, 0, 1]).flip(0), torch.tensor([0.0, 1, 0, 1, 0]).flip(0)
    # Recalls 1/5, 2/5, 3/5 with precisions 1, 2/3, 3/5.
    assert average_precision(right, wrong, 5) == pytest.approx((1 + 2 / 3 + 3 / 5) / 5)
    # A dip is levelled: 1/2 behind a wrong one becomes the 2/3 that comes later.
    dip = average_precision(torch.tensor([0.0, 1, 1]).flip(0), torch.tensor([1.0, 0, 0]).flip(0), 2)
    assert dip == pytest.approx(2 / 3)


def test_each_object_is_taken_once_and_by_its_class() -> None:
    targets = torch.tensor([[1.0, 0, 0, 10, 10], [2.0, 20, 20, 30, 30], [-1, -1, -1, -1, -1]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 10], [20, 20, 30, 30], [20, 20, 30, 26], [20, 20, 30, 24]])
    labels = torch.tensor([1, 1, 1, 2, 2])
    assert matched(labels, boxes, targets, least_iou=0.5) == [True, False, False, True, False]
    assert matched(labels[:0], boxes[:0], targets, least_iou=0.5) == []
    assert matched(labels, boxes, targets[:0], least_iou=0.5) == [False] * 5


OBJECTS = torch.tensor(
    [
        [[1.0, 2, 3, 10, 12], [0.0, 16, 16, 28, 24], [-1.0, -1, -1, -1, -1]],
        [[2.0, 8, 8, 20, 18], [-1.0, -1, -1, -1, -1], [-1.0, -1, -1, -1, -1]],
    ]
)


def _perfect(stride: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs that mean exactly OBJECTS."""
    heat, distances = torch.full((2, 3, 8, 8), -9.0), torch.ones(2, 4, 8, 8)
    objects = centres(OBJECTS, stride)
    for canvas, label, row, column, box in zip(*objects, strict=True):
        heat[canvas, label, row, column] = 5.0
        middle = (torch.stack([column, row, column, row]) + 0.5) * stride
        distances[canvas, :, row, column] = (box - middle) / stride * torch.tensor([-1, -1, 1, 1])
    return heat, distances


def test_outputs_that_mean_the_boxes_are_read_as_them() -> None:
    heat, distances = _perfect()
    scores, labels, boxes = detections(heat, distances, 4)
    assert [labels[0, :2].sort().values.tolist(), labels[1, :1].tolist()] == [[0, 1], [2]]
    assert torch.equal(boxes[1, 0], OBJECTS[1, 0, 1:])
    assert scores[1, 0] > 0.99
    assert scores[1, 1] < 0.01
    task = Detection(n_classes=3)
    metrics = task.metrics(task.tally((heat, distances), Batch((torch.zeros(2, 1, 32, 32),), OBJECTS)))
    assert metrics["ap50"] == 1


def test_wrong_boxes_and_classes_cost_precision() -> None:
    batch = Batch((torch.zeros(2, 1, 32, 32),), OBJECTS)
    task = Detection(n_classes=3)
    heat, distances = _perfect()
    shrunk = distances.clone()
    shrunk[0] *= 0.5  # a quarter of the area: class 0 and class 1 are missed, class 2 is found
    assert task.metrics(task.tally((heat, shrunk), batch))["ap50"] == pytest.approx(1 / 3)
    unsure = heat.clone()
    unsure[1, 2, 6, 6] = 6.0  # surer than the right one, and wrong
    assert task.metrics(task.tally((unsure, distances), batch))["ap50"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    one = Batch((batch.inputs[0][:1],), OBJECTS[:1])  # no object of class 2: its detections count nowhere
    assert task.metrics(task.tally((heat[:1], distances[:1]), one))["ap50"] == 1


def test_heat_falls_from_the_centre_by_the_size_of_the_box() -> None:
    heat = heat_targets(centres(OBJECTS, 4), (2, 3, 8, 8), 4)
    assert (heat == 1).sum() == 3
    # The box of class 2 is 12 wide: deviation 12 / 4 / 6 of a cell; its middle (14, 13) lies in row 3, column 3.
    assert heat[1, 2, 3, 4].item() == pytest.approx(math.exp(-1 / (2 * 0.5**2)))
    assert heat[1, 0].max() == 0


def test_detection_loss_is_least_for_the_boxes_themselves() -> None:
    batch = Batch((torch.zeros(2, 1, 32, 32),), OBJECTS)
    task = Detection(n_classes=3)
    heat, distances = _perfect()
    best = task.loss((heat, distances), batch)
    assert best < 0.01
    assert task.loss((heat, 1.3 * distances), batch) > best + 0.3
    assert task.loss((heat.roll(1, 1), distances), batch) > best + 5
    empty = Batch(batch.inputs, torch.full_like(OBJECTS, -1.0))
    assert torch.isfinite(task.loss((heat, distances), empty))


def test_decoded_boxes_lie_around_the_middle_of_the_cell() -> None:
    box = decoded(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([2]), torch.tensor([5]), 4)
    assert box.tolist() == [[22 - 4, 10 - 8, 22 + 12, 10 + 16]]


def test_frechet_distance_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + rng.normal(size=4) for _ in range(2))
    moments = [(x.mean(0), np.cov(x.T)) for x in (a, b)]
    (mean_a, cov_a), (mean_b, cov_b) = moments
    expected = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    found = frechet_distance(*(torch.from_numpy(x) for pair in moments for x in pair))
    assert found == pytest.approx(expected, rel=1e-9)


class _Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.LeakyReLU(), nn.Linear(6, 1))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.generator(latent)
        return images


def _images() -> MemoryData:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(64, 4, generator=generator).exp()
    part = Batch((torch.randn(64, 3, generator=generator),), images)
    return MemoryData(splits={"train": part, "val": part, "test": part}, n_classes=0, facts={})


def test_distance_of_images_to_themselves_and_to_others() -> None:
    data = _images()
    task = make_task(Recipe(task="generation"), data)
    real = data.splits["train"].targets
    same = task.metrics(task.tally(real, data.splits["train"]))
    assert same["frechet"] == pytest.approx(0, abs=1e-6)
    shifted = task.metrics(task.tally(real + 1, data.splits["train"]))
    flipped = task.metrics(task.tally(2 * real.mean(0) - real, data.splits["train"]))  # the same mean and covariance
    assert shifted["frechet"] > 0.5
    assert flipped["frechet"] > 0.5


def test_each_player_moves_its_own_part_only() -> None:
    data = _images()
    task = make_task(Recipe(task="generation"), data)
    assert isinstance(task, Generation)
    module = _Gan()
    for update in task.updates:
        module.zero_grad()
        optimizer = torch.optim.SGD(update.part(module).parameters(), lr=0.1)
        before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        update.loss(module, data.splits["train"]).backward()
        optimizer.step()
        moved = {name.split(".")[0] for name, p in module.named_parameters() if not torch.equal(p, before[name])}
        assert moved == {update.name}


def test_adversarial_training_comes_nearer() -> None:
    file = load_model_file("dcgan")
    recipe = read_recipe({**file.recipe, "epochs": 6}, where="here")
    data = make_data(recipe, file.input_shapes)
    torch.manual_seed(0)
    module = file.build()
    task = make_task(recipe, data)
    before = evaluate(module, data, task, "val")["frechet"]
    *_, last = fit(module, data, task, recipe, seed=0)
    assert last.val["frechet"] < 0.5 * before


def test_generator_without_a_discriminator_is_refused() -> None:
    task = make_task(Recipe(task="generation"), _images())
    with pytest.raises(InputRefused, match=r"needs a submodule `discriminator`.*found generator"):
        task.updates[0].loss(nn.ModuleDict({"generator": nn.Linear(3, 4)}), _images().splits["train"])


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "message"),
    [
        (
            Segmentation(4),
            torch.zeros(2, 3, 8, 8),
            torch.zeros(2, 8, 8),
            r"found \(2, 3, 8, 8\), expected \(2, 4, 8, 8\)",
        ),
        (Detection(3), torch.zeros(2, 3, 8, 8), OBJECTS, r"expected \(2, 3, 8, 8\) and \(2, 4, 8, 8\)"),
        (Detection(3), (torch.zeros(2, 3, 8, 8), torch.zeros(2, 4, 4, 4)), OBJECTS, r"found .* and \(2, 4, 4, 4\)"),
        (Detection(3), (torch.zeros(2, 3), torch.zeros(2, 4)), OBJECTS, "do not fit a detection"),
        (Detection(3), None, OBJECTS, "found NoneType"),
    ],
)
def test_outputs_of_other_shapes_are_refused(
    task: Segmentation, outputs: object, targets: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputRefused, match=message):
        task.check(outputs, Batch((torch.zeros(2, 1, 32, 32),), targets))
