"""``python -m training evaluate``: a checkpoint against labels, as the papers measure it.

Protocol of DANNet's code: resize to 540x960, predict, multiply the logits by class weights at
std 0.16, upsample bilinearly, argmax; one confusion matrix over the data set. No flip, no scales.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal
from typing import NamedTuple
from typing import Protocol

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics.functional.classification import multiclass_confusion_matrix

from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.labels import colorize
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmentation_score import class_iou
from nightseg_ros.core.segmentation_score import mean_iou
from training.checkpoint import load_method
from training.data.frames import IMAGE_SUFFIXES
from training.data.frames import DataError
from training.data.frames import read_rgb
from training.data.labelled_set import LabelledSet
from training.exposure_f1 import BIN_NAMES
from training.exposure_f1 import ExposureF1
from training.exposure_f1 import ExposureF1Result
from training.losses.segmentation import class_weights
from training.published import DATASETS
from training.published import PublishedResult
from training.published import published
from training.submission import frame_name
from training.submission import replacing
from training.submission import write_prediction
from training.uncertainty_iou import UncertaintyIoU
from training.uncertainty_iou import UncertaintyIoUResult

Size = tuple[int, int]
Accelerator = Literal['auto', 'cpu', 'gpu']

PREDICTIONS = 'predictions'

_WORDS = ('class', 'method', 'V', 'trained on', 'source')
"""Columns of the report that hold words, not numbers."""
_PANEL_WIDTH = 640
_OVERLAY_OPACITY = 0.55
_WRONG = (235, 70, 60)
_TEXT = '#3b4552'
_OURS = '#2f6fde'
_COMPARED = 4
"""Published methods that the tables of classes and of EF1 show."""


class Predictor(Protocol):
    """What is evaluated: a `training.methods.method.Method`, or anything that predicts like one."""

    device: torch.device

    def predict_logits(self, image: Tensor) -> Tensor:
        """Return float [N, 19, h, w] at the network's stride, of uint8 RGB [N, 3, H, W]."""

    def relight(self, image: Tensor) -> Tensor | None:
        """Return the relit picture, uint8 [N, 3, H, W], or None without relighting network."""


# How a frame is predicted


@dataclass(frozen=True)
class EvaluationProtocol:
    """How logits become labels.

    Attributes:
        predict_size: height and width that the network sees; None is the frame's own.
        output_size: height and width of predictions without a label, and of saved ones; None is
            the frame's own. Labels are always compared at their own size.
        class_weight_std: spread of DANNet's class weights (its equation 8); None: no weights.
        reweight: what they multiply: logits (DANNet's code) or probabilities (its words).
        align_corners: of the upsampling of the logits (True in DANNet's code).
    """

    predict_size: Size | None = (540, 960)
    output_size: Size | None = (1080, 1920)
    class_weight_std: float | None = 0.16
    reweight: Literal['logits', 'probabilities'] = 'logits'
    align_corners: bool = False

    def __str__(self) -> str:
        size = self.predict_size
        frames = 'at their own size' if size is None else f'resized to {_size(size)} (bilinear)'
        weights = (
            'no class weights'
            if self.class_weight_std is None
            else f'{self.reweight} times class weights (std {self.class_weight_std:g})'
        )
        corners = 'with' if self.align_corners else 'without'
        return (
            f'frames {frames}, one prediction, {weights}, upsampled bilinearly ({corners} aligned '
            'corners) to the size of the label, argmax'
        )


class Prediction(NamedTuple):
    """One predicted frame: trainIds uint8 [H, W], their probability float32 [H, W] in [0, 1]."""

    labels: Tensor
    confidence: Tensor


def class_scores(logits: Tensor, protocol: EvaluationProtocol) -> Tensor:
    """Return logits, or probabilities, times the class weights, [N, 19, h, w] as given."""
    probable = protocol.reweight == 'probabilities'
    scores = logits.float().softmax(dim=1) if probable else logits.float()
    if protocol.class_weight_std is None:
        return scores
    return scores * class_weights(protocol.class_weight_std).to(scores.device)[:, None, None]


def decide(scores: Tensor, size: Size, protocol: EvaluationProtocol) -> Prediction:
    """Return labels and confidence of one frame's `class_scores` at a size.

    Confidence is the softmax of the upsampled logits, or the share of the upsampled weighted
    probabilities.

    Args:
        scores: [1, 19, h, w].
        size: height and width.
        protocol: how they were made.
    """
    align = protocol.align_corners
    scores = F.interpolate(scores, size, mode='bilinear', align_corners=align)[0]
    if protocol.reweight == 'probabilities':
        shares = scores / scores.sum(dim=0, keepdim=True)
    else:
        shares = scores.softmax(dim=0)
    labels = scores.argmax(dim=0)
    return Prediction(labels.to(torch.uint8), shares.gather(0, labels[None])[0])


