"""``python -m training predict``: images without labels, in the form of the Dark Zurich server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import track

from training.data.frames import IMAGE_SUFFIXES
from training.data.frames import DataError
from training.data.frames import read_rgb
from training.evaluation.protocol import Accelerator
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.protocol import Predictor
from training.evaluation.protocol import Reweight
from training.evaluation.protocol import load_predictor
from training.evaluation.protocol import predict_frame
from training.evaluation.submission import frame_name
from training.evaluation.submission import write_prediction


def predict(
    checkpoint: Path,
    images: Path,
    output: Path = Path('build/predictions'),
    names: Path | None = None,
    predict_size: tuple[int, int] | None = (540, 960),
    output_size: tuple[int, int] | None = (1080, 1920),
    class_weight_std: float | None = 0.16,
    reweight: Reweight = 'logits',
    align_corners: bool = False,
    accelerator: Accelerator = 'auto',
    invalid_below: float = 0.0,
) -> None:
    """Predict images without labels (Dark Zurich test) into the folders that ``pack`` packs.

    Args:
        checkpoint: file that ``python -m training fit`` wrote.
        images: folder of the images, sub-folders included (``ROOT/rgb_anon/test/night``).
        output: folder of labelTrainIds (trainIds), confidence (16 bit) and labelTrainIds_invalid
            (trainIds, 255 where unsure), each with one PNG per image.
        names: list of images to predict, one per line, relative to ``images``; null: all.
        predict_size: height and width that the network sees, as [540,960]; null: as the images
            are.
        output_size: height and width of the predictions (the server wants its default); null: as
            the images are.
        class_weight_std: spread of DANNet's class weights, which favour rare classes; null: none.
        reweight: multiply logits (DANNet's code) or probabilities (its paper) by them.
        align_corners: whether upsampling aligns the corner pixels (DANNet's code does).
        accelerator: where to compute; auto takes a GPU if there is one.
        invalid_below: predictions less confident (0..1) than this are 255 in
            labelTrainIds_invalid; the report of ``evaluate`` on Dark Zurich val names the best.
    """
    files = find_images(images, names)
    protocol = EvaluationProtocol(predict_size, class_weight_std, reweight, align_corners)
    method = load_predictor(checkpoint, accelerator)
    progress = track(files, description='predicting')
    predict_images(method, progress, output, protocol, output_size, invalid_below)
    Console().print(
        f'{len(files)} predictions in {output}; for the Dark Zurich server: '
        f'python -m training pack --predictions {output}',
        soft_wrap=True,
    )


def predict_images(
    method: Predictor,
    files: Iterable[Path],
    output: Path,
    protocol: EvaluationProtocol,
    size: tuple[int, int] | None = None,
    invalid_below: float = 0.0,
) -> None:
    """Predict image files into labelTrainIds, confidence and labelTrainIds_invalid of a folder.

    Args:
        method: in eval mode.
        files: the images.
        output: folder of the three folders.
        protocol: how to predict.
        size: height and width of the predictions; those of each image when not given.
        invalid_below: as `write_prediction`.

    Raises:
        DataError: when a file does not decode.
    """
    for file in files:
        prediction = predict_frame(read_rgb(file), method, protocol, size)
        write_prediction(output, file.stem, *prediction, invalid_below)


def find_images(root: Path, names: Path | None = None) -> list[Path]:
    """Return the images below a folder, or those that a list names.

    Args:
        root: folder.
        names: one image per line, relative to the folder, with or without ``_rgb_anon.png``.

    Raises:
        DataError: when there are none, one of the list is missing, or two share their name.
    """
    if not root.is_dir():
        raise DataError(f'{root} does not exist: give the folder of the images')
    if names is None:
        files = sorted(p for p in root.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
    elif not names.is_file():
        raise DataError(f'{names} does not exist: give a list of images, one per line')
    else:
        lines = [line.strip() for line in names.read_text().splitlines() if line.strip()]
        files = [_listed(root, line) for line in lines]
    if not files:
        raise DataError(f'{root} holds no image: give the folder of the images')
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(frame_name(file.name) or file.stem, file)
        if other != file:
            raise DataError(
                f'{other} and {file} would overwrite each other: predict their folders one by one'
            )
    return files


def _listed(root: Path, line: str) -> Path:
    candidates = [
        root / folder / f'{line}{suffix}'
        for folder in ('', 'rgb_anon')
        for suffix in ('', '_rgb_anon.png', '.png')
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DataError(f'{candidates[0]} does not exist: the list names images relative to {root}')
