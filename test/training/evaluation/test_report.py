from __future__ import annotations

from training.data.labelled_set import LabelledFrames
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.report import About
from training.evaluation.report import report
from training.evaluation.scores import evaluate_method


def test_report_of_a_set_without_published_results(knowing: type, frames: LabelledFrames) -> None:
    found = evaluate_method(knowing(), frames, EvaluationProtocol(None, None))
    assert 'Published' not in report(found, About('a.ckpt', 'EGNet', 'x'))
    assert 'None are known' in report(found, About('a.ckpt', 'EGNet', 'x', 'nightcity_plus'))
