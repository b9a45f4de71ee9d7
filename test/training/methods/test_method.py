from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.discriminator import Discriminator
from models.relighting import CurveRelighting
from models.student import Student
from training.adversary import Adversary
from training.checkpoint import load_method
from training.data.driving_data import Batch
from training.losses.light import LightLoss
from training.losses.static import StaticLoss
from training.methods.dannet import DANNet
from training.methods.method import TrainingError
from training.methods.source_only import SourceOnly
from training.optimisation import PolySGD
from training.self_training import SelfTraining


def dannet(**arguments) -> DANNet:
    torch.manual_seed(0)

    def adversary() -> Adversary:
        return Adversary(Discriminator(channels=(4, 4, 4, 4)))

    full = {
        'relighting': CurveRelighting(4),
        'light': LightLoss(),
        'static': StaticLoss(),
        'day_adversary': adversary(),
        'night_adversary': adversary(),
        'measure_size': (64, 128),
    }
    return DANNet(Student(8, 0), **{**full, **arguments})


def load(path: Path) -> dict:
    return torch.load(path, map_location='cpu', weights_only=True)


@pytest.fixture(scope='module')
def adapted(mini_fit: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of four steps of DANNet; do not write to it."""
    output = tmp_path_factory.mktemp('adapted')
    mini_fit(output, 4, dannet(), pairs=True, ema_decay=None, log_every=1)
    return output


def test_a_step_is_one_of_the_generator_however_many_optimisers(adapted: Path) -> None:
    checkpoint = load(adapted / 'last.ckpt')
    assert checkpoint['global_step'] == 4
    generator, discriminators = checkpoint['optimizer_states']
    assert {float(s['step']) for s in discriminators['state'].values()} == {4.0}
    assert all('momentum_buffer' in s for s in generator['state'].values())
    for schedule in checkpoint['lr_schedulers']:
        assert schedule['last_epoch'] == 4
        assert max(schedule['_last_lr']) == 0


def test_every_network_has_moved(adapted: Path) -> None:
    fresh, state = dannet().state_dict(), load(adapted / 'last.ckpt')['state_dict']
    for prefix in ('generator.net', 'generator.relighting', 'day_adversary', 'night_adversary'):
        names = [n for n in fresh if n.startswith(prefix) and n.endswith('weight')]
        assert names
        assert any(not torch.equal(fresh[n], state[n]) for n in names), prefix


def test_metrics_name_every_term(adapted: Path) -> None:
    with (adapted / 'logs' / 'metrics.csv').open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['loss']]
    assert len(rows) == 4
    for row in rows:
        terms = {k: float(v) for k, v in row.items() if k.startswith('loss/')}
        assert len(terms) == 9
        generator = sum(v for k, v in terms.items() if 'discriminator' not in k)
        assert float(row['loss']) == pytest.approx(generator, rel=1e-4)


def test_checkpoint_builds_the_method_again(adapted: Path) -> None:
    method = load_method(adapted / 'last.ckpt')
    assert isinstance(method, DANNet)
    assert method.config == dannet().config
    frame = torch.randint(0, 256, (1, 3, 64, 128), dtype=torch.uint8)
    assert method.predict_logits(frame).shape == (1, 19, 8, 16)
    relit = method.relight(frame)
    assert relit.dtype == torch.uint8
    assert relit.shape == frame.shape


def test_adaptation_starts_from_another_method_and_goes_on_alike(
    mini_fit: Callable[..., None], trained: Path, tmp_path: Path
) -> None:
    net = Student(8, 4)  # the student of the fixture, exposure stream and all
    method = SourceOnly(net, measure_size=(64, 128), self_training=SelfTraining())
    mini_fit(
        tmp_path, 1, method, initial=trained / 'last.ckpt', measure_every=100, ema_decay=None,
        pairs=True,
    )  # fmt: skip
    before, after = load(trained / 'last.ckpt')['state_dict'], load(tmp_path / 'last.ckpt')
    name = 'generator.net.stem.0.0.weight'
    # One step at 2.5e-4 leaves it near; the teacher began there, too.
    for prefix in ('', 'self_training.teacher.'):
        key = name if not prefix else prefix + name.removeprefix('generator.')
        assert (after['state_dict'][key] - before[name]).abs().max() < 1e-2


class Diverging(SourceOnly):
    """Has a loss that is no number from the third step on."""

    def terms(self, batch: Batch):
        for group in super().terms(batch):
            factor = float('nan') if self.trainer.global_step == 2 else 1.0
            yield {'harmless': group['segmentation'], 'wild': factor * group['segmentation']}


def test_loss_that_is_no_number_stops_with_the_batch_saved(
    mini_fit: Callable[..., None], tmp_path: Path
) -> None:
    method = Diverging(Student(8, 0), measure_size=(64, 128))
    with pytest.raises(TrainingError, match=r'^wild is not finite at step 2\. .*learning rate'):
        mini_fit(tmp_path, 5, method, ema_decay=None, measure_every=100)
    saved = load(tmp_path / 'not_finite_step_2.pt')
    assert saved['step'] == 2
    assert saved['terms']['harmless'] > 0
    assert saved['batch']['source'][0].shape == (2, 3, 64, 128)
    # The weights from before are kept, and are fine.
    assert all(torch.isfinite(v).all() for v in load(tmp_path / 'last.ckpt')['state_dict'].values())


class Recorder(SourceOnly):
    """Remembers the gradient that the optimiser sees."""

    def __init__(self, net: torch.nn.Module, **common) -> None:
        super().__init__(net, **common)
        self.seen: list[Tensor] = []

    def on_before_optimizer_step(self, optimizer) -> None:
        self.seen.append(self.generator.net.head[1].bias.grad.clone())


def test_accumulation_averages_batches_into_one_step(
    mini_fit: Callable[..., None], tmp_path: Path
) -> None:
    gradients = []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        net = Student(8, 0).eval()
        method = Recorder(net, optimizer=PolySGD(1e-12), measure_size=(64, 128))
        method.on_train_start = net.eval  # batch statistics would differ
        steps = 2 // accumulate
        mini_fit(
            tmp_path / str(accumulate), steps, method, accumulate=accumulate, ema_decay=None,
            measure_every=100, checkpoint_every=100,
        )  # fmt: skip
        assert method.trainer.global_step == steps
        gradients.append(method.seen)
    [one, two], [both] = gradients
    torch.testing.assert_close(both, (one + two) / 2)
