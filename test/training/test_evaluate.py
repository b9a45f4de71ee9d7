from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nightseg_ros.core.labels import PALETTE
from training import evaluate as module
from training import submission
from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.evaluate import About
from training.evaluate import EvaluationProtocol
from training.evaluate import FrameScore
from training.evaluate import InspectedFrame
from training.evaluate import choose_frames
from training.evaluate import class_scores
from training.evaluate import decide
from training.evaluate import draw_sheet
from training.evaluate import evaluate
from training.evaluate import evaluate_method
from training.evaluate import find_images
from training.evaluate import network_input
from training.evaluate import panels
from training.evaluate import predict
from training.evaluate import report
from training.losses.segmentation import class_weights

SIZE = (24, 40)
PLAIN = EvaluationProtocol(None, None, None)


class Knowing:
    """Reads the class of each pixel from its red channel, as the frames below are painted."""

    def __init__(self, shift: int = 0, relit: bool = False, stride: int = 1) -> None:
        self.device = torch.device('cpu')
        self.shift, self.relit, self.stride = shift, relit, stride
        self.sizes: list[tuple[int, int]] = []

    def predict_logits(self, image: Tensor) -> Tensor:
        assert image.dtype == torch.uint8
        self.sizes.append(tuple(image.shape[-2:]))
        ids = (image[:, 0, :: self.stride, :: self.stride].long() // 12 + self.shift) % 19
        return 30.0 * torch.nn.functional.one_hot(ids, 19).permute(0, 3, 1, 2).float()

    def relight(self, image: Tensor) -> Tensor | None:
        return (image.float() * 2).clamp(0, 255).to(torch.uint8) if self.relit else None

    def eval(self) -> Knowing:
        return self

    def to(self, device: str) -> Knowing:
        self.device = torch.device(device)
        return self


class Masked(LabelledFrames):
    """Frames whose upper half is not to be told from the night image alone."""

    def invalid_mask(self, index: int) -> np.ndarray | None:
        mask = np.zeros(SIZE, bool)
        mask[: SIZE[0] // 2] = True
        return mask


def _paint(root: Path, name: str, labels: np.ndarray) -> None:
    """Write a frame that shows its classes, and its label."""
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shown = np.where(labels == 255, 0, labels) * 12 + 5
    image = np.stack([np.full(labels.shape, 40), np.full(labels.shape, 60), shown], axis=-1)
    assert cv2.imwrite(str(root / 'images' / f'{name}.png'), image.astype(np.uint8))
    assert cv2.imwrite(str(root / 'labels' / f'{name}.png'), labels.astype(np.uint8))


def _halves(upper: int, lower: int) -> np.ndarray:
    labels = np.full(SIZE, upper, np.uint8)
    labels[SIZE[0] // 2 :] = lower
    return labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / 'frames'
    _paint(folder, 'a', _halves(10, 0))
    _paint(folder, 'b', _halves(2, 13))
    _paint(folder, 'c', _halves(255, 0))
    return folder


@pytest.fixture
def frames(root: Path) -> LabelledFrames:
    return LabelledFrames(root, cache=False)


# The protocol


def test_weights_change_the_argmax() -> None:
    # At std .16 road weighs .6932, motorcycle 1.2204: 3.0 * .6932 = 2.08 < 1.9 * 1.2204 = 2.32.
    logits = torch.zeros(1, 19, 2, 2)
    logits[:, 0], logits[:, 17] = 3.0, 1.9
    plain = decide(class_scores(logits, PLAIN), (4, 4), PLAIN)
    assert plain.labels.unique().tolist() == [0]
    weighted = EvaluationProtocol(None, None, 0.16)
    scores = class_scores(logits, weighted)
    assert scores[0, 0, 0, 0] == pytest.approx(2.0796, abs=1e-3)
    assert scores[0, 17, 0, 0] == pytest.approx(2.3188, abs=1e-3)
    assert decide(scores, (4, 4), weighted).labels.unique().tolist() == [17]
    # As probabilities road wins: e^3 * .6932 = 13.9 > e^1.9 * 1.2204 = 8.2.
    words = EvaluationProtocol(None, None, 0.16, 'probabilities')
    assert decide(class_scores(logits, words), (4, 4), words).labels.unique().tolist() == [0]


def test_confidence_by_hand() -> None:
    logits = torch.zeros(1, 19, 1, 1)
    logits[:, 5] = math.log(18.0)
    found = decide(class_scores(logits, PLAIN), (2, 2), PLAIN)
    assert found.confidence.flatten().tolist() == pytest.approx([0.5] * 4)
    words = EvaluationProtocol(None, None, 0.16, 'probabilities')
    weights = class_weights(0.16)
    others = float(weights.sum() - weights[5])
    expected = 18 * float(weights[5]) / (18 * float(weights[5]) + others)
    found = decide(class_scores(logits, words), (2, 2), words)
    assert found.confidence.flatten().tolist() == pytest.approx([expected] * 4)


@pytest.mark.parametrize(
    ('align', 'share'),
    [
        # The second of eight pixels lies 1/7 of the way: logits 24/7, 4/7 and 2.5.
        (True, math.exp(24 / 7) / (math.exp(24 / 7) + math.exp(4 / 7) + math.exp(2.5))),
        # It lies before the centre of the first logit: logits 4, 0 and 2.5.
        (False, math.exp(4) / (math.exp(4) + 1 + math.exp(2.5))),
    ],
)
def test_logits_are_upsampled_before_the_argmax(align: bool, share: float) -> None:
    # Class 0 fades 4 -> 0, class 1 rises 0 -> 4, class 2 is 2.5 at both ends: it wins between.
    logits = torch.full((1, 19, 1, 2), -99.0)
    logits[0, 0, 0] = torch.tensor([4.0, 0.0])
    logits[0, 1, 0] = torch.tensor([0.0, 4.0])
    logits[0, 2, 0] = 2.5
    protocol = EvaluationProtocol(None, None, None, align_corners=align)
    scores = class_scores(logits, protocol)
    assert decide(scores, (1, 5), protocol).labels[0].tolist() == [0, 0, 2, 1, 1]
    assert decide(scores, (1, 8), protocol).confidence[0, 1].item() == pytest.approx(share)


def test_frames_are_resized_like_pil() -> None:
    image = np.random.default_rng(0).integers(0, 256, (54, 96, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((48, 27), Image.Resampling.BILINEAR))
    found = network_input(image, Knowing(), (27, 48))[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (network_input(image, Knowing(), None)[0].permute(1, 2, 0).numpy() == image).all()


def test_protocol_in_words() -> None:
    assert '540x960' in str(EvaluationProtocol())
    assert 'logits times class weights (std 0.16)' in str(EvaluationProtocol())
    assert 'at their own size' in str(PLAIN)
    assert 'no class weights' in str(PLAIN)


# The scores


@pytest.mark.parametrize('stride', [1, 4])
def test_who_knows_the_truth_scores_one(frames: LabelledFrames, stride: int) -> None:
    found = evaluate_method(Knowing(stride=stride), frames, PLAIN)
    if stride == 1:
        assert found.mean_iou == 1.0
        assert found.exposure.mean_micro == 1.0
        assert [frame.miou for frame in found.frames] == [1.0, 1.0, 1.0]
    assert found.mean_iou > 0.9
    half = SIZE[0] * SIZE[1] // 2
    assert found.support[[0, 2, 10, 13]].tolist() == [2 * half, half, half, half]
    assert found.support.sum() == 5 * half
    assert found.sizes == ('24x40',)
    assert found.uncertainty is None


def test_who_is_always_wrong_scores_zero(frames: LabelledFrames) -> None:
    found = evaluate_method(Knowing(shift=8), frames, PLAIN)
    assert found.mean_iou == 0.0
    assert found.exposure.mean_micro == 0.0


def test_who_is_partly_wrong_scores_by_hand(root: Path) -> None:
    # The frame shows sky over road; its label says road for the upper half of the sky as well.
    labels = _halves(10, 0)
    labels[: SIZE[0] // 4] = 0
    assert cv2.imwrite(str(root / 'labels' / 'a.png'), labels)
    found = evaluate_method(Knowing(), LabelledFrames(root, cache=False), PLAIN, indices=[0])
    # Truth: 3/4 road, 1/4 sky; predicted 1/2 each. Road 2/3 of its union, sky 1/2.
    assert found.class_iou[[0, 10]].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert found.mean_iou == found.frames[0].miou == pytest.approx(7 / 12)
    # Sky (V = 125/255, bin 4) is right on half of its pixels, road (60/255, bin 2) everywhere.
    assert found.exposure.micro[[2, 4]].tolist() == pytest.approx([1, 1 / 2])
    assert found.exposure.mean_micro == pytest.approx(3 / 4)


def test_labels_of_any_size_are_compared_at_their_size(frames: LabelledFrames) -> None:
    method = Knowing()
    protocol = EvaluationProtocol((12, 20), (48, 80), None)
    saved = {}
    found = evaluate_method(method, frames, protocol, lambda n, p: saved.update({n: p}))
    assert set(method.sizes) == {(12, 20)}
    assert found.sizes == ('24x40',)
    assert found.mean_iou > 0.85
    assert {tuple(p.labels.shape) for p in saved.values()} == {(48, 80)}
    assert sorted(saved) == ['a', 'b', 'c']


def test_uncertainty_where_the_set_knows_it(root: Path) -> None:
    found = evaluate_method(Knowing(), Masked(root, cache=False), PLAIN)
    assert found.uncertainty.mean_uiou[0] == pytest.approx(1.0)
    # Labelled: 5 halves, 2 of them upper and invalid.
    assert found.uncertainty.invalid_share == pytest.approx(2 / 5)


def test_refuses(root: Path, frames: LabelledFrames) -> None:
    with pytest.raises(DataError, match='no frame'):
        evaluate_method(Knowing(), frames, PLAIN, indices=[])
    _paint(root, 'd', _halves(253, 0))
    odd = LabelledFrames(root, cache=False, extra_labels=(253,))
    with pytest.raises(DataError, match=r'label of d holds \[253\]'):
        evaluate_method(Knowing(), odd, PLAIN)
    method = Knowing()
    method.predict_logits = lambda image: torch.zeros(1, 5, 2, 2)
    with pytest.raises(DataError, match=r'predicts \(1, 5, 2, 2\)'):
        evaluate_method(method, frames, PLAIN)


def test_says_which_size_a_network_cannot_take(frames: LabelledFrames) -> None:
    def refuse(image: Tensor) -> Tensor:
        raise ValueError('sides must be multiples of 64')

    method = Knowing()
    method.predict_logits = refuse
    with pytest.raises(DataError, match=r'24x40 \(set --predict_size\): sides must be'):
        evaluate_method(method, frames, PLAIN)


def test_refuses_masks_of_a_part(root: Path) -> None:
    class Partly(Masked):
        def invalid_mask(self, index: int) -> np.ndarray | None:
            return super().invalid_mask(index) if index else None

    with pytest.raises(DataError, match='only 2 of 3'):
        evaluate_method(Knowing(), Partly(root, cache=False), PLAIN)

    class Small(Masked):
        def invalid_mask(self, index: int) -> np.ndarray | None:
            return np.zeros((2, 2), bool)

    with pytest.raises(DataError, match='mask of a is 2x2'):
        evaluate_method(Knowing(), Small(root, cache=False), PLAIN)


# What is written


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Knowing:
    method = Knowing(relit=True)
    monkeypatch.setattr(module, 'load_method', lambda path: method)
    return method


def test_evaluate_writes_everything(
    loaded: Knowing, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'out'
    (output / 'sheets').mkdir(parents=True)
    (output / 'sheets' / 'former.png').write_bytes(b'')
    evaluate(
        tmp_path / 'last.ckpt', Masked(root, cache=False), output, None, (48, 80), None,
        sheets=2, save_predictions=True, accelerator='cpu', published_as='nightcity',
    )  # fmt: skip
    numbers = json.loads((output / 'results.json').read_text())
    assert numbers['miou'] == 1.0
    assert numbers['class_iou']['road'] == 1.0
    assert numbers['class_iou']['train'] is None
    assert numbers['class_pixels']['train'] == 0
    assert numbers['exposure']['mean_ef1'] == 1.0
    assert numbers['exposure']['bins_without_pixels']
    assert numbers['uncertainty']['average_uiou'] > 0.5
    assert numbers['protocol']['compared_at'] == ['24x40']
    assert numbers['published'][0]['method'] == 'FDLNet'
    assert [frame['name'] for frame in numbers['frames']] == ['a', 'b', 'c']
    rows = list(csv.DictReader((output / 'per_class.csv').open()))
    assert len(rows) == 19
    assert rows[0] == {'train_id': '0', 'name': 'road', 'iou': '1.000000', 'pixels': '960'}
    assert rows[16]['iou'] == ''
    text = (output / 'report.md').read_text()
    for part in (
        'mIoU 100.00', 'Masked (frames, 3 frames)', '| road | 100.00 | 960 |', 'EGNet',
        'first release', 'no class weights', 'in no mean', 'average UIoU', 'marked invalid',
        'without sidewalk', str(root.name),
    ):  # fmt: skip
        assert part in text
    assert str(tmp_path) not in text
    assert cv2.imread(str(output / 'ef1.png')).shape[1] > 800
    sheets = sorted(path.name for path in (output / 'sheets').iterdir())
    assert len(sheets) == 2
    assert sheets[0].startswith('01_worst_')
    assert sheets[1].startswith('02_best_')
    for name in ('a', 'b', 'c'):
        for folder in submission.FOLDERS:
            png = cv2.imread(str(output / 'predictions' / folder / f'{name}.png'), -1)
            assert png.shape == (48, 80)
    printed = capsys.readouterr().out
    assert 'report.md' in printed
    assert 'published' in printed
    assert not list(output.glob('.*'))


def test_evaluate_checks_before_it_computes(loaded: Knowing, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match='nightcity_fine'):
        evaluate(tmp_path / 'x.ckpt', LabelledFrames(root), tmp_path / 'out', published_as='x')
    if not torch.cuda.is_available():
        with pytest.raises(DataError, match='no GPU'):
            evaluate(tmp_path / 'x.ckpt', LabelledFrames(root), accelerator='gpu')
    assert not loaded.sizes


def test_report_of_a_set_without_published_results(frames: LabelledFrames) -> None:
    found = evaluate_method(Knowing(), frames, PLAIN)
    assert 'Published' not in report(found, About('a.ckpt', 'EGNet', 'x'))
    assert 'None are known' in report(found, About('a.ckpt', 'EGNet', 'x', 'nightcity_plus'))


def test_chosen_frames() -> None:
    frames = [FrameScore(i, str(i), miou / 10) for i, miou in enumerate([5, 1, 9, 3, 7, 2, 8])]
    frames.append(FrameScore(7, 'none', math.nan))
    chosen = [(rank, frame.name) for rank, frame in choose_frames(frames, 3)]
    assert chosen == [('worst', '1'), ('median', '0'), ('best', '2')]
    six = choose_frames(frames, 6)
    assert [rank for rank, _ in six] == ['worst'] * 2 + ['median'] * 2 + ['best'] * 2
    assert len({frame.index for _, frame in six}) == 6
    assert len(choose_frames(frames, 99)) == 7
    assert choose_frames(frames, 0) == []
    assert [rank for rank, _ in choose_frames(frames, 1)] == ['worst']


def _inspected(relit: bool) -> InspectedFrame:
    truth = _halves(10, 0)
    truth[:, :4] = 255
    image = np.full((*SIZE, 3), 100, np.uint8)
    return InspectedFrame(
        FrameScore(0, 'a', 0.5), image, image + 50 if relit else None, _halves(10, 13), truth
    )


def test_panels() -> None:
    pictures = panels(_inspected(relit=True))
    names = list(pictures)
    assert names[:4] == ['input', 'relit', 'prediction on the input', 'prediction']
    assert names[4].startswith('truth')
    assert names[5] == 'errors (red): 50.0% of the labelled'
    assert (pictures['relit'] == 150).all()
    assert (pictures['prediction'][-1] == PALETTE[13]).all()
    assert (pictures[names[4]][-1, 4:] == PALETTE[0]).all()
    errors = pictures[names[5]]
    assert (errors[:, :4] == 0).all()
    assert (errors[0, 4:] == 114).all()
    assert (errors[-1, 4:] == (235, 70, 60)).all()
    assert 'relit' not in panels(_inspected(relit=False))


@pytest.mark.parametrize('relit', [False, True])
def test_sheet_shows_the_panels(relit: bool, tmp_path: Path) -> None:
    draw_sheet(_inspected(relit), 'worst', tmp_path / 'sheet.png')
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / 'sheet.png')), cv2.COLOR_BGR2RGB)
    assert 1900 <= sheet.shape[1] <= 1930
    shown = {
        'sky': tuple(PALETTE[10]), 'road': tuple(PALETTE[0]), 'car': tuple(PALETTE[13]),
        'input': (100, 100, 100), 'error': (235, 70, 60),
    }  # fmt: skip
    if relit:
        shown['relit'] = (150, 150, 150)
    for color in shown.values():
        assert (sheet == np.array(color)).all(axis=-1).sum() > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ['sheet.png']


# Images without labels


def test_predict_then_pack(
    loaded: Knowing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, 'FRAMES', 2)
    monkeypatch.setattr(submission, 'SIZE', (48, 80))
    lines = []
    for number in (1, 2):
        name = f'test/night/GOPR0364/GOPR0364_frame_{number:06d}'
        path = tmp_path / 'data' / 'rgb_anon' / f'{name}_rgb_anon.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((*SIZE, 3), 12 * 7 + 5, np.uint8))
        lines.append(name)
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(lines))
    output = tmp_path / 'predictions'
    predict(
        tmp_path / 'a.ckpt', tmp_path / 'data', output, names, None, (48, 80), None,
        accelerator='cpu', invalid_below=0.5,
    )  # fmt: skip
    found = cv2.imread(str(output / 'labelTrainIds' / 'GOPR0364_frame_000001.png'), -1)
    assert found.shape == (48, 80)
    assert (found == 7).all()
    submission.pack(output, tmp_path / 'out.zip', names)
    submission.verify(tmp_path / 'out.zip', names)
    assert len(find_images(tmp_path / 'data')) == 2


def test_find_images_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='does not exist'):
        find_images(tmp_path / 'none')
    with pytest.raises(DataError, match='holds no image'):
        find_images(tmp_path)
    with pytest.raises(DataError, match='give a list'):
        find_images(tmp_path, tmp_path / 'names.txt')
    (tmp_path / 'names.txt').write_text('night/a\n')
    with pytest.raises(DataError, match='relative to'):
        find_images(tmp_path, tmp_path / 'names.txt')
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a.png').write_bytes(b'')
    with pytest.raises(DataError, match='overwrite each other'):
        find_images(tmp_path)
