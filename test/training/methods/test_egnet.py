from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.egnet import EGNet as Network
from training.data.driving_data import Batch
from training.losses.segmentation import exposure_loss
from training.methods.egnet import EGNet

BLOCKS = (1, 1, 1, 1)


@pytest.mark.parametrize(
    'guidance',
    ['attention', 'concat', 'sum', 'none', 'exposure_input', 'exposure_map', 'no_stream'],
)
def test_columns_of_tables_4_and_5_train(batch: Batch, run: Callable, guidance: str) -> None:
    torch.manual_seed(0)
    method = EGNet(
        Network(blocks=BLOCKS, guidance=guidance), class_weight_std=None,
        segmentation_reduction='position_sum',
    )  # fmt: skip
    terms = run(method, batch)
    stream = guidance in ('attention', 'concat', 'sum', 'none')
    assert set(terms) == ({'segmentation', 'exposure'} if stream else {'segmentation'})
    assert all(torch.isfinite(p.grad).all() for p in method.generator.net.parameters())


def test_exposure_term_is_beta_times_l1(batch: Batch, run: Callable) -> None:
    torch.manual_seed(0)
    method = EGNet(Network(blocks=BLOCKS), exposure_weight=0.01).eval()
    image = batch['source'][0]
    with torch.no_grad():
        exposure = method.generator(image).segmentation.exposure
        expected = 0.01 * exposure_loss(exposure, image.float() / 255)
    torch.testing.assert_close(run(method, batch)['exposure'], expected)
