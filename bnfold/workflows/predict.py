"""`bnfold predict`: what a file says of images, in the class names and with the preprocessing that it carries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records import Prediction
from bnfold.workflows.arguments import check_paths, check_threads, require_provider
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.runtime import Provider

__all__ = ["N_CLASSES", "predict"]

N_CLASSES = 5


@runs_user_code()
def predict(
    file: str | os.PathLike[str],
    *images: str | os.PathLike[str],
    top: int = N_CLASSES,
    pictures: Path | None = None,
    classes: str | os.PathLike[str] | None = None,
    normalize: str | None = None,
    task: str | None = None,
    provider: Provider = "cpu",
    threads: int | None = None,
    on_prediction: Callable[[Prediction], None] | None = None,
    **source_options: Any,
) -> tuple[Prediction, ...]:
    """Say what is in images.

    Args:
        file: an `.onnx` file, or any other SOURCE.
        images: files, or folders of them.
        top: classes of each image, the likeliest first.
        pictures: a folder for masks and boxes drawn into the images; None draws none.
        classes: a file with the class names in the order of the output, or "imagenet"; None takes the file's own.
        normalize: how images become the input, see `bnfold.sources.preprocessing`; None takes the file's own.
        task: "classification", "segmentation" or "detection"; None takes what the file says, else "classification".
        provider: of ONNX Runtime.
        threads: of one operator; None for all that this process may use.
        on_prediction: called with each one as it is made.
        source_options: weights, pretrained and input_shapes, as in `bnfold.fold_export`.

    Raises:
        InputRefused: the file or an image cannot be read, or nothing says how images become the input.
        EnvironmentNotReady: ONNX Runtime, Pillow or the provider is missing.
    """
    from bnfold.evaluation.contenders import open_contender
    from bnfold.evaluation.labelled import preprocessing_of
    from bnfold.evaluation.predictions import predictor
    from bnfold.sources.image_files import require_pillow

    check_threads(threads)
    require_provider(provider)
    require_pillow("bnfold predict")
    files = _image_files(images)
    contender = open_contender(
        os.fspath(file), provider=provider, threads=threads, normalize=normalize, classes=classes, **source_options,
    )  # fmt: skip
    preprocessing = preprocessing_of(contender, "images")
    say = predictor(task or contender.facts.task or "classification", contender, top=top, pictures=pictures)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    found = []
    for image in files:
        found.append(say(image, preprocessing))
        if on_prediction is not None:
            on_prediction(found[-1])
    return tuple(found)


def _image_files(images: Sequence[str | os.PathLike[str]]) -> list[Path]:
    from bnfold.sources.image_files import SUFFIXES

    check_paths(images, remedy="store the images in files, with Pillow: Image.fromarray(pixels).save('image.png')")
    files: list[Path] = []
    for name in images:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise InputRefused(
                    "the folder holds no image", where=str(path), expected=", ".join(sorted(SUFFIXES)),
                    remedy="name images, or a folder of them",
                )  # fmt: skip
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputRefused("no such image", where=str(path), remedy="check the path")
    if not files:
        raise InputRefused("there is no image to predict", remedy="name images, or a folder of them")
    return files
