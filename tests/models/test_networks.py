"""Every network of the zoo: it learns, and its BatchNorms vanish as its file states."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import pytest
import torch

from bnfold.export import plain_graph
from bnfold.sources.model_file import load_model_file, zoo_names
from bnfold.sources.torch_source import torch_source
from bnfold.sources.usercode import import_file
from bnfold.training.data import Batch, DataSet, make_data
from bnfold.training.recipe import Recipe, read_recipe
from bnfold.training.tasks import make_task
from bnfold.workflows.accounts import fold_accounted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from bnfold.sources.model_file import ModelFile

NAMES = (
    "bnnet", "dcgan", "densenet", "detector", "lstm_bn", "mlp", "mobilenet", "patch_transformer", "preact_resnet",
    "repvgg", "resnet", "tabular", "tcn", "unet", "vgg_bn", "video",
)  # fmt: skip
N_STEPS = 6


def test_the_zoo_is_whole() -> None:
    assert zoo_names() == NAMES


@functools.cache
def _data(name: str, task: str, size: tuple[int, int] | None, shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    return make_data(Recipe(data=name, task=task, image_size=size), shapes)


def _trained(file: ModelFile) -> tuple[torch.nn.Module, list[float]]:
    """The network after a few steps on one batch, and the loss of each step."""
    recipe = read_recipe(file.recipe, where=file.name)
    data = _data(recipe.data, recipe.task, recipe.image_size, file.input_shapes)
    task = make_task(recipe, data)
    torch.manual_seed(0)
    module = file.build().train()
    batch: Batch = next(data.batches("train", 32))
    optimizers = [torch.optim.Adam(update.part(module).parameters(), lr=3e-3) for update in task.updates]
    losses = []
    for _ in range(N_STEPS):
        for update, optimizer in zip(task.updates, optimizers, strict=True):
            loss = update.loss(module, batch)
            module.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        losses.append(loss.item())
    return module, losses


@pytest.mark.parametrize("name", NAMES)
def test_networks_learn_and_fold_as_their_files_state(name: str) -> None:
    file = load_model_file(name)
    expected = import_file(file.path).EXPECTED
    recipe = read_recipe(file.recipe, where=name)
    module, losses = _trained(file)
    assert all(map(torch.isfinite, torch.tensor(losses)))
    if recipe.task != "generation":  # a game has no loss that falls
        assert losses[-1] < losses[0]
    metric = make_task(recipe, _data(recipe.data, recipe.task, recipe.image_size, file.input_shapes)).goal
    assert set(expected) == {metric, "kept"}
    source = torch_source(
        module, name, shapes=file.input_shapes, dtypes=file.input_dtypes, output_names=file.output_names
    )
    ledger = fold_accounted(plain_graph(source, opset=None, static_batch=None))
    assert ledger.found > 0
    assert ledger.kept == expected["kept"]


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("tabular", {"numbers": [1, 20], "categories": [1, 10]}, ["logits"]),
        ("detector", {"x": [1, 1, 32, 32]}, ["heat_map", "boxes"]),
        ("dcgan", {"latent": [1, 16, 1, 1]}, ["image"]),
    ],
)
def test_several_inputs_and_outputs_go_all_the_way(
    tmp_path: Path, cli: Callable[..., Result], name: str, inputs: dict[str, list[int]], outputs: list[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    assert cli("train", name, "-o", run, "--epochs", 1, "-q").exit_code == 0
    record = json.loads((run / "run.json").read_text())
    assert {key: [1, *shape[1:]] for key, shape in record["samples"]["inputs"].items()} == inputs
    result = cli("fold-export", run, "-o", out, "--keep-plain", "-q")
    assert result.exit_code == 0, result.stderr
    report = json.loads((out / "report.json").read_text())
    assert [output["name"] for output in report["verify"]["outputs"]] == outputs
    bench = cli("bench", out / "model.onnx", out / "plain.onnx", "--budget", 0.5, "--threads", 1, "--json", "-", "-q")
    assert bench.exit_code == 0, bench.stderr
    assert len(json.loads(bench.stdout)["runs"]) == 2
