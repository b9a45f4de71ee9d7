"""``python -m training evaluate``: a checkpoint against labels, as the papers measure it."""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from training.data.labelled_set import LabelledSet
from training.evaluation.pictures import draw_sheets
from training.evaluation.protocol import Accelerator
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.protocol import Reweight
from training.evaluation.protocol import load_predictor
from training.evaluation.published import PublishedSet
from training.evaluation.report import About
from training.evaluation.report import describe
from training.evaluation.report import print_summary
from training.evaluation.report import write_results
from training.evaluation.scores import evaluate_method


def evaluate(
    checkpoint: Path,
    dataset: LabelledSet,
    output: Path = Path('build/evaluation'),
    predict_size: tuple[int, int] | None = (540, 960),
    class_weight_std: float | None = 0.16,
    reweight: Reweight = 'logits',
    align_corners: bool = False,
    sheets: int = 12,
    accelerator: Accelerator = 'auto',
    published_as: PublishedSet | None = None,
) -> None:
    """Measure a checkpoint on a labelled data set and write a report.

    Every frame is predicted at one size, its logits are weighted per class and upsampled to the
    size of its label.

    Args:
        checkpoint: file that ``python -m training fit`` wrote.
        dataset: class of the labelled data set; its own options follow, for example
            ``--dataset NightCity --dataset.root FOLDER --dataset.split val``.
        output: folder of report.md, results.json, per_class.csv, ef1.png and sheets/, whose older
            sheets are removed.
        predict_size: height and width that the network sees, as [540,960]; null: as the frames are.
        class_weight_std: spread of DANNet's class weights, which favour rare classes; null: none.
        reweight: multiply logits (DANNet's code) or probabilities (its paper) by them.
        align_corners: whether upsampling aligns the corner pixels (DANNet's code does).
        sheets: how many frames to draw with prediction, truth and errors: a third each of the
            worst, the median and the best.
        accelerator: where to compute; auto takes a GPU if there is one.
        published_as: data set whose published results stand beside; null: none.
    """
    protocol = EvaluationProtocol(predict_size, class_weight_std, reweight, align_corners)
    method = load_predictor(checkpoint, accelerator)
    indices = track(range(len(dataset)), description='evaluating')
    evaluation = evaluate_method(method, dataset, protocol, indices)
    about = About(checkpoint.name, type(method).__name__, describe(dataset), published_as)
    write_results(evaluation, about, output)
    draw_sheets(method, dataset, evaluation, sheets, output / 'sheets')
    print_summary(evaluation, about, output)