def network_input(image: NDArray[np.uint8], method: Predictor, size: Size | None) -> Tensor:
    """Return a frame as the network sees it: uint8 [1, 3, h, w] on its device.

    Args:
        image: RGB uint8 [H, W, 3].
        method: whose device.
        size: height and width, bilinear; None leaves the frame as it is.
    """
    frame = torch.from_numpy(image).permute(2, 0, 1)[None].to(method.device)
    if size is None or size == image.shape[:2]:
        return frame
    # Antialiased, as PIL's bilinear is, with which DANNet's code resizes.
    resized = F.interpolate(frame.float(), size, mode='bilinear', antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def _scores(image: NDArray[np.uint8], method: Predictor, protocol: EvaluationProtocol) -> Tensor:
    frame = network_input(image, method, protocol.predict_size)
    try:
        logits = method.predict_logits(frame)
    except ValueError as error:
        size = _size(frame.shape[-2:])
        raise DataError(f'cannot predict at {size} (set --predict_size): {error}') from error
    if logits.ndim != 4 or logits.shape[:2] != (1, NUM_CLASSES):
        raise DataError(
            f'the method predicts {tuple(logits.shape)}, expected [1, {NUM_CLASSES}, h, w]'
        )
    return class_scores(logits, protocol)


# What is measured


@dataclass(frozen=True)
class FrameScore:
    """One frame: its place in the set, its name, mIoU over its own classes (0..1 or NaN)."""

    index: int
    name: str
    miou: float


@dataclass(frozen=True)
class Evaluation:
    """What was measured on a data set.

    Attributes:
        confusion: int64 [19, 19], rows truth, columns prediction, over all frames.
        frames: every frame in order.
        exposure: EF1 per exposure bin.
        uncertainty: UIoU, where the data set says what is invalid; else None.
        protocol: how it was predicted.
        sizes: sizes "HEIGHTxWIDTH" at which labels were compared.
    """

    confusion: NDArray[np.int64]
    frames: tuple[FrameScore, ...]
    exposure: ExposureF1Result
    uncertainty: UncertaintyIoUResult | None
    protocol: EvaluationProtocol
    sizes: tuple[str, ...]

    @property
    def support(self) -> NDArray[np.int64]:
        """Pixels of each class in the truth, int64 [19]."""
        return self.confusion.sum(axis=1)

    @property
    def class_iou(self) -> NDArray[np.float64]:
        """IoU (0..1) of each class, float64 [19]; NaN for those that are not in the truth."""
        return np.where(self.support > 0, class_iou(self.confusion), np.nan)

    @property
    def mean_iou(self) -> float:
        """Mean IoU (0..1) over the classes of the truth; NaN without any."""
        return mean_iou(self.confusion)


@torch.inference_mode()
def evaluate_method(
    method: Predictor,
    dataset: LabelledSet,
    protocol: EvaluationProtocol | None = None,
    save: Callable[[str, Prediction], None] | None = None,
    indices: Iterable[int] | None = None,
) -> Evaluation:
    """Predict every frame and compare it with its label. The confusion stays on the device.

    Args:
        method: in eval mode.
        dataset: with ``invalid_mask(index)`` (bool [H, W] or None) where it knows what is invalid.
        protocol: how to predict; the papers' when not given.
        save: called with the name and the prediction of every frame, at `output_size`.
        indices: frames to evaluate; all when not given. A progress bar can go here.

    Raises:
        DataError: for labels that are no trainIds, masks of another size, or nothing to evaluate.
    """
    protocol = protocol or EvaluationProtocol()
    total = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.int64, device=method.device)
    exposure, uncertainty = ExposureF1(), UncertaintyIoU()
    frames: list[FrameScore] = []
    sizes: dict[str, None] = {}
    masks = 0
    for index in range(len(dataset)) if indices is None else indices:
        image, truth = dataset[index]
        name = dataset.files[index].name
        _check_truth(truth, name)
        scores = _scores(image, method, protocol)
        prediction = decide(scores, truth.shape, protocol)
        confusion = multiclass_confusion_matrix(
            prediction.labels.long(),
            torch.from_numpy(truth).long().to(method.device),
            NUM_CLASSES,
            ignore_index=UNLABELLED,
            validate_args=False,
        )
        total += confusion
        labels = prediction.labels.cpu().numpy()
        exposure.update(_fitted(image, truth.shape), labels, truth)
        invalid = _invalid_mask(dataset, index, truth.shape)
        if invalid is not None:
            masks += 1
            uncertainty.update(labels, prediction.confidence.cpu().numpy(), truth, invalid)
        frames.append(FrameScore(index, name, mean_iou(confusion.cpu().numpy())))
        sizes[_size(truth.shape)] = None
        if save is not None:
            size = protocol.output_size or image.shape[:2]
            same = size == truth.shape
            save(name, prediction if same else decide(scores, size, protocol))
    if not frames:
        raise DataError('the data set holds no frame: check its root')
    if 0 < masks < len(frames):
        raise DataError(
            f'only {masks} of {len(frames)} frames have a mask of what is invalid: unpack all'
        )
    return Evaluation(
        total.cpu().numpy(),
        tuple(frames),
        exposure.compute(),
        uncertainty.compute() if masks else None,
        protocol,
        tuple(sizes),
    )


def _check_truth(truth: NDArray[np.uint8], name: str) -> None:
    foreign = np.unique(truth[(truth >= NUM_CLASSES) & (truth != UNLABELLED)])
    if foreign.size:
        raise DataError(
            f'the label of {name} holds {foreign.tolist()}, expected trainIds 0..'
            f'{NUM_CLASSES - 1} and {UNLABELLED}: convert it first'
        )


def _invalid_mask(
    dataset: LabelledSet, index: int, size: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    read = getattr(dataset, 'invalid_mask', None)
    mask = None if read is None else read(index)
    if mask is not None and mask.shape != size:
        raise DataError(
            f'the mask of {dataset.files[index].name} is {_size(mask.shape)}, its label '
            f'{_size(size)}: they need one size'
        )
    return mask


def _fitted(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def _size(shape: Sequence[int]) -> str:
    return f'{shape[0]}x{shape[1]}'


# Commands


def evaluate(
    checkpoint: Path,
    dataset: LabelledSet,
    output: Path = Path('build/evaluation'),
    predict_size: tuple[int, int] | None = (540, 960),
    output_size: tuple[int, int] | None = (1080, 1920),
    class_weight_std: float | None = 0.16,
    reweight: Literal['logits', 'probabilities'] = 'logits',
    align_corners: bool = False,
    sheets: int = 12,
    save_predictions: bool = False,
    accelerator: Accelerator = 'auto',
    published_as: str | None = None,
    invalid_below: float = 0.0,
) -> None:
    """Measure a checkpoint on a labelled data set and write a report.

    Writes results.json, per_class.csv, report.md, ef1.png and sheets/*.png.

    Args:
        checkpoint: of ``python -m training fit``.
        dataset: the labelled data set.
        output: folder of the report.
        predict_size: height and width that the network sees; null: as the frames are.
        output_size: height and width of saved predictions; null: as the frames are. Labels are
            compared at their own size.
        class_weight_std: spread of DANNet's class weights; null: none.
        reweight: multiply logits (DANNet's code) or probabilities (its paper).
        align_corners: of the upsampling (true in DANNet's code).
        sheets: number of frames to draw, worst, median and best ones.
        save_predictions: also write predictions/ in the Dark Zurich server's format.
        accelerator: where to compute; auto takes a GPU if there is one.
        published_as: data set whose published numbers stand beside (dark_zurich_val,
            nighttime_driving, nightcity, nightcity_plus, nightcity_fine, dark_zurich_test).
        invalid_below: saved predictions less confident than this are "invalid".
    """
    rows = () if published_as is None else published(published_as)
    protocol = EvaluationProtocol(
        _pair(predict_size), _pair(output_size), class_weight_std, reweight, align_corners
    )
    method = _load(checkpoint, accelerator)
    output = Path(output)

    def save(name: str, prediction: Prediction) -> None:
        _write(output / PREDICTIONS, name, prediction, invalid_below)

    indices = track(range(len(dataset)), description='evaluating')
    evaluation = evaluate_method(
        method, dataset, protocol, save if save_predictions else None, indices
    )
    about = About(
        Path(checkpoint).name, type(method).__name__, describe(dataset), published_as, rows
    )
    write_results(evaluation, about, output)
    (output / 'sheets').mkdir(parents=True, exist_ok=True)
    for old in (output / 'sheets').glob('*.png'):
        old.unlink()
    chosen = choose_frames(evaluation.frames, sheets)
    for number, (rank, frame) in enumerate(track(chosen, description='drawing'), 1):
        path = output / 'sheets' / f'{number:02d}_{rank}_{frame.name.replace("/", "_")}.png'
        draw_sheet(inspect_frame(method, dataset, protocol, frame), rank, path)
    print_summary(evaluation, about, output, save_predictions)


def predict(
    checkpoint: Path,
    images: Path,
    output: Path = Path('build/predictions'),
    names: Path | None = None,
    predict_size: tuple[int, int] | None = (540, 960),
    output_size: tuple[int, int] | None = (1080, 1920),
    class_weight_std: float | None = 0.16,
    reweight: Literal['logits', 'probabilities'] = 'logits',
    align_corners: bool = False,
    accelerator: Accelerator = 'auto',
    invalid_below: float = 0.0,
) -> None:
    """Predict images without labels (Dark Zurich test) into the folders that ``pack`` packs.

    Args:
        checkpoint: of ``python -m training fit``.
        images: folder of the images, sub-folders included (``ROOT/rgb_anon/test/night``).
        output: folder of labelTrainIds, confidence and labelTrainIds_invalid.
        names: list of images below ``images`` to predict, one per line; all when not given.
        predict_size: height and width that the network sees; null: as the frames are.
        output_size: height and width of the predictions; null: as the frames are.
        class_weight_std: spread of DANNet's class weights; null: none.
        reweight: multiply logits (DANNet's code) or probabilities (its paper).
        align_corners: of the upsampling (true in DANNet's code).
        accelerator: where to compute; auto takes a GPU if there is one.
        invalid_below: predictions less confident than this are "invalid" (255).
    """
    files = find_images(Path(images), None if names is None else Path(names))
    protocol = EvaluationProtocol(
        _pair(predict_size), _pair(output_size), class_weight_std, reweight, align_corners
    )
    method = _load(checkpoint, accelerator)
    predict_images(
        method, files, Path(output), protocol, invalid_below, lambda x: track(x, 'predicting')
    )
    Console().print(
        f'{len(files)} predictions in {output}; for the Dark Zurich server: '
        f'python -m training pack --predictions {output}'
    )


@torch.inference_mode()
def predict_images(
    method: Predictor,
    files: Sequence[Path],
    output: Path,
    protocol: EvaluationProtocol,
    invalid_below: float = 0.0,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = lambda files: files,
) -> None:
    """Predict image files into labelTrainIds, confidence and labelTrainIds_invalid of a folder.

    Raises:
        DataError: when a file does not decode.
    """
    for file in progress(files):
        image = read_rgb(file)
        size = protocol.output_size or image.shape[:2]
        prediction = decide(_scores(image, method, protocol), size, protocol)
        _write(output, file.name, prediction, invalid_below)


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
        other = seen.setdefault(_output_name(file.name), file)
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


def _output_name(file: str) -> str:
    return frame_name(file) or Path(file).name.removesuffix(Path(file).suffix)


def _write(folder: Path, name: str, prediction: Prediction, invalid_below: float) -> None:
    labels, confidence = prediction
    write_prediction(
        folder, _output_name(name), labels.cpu().numpy(), confidence.cpu().numpy(), invalid_below
    )


def _pair(size: Sequence[int] | None) -> Size | None:
    return None if size is None else (int(size[0]), int(size[1]))


def _load(checkpoint: Path, accelerator: Accelerator) -> Any:
    available = torch.cuda.is_available()
    if accelerator == 'gpu' and not available:
        raise DataError('no GPU was found: use --accelerator cpu, or install torch with CUDA')
    device = 'cuda' if available and accelerator != 'cpu' else 'cpu'
    return load_method(Path(checkpoint)).eval().to(device)


# What is written


@dataclass(frozen=True)
class About:
    """What was evaluated on what, for the report.

    Attributes:
        checkpoint: file name.
        method: name of its class.
        dataset: `describe` of the data set.
        published_as: key of the published results beside ours, or None.
        published: those results.
    """

    checkpoint: str
    method: str
    dataset: str
    published_as: str | None = None
    published: tuple[PublishedResult, ...] = ()


def describe(dataset: LabelledSet) -> str:
    """Return class, version and split of a data set, its folder's name, and its frames."""
    traits = [getattr(dataset, trait, None) for trait in ('version', 'split')]
    name = ' '.join([type(dataset).__name__, *(t for t in traits if isinstance(t, str))])
    return f'{name} ({dataset.root.name}, {len(dataset)} frames)'


def write_results(evaluation: Evaluation, about: About, output: Path) -> None:
    """Write results.json, per_class.csv, report.md and ef1.png into a folder, each whole."""
    with replacing(output / 'ef1.png') as draft:
        draw_ef1(evaluation.exposure, about.published, draft)
    for name, text in (
        ('per_class.csv', per_class_csv(evaluation)),
        ('report.md', report(evaluation, about)),
        ('results.json', json.dumps(results(evaluation, about), indent=2, allow_nan=False) + '\n'),
    ):
        with replacing(output / name) as draft:
            draft.write_text(text, encoding='utf-8')


def results(evaluation: Evaluation, about: About) -> dict[str, Any]:
    """Return everything measured, as JSON can hold it: shares 0..1, None where undefined."""
    e = evaluation
    exposure = {
        'bins': BIN_NAMES,
        'mean_ef1': e.exposure.mean_micro,
        'mean_ef1_macro': e.exposure.mean_macro,
        'mean_ef1_weighted': e.exposure.mean_weighted,
        'ef1': e.exposure.micro,
        'ef1_macro': e.exposure.macro,
        'ef1_weighted': e.exposure.weighted,
        'pixels': e.exposure.support,
        'bins_without_pixels': [BIN_NAMES[g] for g in e.exposure.empty_bins],
    }
    uncertainty = e.uncertainty and {
        'average_uiou': e.uncertainty.average,
        'best_threshold': e.uncertainty.best[0],
        'best_uiou': e.uncertainty.best[1],
        'thresholds': e.uncertainty.thresholds,
        'uiou': e.uncertainty.mean_uiou,
        'invalid_share': e.uncertainty.invalid_share,
    }
    return _plain(
        {
            'miou': e.mean_iou,
            'class_iou': dict(zip(NAMES, e.class_iou, strict=True)),
            'class_pixels': dict(zip(NAMES, e.support, strict=True)),
            'exposure': exposure,
            'uncertainty': uncertainty,
            'method': about.method,
            'checkpoint': about.checkpoint,
            'dataset': about.dataset,
            'protocol': {**asdict(e.protocol), 'compared_at': e.sizes},
            'published_as': about.published_as,
            'published': [asdict(row) for row in about.published],
            'confusion': e.confusion,
            'frames': [asdict(frame) for frame in e.frames],
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def per_class_csv(evaluation: Evaluation) -> str:
    """Return one row per class: train_id, name, iou (0..1, empty where absent), pixels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(('train_id', 'name', 'iou', 'pixels'))
    rows = zip(CLASSES, evaluation.class_iou, evaluation.support, strict=True)
    for c, iou, pixels in rows:
        writer.writerow((c.train_id, c.name, '' if np.isnan(iou) else f'{iou:.6f}', int(pixels)))
    return text.getvalue()


def report(evaluation: Evaluation, about: About) -> str:
    """Return the report as Markdown."""
    e = evaluation
    absent = [name for name, pixels in zip(NAMES, e.support, strict=True) if not pixels]
    parts = [
        f'# {about.method} on {about.dataset}',
        f'**mIoU {_percent(e.mean_iou)}**, mEF1 {_share(e.exposure.mean_micro)}'
        + (f', average UIoU {_percent(e.uncertainty.average)}' if e.uncertainty else ''),
        f'- checkpoint: {about.checkpoint}\n- data set: {about.dataset}\n'
        f'- protocol: {e.protocol}\n- labels compared at: {", ".join(e.sizes)}\n'
        '- mIoU: one confusion matrix over the data set, mean over the classes of its truth'
        + (f'; without {", ".join(absent)}' if absent else ''),
        '## Classes',
        _class_table(e, about.published),
    ]
    if about.published_as is not None:
        parts += ['## Published results', _published_table(e, about)]
    parts += [
        '## Exposure-aware F1',
        'EF1 (NightCity, equation 2) per exposure V = max(R, G, B)/255 of the pixel. The micro '
        'average is what the paper reports.',
        _exposure_table(e.exposure, about.published),
        '![EF1 per exposure bin](ef1.png)',
    ]
    if e.uncertainty is not None:
        parts += ['## Uncertainty-aware IoU', _uncertainty_text(e.uncertainty)]
    worst = sorted((f for f in e.frames if not math.isnan(f.miou)), key=lambda f: f.miou)[:5]
    parts += [
        '## Frames',
        'Worst by their own mIoU: '
        + ', '.join(f'{frame.name} ({_percent(frame.miou)})' for frame in worst)
        + '. Pictures of worst, median and best frames are in sheets/.',
    ]
    return '\n\n'.join(parts) + '\n'


def _class_table(evaluation: Evaluation, rows: Sequence[PublishedResult]) -> str:
    others = [row for row in rows if row.class_iou][:_COMPARED]
    total = max(int(evaluation.support.sum()), 1)
    lines = [
        [
            name,
            _percent(evaluation.class_iou[c]),
            f'{evaluation.support[c]:,}',
            f'{evaluation.support[c] / total:.2%}',
            *(f'{row.class_iou[c]:.1f}' for row in others),
        ]
        for c, name in enumerate(NAMES)
    ]
    mean = ['**mean**', f'**{_percent(evaluation.mean_iou)}**', f'{total:,}', '']
    lines.append([*mean, *(str(row.miou) for row in others)])
    return _markdown(['class', 'IoU', 'pixels', 'share', *(row.method for row in others)], lines)


def _published_table(evaluation: Evaluation, about: About) -> str:
    version = DATASETS[about.published_as]
    note = (
        f'All on {version}: no other version or split compares. Make sure that this is what was '
        'evaluated.'
    )
    if not about.published:
        return f'{note} None are known for it.'
    with_ef1 = any(row.mean_ef1 is not None for row in about.published)
    ours = _percent(evaluation.mean_iou)
    lines = [
        ['**this checkpoint**', f'**{ours}**', _share(evaluation.exposure.mean_micro), '', '']
    ] + [
        [
            row.method,
            str(row.miou),
            '' if row.mean_ef1 is None else f'{row.mean_ef1:.2f}',
            row.trained_on,
            row.source,
        ]
        for row in about.published
    ]
    header = ['method', 'mIoU', 'mEF1', 'trained on', 'source']
    if not with_ef1:
        header, lines = _without(header, 2), [_without(line, 2) for line in lines]
    return f'{note}\n\n{_markdown(header, lines)}'


def _without(items: list[str], place: int) -> list[str]:
    return items[:place] + items[place + 1 :]


def _exposure_table(exposure: ExposureF1Result, rows: Sequence[PublishedResult]) -> str:
    others = [row for row in rows if row.ef1][:_COMPARED]
    total = max(int(exposure.support.sum()), 1)
    lines = [
        [
            name,
            _share(exposure.micro[g]),
            _share(exposure.macro[g]),
            _share(exposure.weighted[g]),
            f'{exposure.support[g] / total:.1%}',
            *(f'{row.ef1[g]:.4f}' for row in others),
        ]
        for g, name in enumerate(BIN_NAMES)
    ]
    means = (exposure.mean_micro, exposure.mean_macro, exposure.mean_weighted)
    lines.append(
        ['**mEF1**', *(f'**{_share(m)}**' for m in means), '', *(f'{r.mean_ef1:g}' for r in others)]
    )
    header = ['V', 'EF1 (micro)', 'macro', 'weighted', 'pixels', *(row.method for row in others)]
    table = _markdown(header, lines)
    if exposure.empty_bins:
        empty = ', '.join(BIN_NAMES[g] for g in exposure.empty_bins)
        table += f'\n\nWithout a labelled pixel, and in no mean: {empty}.'
    return table


def _uncertainty_text(uncertainty: UncertaintyIoUResult) -> str:
    theta, best = uncertainty.best
    text = (
        f'{uncertainty.invalid_share:.1%} of the labelled pixels are marked invalid (not to be '
        f'told from the night image alone). Average over thresholds '
        f'{uncertainty.thresholds[0]:.3f}..{uncertainty.thresholds[-1]:g}: '
        f'{_percent(uncertainty.average)}; best {_percent(best)} at {theta:.3f} '
        '(for `invalid_below`).'
    )
    lines = [
        [f'{threshold:.3f}', _percent(value)]
        for threshold, value in zip(uncertainty.thresholds, uncertainty.mean_uiou, strict=True)
    ]
    return f'{text}\n\n{_markdown(["threshold", "mean UIoU"], lines)}'


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ['--:' if name not in _WORDS else '---' for name in header]
    return '\n'.join(f'| {" | ".join(line)} |' for line in [header, rule, *lines])


def _percent(value: float) -> str:
    return '–' if math.isnan(value) else f'{100 * value:.2f}'


def _share(value: float) -> str:
    return '–' if math.isnan(value) else f'{value:.4f}'


def print_summary(
    evaluation: Evaluation, about: About, output: Path, with_predictions: bool = False
) -> None:
    """Print the scores as a table, and where everything was written."""
    table = Table('class', title=f'{about.method} on {about.dataset}')
    for column in ('IoU [%]', 'pixels'):
        table.add_column(column, justify='right')
    for c, name in enumerate(NAMES):
        table.add_row(name, _percent(evaluation.class_iou[c]), f'{evaluation.support[c]:,}')
    table.add_section()
    table.add_row('mean', _percent(evaluation.mean_iou), f'{evaluation.support.sum():,}')
    table.add_row('mEF1', _percent(evaluation.exposure.mean_micro), '')
    if evaluation.uncertainty is not None:
        table.add_row('average UIoU', _percent(evaluation.uncertainty.average), '')
    for row in about.published[:_COMPARED]:
        name = f'{row.method}, trained on {row.trained_on}'
        table.add_row(f'[dim]{name}[/dim]', f'[dim]{row.miou}[/dim]', '[dim]published[/dim]')
    console = Console()
    console.print(table)
    console.print(f'report: {output / "report.md"}', soft_wrap=True)
    console.print(
        f'also results.json, per_class.csv, ef1.png and sheets/ in {output}', soft_wrap=True
    )
    if with_predictions:
        console.print(f'predictions: {output / PREDICTIONS} (python -m training pack)')


# Pictures


def draw_ef1(exposure: ExposureF1Result, rows: Sequence[PublishedResult], path: Path) -> None:
    """Plot EF1 per exposure bin above the share of pixels of each bin, as PNG."""
    figure = Figure(figsize=(8, 5.2), layout='constrained')
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    bins = np.arange(len(BIN_NAMES))
    best = next((row for row in rows if row.ef1), None)
    if best is not None:
        upper.plot(bins, best.ef1, color='#9aa5b3', lw=1.4, label=f'{best.method}, published')
    for name, values, color in (
        ('support-weighted', exposure.weighted, '#0f8f83'),
        ('macro', exposure.macro, '#d9731a'),
        ('micro (as in the paper)', exposure.micro, _OURS),
    ):
        upper.plot(bins, values, 'o-', color=color, lw=1.8, ms=5, label=name)
    if not math.isnan(exposure.mean_micro):
        upper.axhline(exposure.mean_micro, color=_OURS, lw=1, ls=(0, (2, 3)))
        title = f'mEF1 {exposure.mean_micro:.4f}'
        upper.set_title(title, loc='left', color=_TEXT, fontsize=11, weight='bold')
    upper.set_ylim(0, 1)
    upper.set_ylabel('EF1', color=_TEXT)
    upper.legend(
        fontsize=8.5, labelcolor=_TEXT, frameon=False, ncols=2, loc='lower left',
        bbox_to_anchor=(0.22, 1.0), borderaxespad=0.2,
    )  # fmt: skip
    total = max(int(exposure.support.sum()), 1)
    shares = 100 * exposure.support / total
    bars = lower.bar(bins, shares, color=_OURS, alpha=0.55, width=0.7)
    lower.bar_label(bars, [f'{share:.1f}' for share in shares], fontsize=8, color=_TEXT, padding=1)
    lower.margins(y=0.35)
    lower.set_ylabel('pixels [%]', color=_TEXT)
    lower.set_xticks(bins, BIN_NAMES, fontsize=8)
    lower.set_xlabel('exposure V = max(R, G, B) / 255', color=_TEXT)
    for axes in (upper, lower):
        axes.set_axisbelow(True)
        axes.grid(axis='y', color='#dde2e9', lw=0.8)
        axes.tick_params(colors=_TEXT, length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side == 'bottom')
            spine.set_color('#dde2e9')
    figure.savefig(path, dpi=130, format='png')


def choose_frames(frames: Sequence[FrameScore], count: int) -> list[tuple[str, FrameScore]]:
    """Return the worst, the middle and the best frames by mIoU, a third each, worst first.

    Args:
        frames: with their mIoU; those without a truth (NaN) are left out.
        count: how many to return at most.

    Returns:
        (``worst``, ``median`` or ``best``; frame), no frame twice.
    """
    ranked = sorted((f for f in frames if not math.isnan(f.miou)), key=lambda f: f.miou)
    count = max(0, min(count, len(ranked)))
    worst = -(-count // 3)
    best = (count - worst + 1) // 2
    median = count - worst - best
    middle = ranked[worst : len(ranked) - best]
    start = (len(middle) - median) // 2
    return [
        *(('worst', f) for f in ranked[:worst]),
        *(('median', f) for f in middle[start : start + median]),
        *(('best', f) for f in ranked[len(ranked) - best :]),
    ]


@dataclass(frozen=True)
class InspectedFrame:
    """What a sheet shows: RGB uint8 [H, W, 3] and trainIds uint8 [H, W], all of one size."""

    score: FrameScore
    image: NDArray[np.uint8]
    relit: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]


@torch.inference_mode()
def inspect_frame(
    method: Predictor, dataset: LabelledSet, protocol: EvaluationProtocol, frame: FrameScore
) -> InspectedFrame:
    """Predict one frame again, for its sheet."""
    image, truth = dataset[frame.index]
    prediction = decide(_scores(image, method, protocol), truth.shape, protocol)
    relit = method.relight(network_input(image, method, protocol.predict_size))
    picture = None
    if relit is not None:
        picture = _fitted(relit[0].permute(1, 2, 0).contiguous().cpu().numpy(), truth.shape)
    image = _fitted(image, truth.shape)
    return InspectedFrame(frame, image, picture, prediction.labels.cpu().numpy(), truth)


def error_picture(
    image: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return wrong pixels red on the grey frame, pixels without truth black; RGB uint8."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    picture = np.repeat((grey // 2 + 64)[..., None], 3, axis=2)
    picture[prediction != truth] = _WRONG
    picture[truth == UNLABELLED] = 0
    return picture


def panels(frame: InspectedFrame) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of a sheet by their titles, RGB uint8 [H, W, 3]."""
    wrong = (frame.prediction != frame.truth)[frame.truth != UNLABELLED]
    share = f'{wrong.mean():.1%} of the labelled' if wrong.size else 'no label'
    pictures = {'input': frame.image}
    if frame.relit is not None:
        pictures['relit'] = frame.relit
    pictures['prediction on the input'] = overlay(frame.image, frame.prediction, _OVERLAY_OPACITY)
    pictures['prediction'] = colorize(frame.prediction)
    pictures['truth (black: not labelled)'] = colorize(frame.truth)
    pictures[f'errors (red): {share}'] = error_picture(frame.image, frame.prediction, frame.truth)
    return pictures


def draw_sheet(frame: InspectedFrame, rank: str, path: Path) -> None:
    """Write the panels of a frame with the colours and IoU of its classes as one PNG."""
    frame = _smaller(frame)
    pictures = panels(frame)
    height, width = frame.truth.shape
    columns = 3 if width >= height else len(pictures)
    rows = -(-len(pictures) // columns)
    panel = 4.8
    below = 0.0 if len(pictures) < rows * columns else 0.6
    size = (columns * panel, rows * (panel * height / width + 0.32) + 0.45 + below)
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.07, wspace=0.01, hspace=0.01)
    figure.suptitle(
        f'{frame.score.name}: mIoU {_percent(frame.score.miou)} ({rank})',
        color=_TEXT, fontsize=13, weight='bold', x=0.008, ha='left',
    )  # fmt: skip
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, picture) in zip(grid, pictures.items(), strict=False):
        axes.imshow(picture, interpolation='antialiased')
        axes.set_title(title, loc='left', color=_TEXT, fontsize=10, pad=3)
    for axes in grid:
        axes.axis('off')
    _legend(figure, grid[len(pictures) :], frame)
    with replacing(path) as draft:
        figure.savefig(draft, dpi=_PANEL_WIDTH / panel, format='png')


def _legend(figure: Figure, free: Sequence[Axes], frame: InspectedFrame) -> None:
    """Name the classes in the truth or prediction, in the free panel or below."""
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    labelled = frame.truth != UNLABELLED
    np.add.at(confusion, (frame.truth[labelled], frame.prediction[labelled]), 1)
    iou, support = class_iou(confusion), confusion.sum(axis=1)
    shown = np.flatnonzero(support + confusion.sum(axis=0))
    handles = [
        Patch(
            color=np.array(CLASSES[c].color) / 255,
            label=f'{NAMES[c]} {100 * iou[c]:.0f}' if support[c] else f'{NAMES[c]} (not there)',
        )
        for c in shown
    ]
    if not handles:
        return
    style = {'frameon': False, 'labelcolor': _TEXT, 'handlelength': 1.2, 'handleheight': 1.2}
    if len(free):
        title = 'classes and their IoU [%]'
        legend = free[0].legend(
            handles=handles, loc='upper left', fontsize=10, ncols=2, title=title, **style
        )
        legend.get_title().set_color(_TEXT)
    else:
        figure.legend(
            handles=handles, loc='outside lower left', fontsize=9.5, ncols=min(len(shown), 10),
            **style,
        )  # fmt: skip


def _smaller(frame: InspectedFrame) -> InspectedFrame:
    height, width = frame.truth.shape
    scale = min(1.0, _PANEL_WIDTH / width)
    if scale == 1.0:
        return frame
    size = (_PANEL_WIDTH, max(1, round(height * scale)))

    def picture(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.resize(array, size, interpolation=cv2.INTER_AREA)

    def labels(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST)

    return InspectedFrame(
        frame.score,
        picture(frame.image),
        None if frame.relit is None else picture(frame.relit),
        labels(frame.prediction),
        labels(frame.truth),
    )
