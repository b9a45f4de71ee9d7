"""Speed and memory of one training step of each method: ``make bench-training`` or ``--help``.

Figures are ratios within one run: machines are noisy, and rounds are interleaved so that noise hits
all alike. On a GPU the papers' networks and crops are measured, on a CPU small ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity
from torch.profiler import profile

from models.discriminator import Discriminator
from models.egnet import EGNet as EGNetwork
from models.pspnet import PSPNet
from models.refinenet import RefineNet
from models.relighting import CurveRelighting
from models.relighting import ResidualRelighting
from models.student import Student
from nightseg_ros.simulation.night_drive import NightDrive
from training.adversary import Adversary
from training.data.driving_data import DrivingData
from training.data.labelled_set import LabelledFrames
from training.data.transforms import SourceTransform
from training.losses.light import LightLoss
from training.losses.static import StaticLoss
from training.methods.adaptsegnet import AdaptSegNet
from training.methods.bimix import BiMix
from training.methods.dannet import DANNet
from training.methods.egnet import EGNet
from training.methods.method import Method
from training.methods.selftrain import SelfTrain
from training.methods.source_only import SourceOnly

LAYOUTS = {'channels last': torch.channels_last, 'contiguous': torch.contiguous_format}
PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16}


def methods(small: bool) -> dict[str, Callable[[], Method]]:
    """Return the methods on the papers' networks, or on small ones."""

    def net(large: type[nn.Module]) -> nn.Module:
        return Student(12, 0) if small else large()

    def adversary() -> Adversary:
        return Adversary(Discriminator(channels=(16, 32, 64, 64)) if small else None)

    def adversaries() -> dict[str, Adversary]:
        return {'day_adversary': adversary(), 'night_adversary': adversary()}

    return {
        'source_only': lambda: SourceOnly(net(PSPNet)),
        'adaptsegnet': lambda: AdaptSegNet(net(PSPNet), adversary()),
        'dannet': lambda: DANNet(
            net(PSPNet),
            ResidualRelighting(8 if small else 64),
            LightLoss(),
            StaticLoss(),
            **adversaries(),
        ),
        'bimix': lambda: BiMix(
            net(RefineNet), CurveRelighting(8 if small else 32), light=LightLoss(), **adversaries()
        ),
        'egnet': lambda: EGNet(Student(12, 8) if small else EGNetwork()),
        'selftrain': lambda: SelfTrain(net(PSPNet)),
    }


class Step:
    """One method with its optimiser on one random batch.

    Args:
        make: makes the method.
        size: side of the crops.
        batch_size: source images, and pairs.
        layout: of weights and images.
        precision: of autocast, or None.
        device: to run on.
    """

    def __init__(
        self,
        make: Callable[[], Method],
        size: int,
        batch_size: int,
        layout: torch.memory_format,
        precision: torch.dtype | None,
        device: torch.device,
    ) -> None:
        torch.manual_seed(0)
        self.method = make().to(device).train()
        self.method.generator.arrange(layout)
        self.optimizer = torch.optim.SGD(self.method.parameters(), lr=1e-6, momentum=0.9)
        self.device = device
        self.precision = precision
        shape = (batch_size, 3, size, size)
        images = [torch.randint(0, 256, shape, dtype=torch.uint8, device=device) for _ in range(3)]
        labels = torch.randint(0, 19, (batch_size, size // 32, size // 32), device=device)
        labels = labels.repeat_interleave(32, 1).repeat_interleave(32, 2)
        self.batch = {'source': [images[0], labels], 'target': images[1:]}

    def __call__(self) -> float:
        """Return the seconds of one step."""
        self._wait()
        start = time.perf_counter()
        context = (
            nullcontext()
            if self.precision is None
            else torch.autocast(self.device.type, self.precision)
        )
        with context:
            for group in self.method.terms(self.batch):
                torch.stack(list(group.values())).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def peak_memory(self) -> float:
        """Return the most memory that tensors of one step held, in MiB."""
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            self()
            return torch.cuda.max_memory_allocated() / 2**20
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            self()
        # The profiler tells how much every operator allocated and freed, in order.
        held = peak = 0
        for event in recorded.profiler.kineto_results.events():
            if event.name() == '[memory]':
                held += event.nbytes()
                peak = max(peak, held)
        return peak / 2**20

    def profile(self, path: Path) -> str:
        """Write the operators by time and return the three that cost most."""
        activities = [ProfilerActivity.CPU]
        key = 'self_cpu_time_total'
        if self.device.type == 'cuda':
            activities.append(ProfilerActivity.CUDA)
            key = 'self_device_time_total'
        with profile(activities=activities) as recorded:
            self()
        averages = recorded.key_averages()
        path.write_text(averages.table(sort_by=key, row_limit=25))
        ranked = sorted(averages, key=lambda event: getattr(event, key), reverse=True)
        total = sum(getattr(event, key) for event in ranked) or 1
        names = (
            f'{e.key.removeprefix("aten::")} {getattr(e, key) / total:.0%}' for e in ranked[:3]
        )
        return ', '.join(names)


def loading_seconds(size: int, batch_size: int, rounds: int) -> float:
    """Return the seconds that one loader process needs for a batch, PNG decoding included.

    Frames are four times as wide and twice as high as the crop, as Cityscapes' are for 512.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ('images', 'labels'):
            (root / part).mkdir()
        frame = NightDrive(4 * size, 2 * size).frame(0)
        for index in range(batch_size * (rounds + 1)):
            cv2.imwrite(str(root / 'images' / f'{index}.png'), frame.day)
            cv2.imwrite(str(root / 'labels' / f'{index}.png'), frame.labels)
        frames = LabelledFrames(root, cache=False)
        data = DrivingData(
            [frames],
            source_transform=SourceTransform((size, size)),
            batch_size=batch_size,
            workers=0,
        )
        data.setup('fit')
        batches = iter(data.train_dataloader()['source'])
        next(batches)
        start = time.perf_counter()
        for _ in islice(batches, rounds):
            pass
        return (time.perf_counter() - start) / rounds


def main() -> None:
    """Measure, print a table, and write build/benchmarks/training_step.json and the profiles."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--size', type=int, default=512 if cuda else 128, help='side of the crops')
    parser.add_argument('--batch-size', type=int, default=2, help='source images, and pairs')
    parser.add_argument('--rounds', type=int, default=10, help='timed steps of each')
    parser.add_argument('--small', action='store_true', default=not cuda, help='small networks')
    parser.add_argument('--output', type=Path, default=Path('build/benchmarks'))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    device = torch.device('cuda' if cuda else 'cpu')

    results = []
    for name, make in methods(arguments.small).items():
        steps = {
            (layout, precision): Step(
                make, arguments.size, arguments.batch_size, LAYOUTS[layout],
                PRECISIONS[precision], device,
            )
            for layout in LAYOUTS
            for precision in PRECISIONS
        }  # fmt: skip
        for step in steps.values():
            step()
        times: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
        for _ in range(arguments.rounds):
            for key, step in steps.items():
                times[key].append(step())
        seconds = {key: median(values) for key, values in times.items()}
        best = steps['channels last', 'fp32']
        results.append(
            {
                'method': name,
                'images_per_s': arguments.batch_size / seconds['channels last', 'fp32'],
                'peak_mib': best.peak_memory(),
                'channels_last_gain': seconds['contiguous', 'fp32']
                / seconds['channels last', 'fp32'],
                'bf16_gain': seconds['channels last', 'fp32'] / seconds['channels last', 'bf16'],
                'costs_most': best.profile(arguments.output / f'profile_{name}.txt'),
            }
        )
    loading = loading_seconds(arguments.size, arguments.batch_size, arguments.rounds)
    show(results, loading / seconds_of(results[0], arguments.batch_size), arguments.output, device)


def seconds_of(result: dict, batch_size: int) -> float:
    """Return the seconds of a measured step."""
    return batch_size / result['images_per_s']


def show(results: list[dict], loading: float, output: Path, device: torch.device) -> None:
    """Print the table and write the figures."""
    name = torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'
    columns = (
        'method', 'images/s', 'relative step', 'peak MiB', 'channels last', 'bf16',
    )  # fmt: skip
    table = Table(*columns, title=f'one training step on {name}')
    reference = results[0]['images_per_s']
    for row in results:
        table.add_row(
            row['method'],
            f'{row["images_per_s"]:.1f}',
            f'{reference / row["images_per_s"]:.2f}',
            f'{row["peak_mib"]:.0f}',
            f'{row["channels_last_gain"]:.2f}x',
            f'{row["bf16_gain"]:.2f}x',
        )
    console = Console()
    console.print(table)
    for row in results:
        console.print(f'{row["method"]}: {row["costs_most"]}')
    console.print(f'loading a batch in one process: {loading:.2f} steps of source_only')
    path = output / 'training_step.json'
    path.write_text(json.dumps({'device': name, 'loading': loading, 'results': results}, indent=1))
    print(f'{path} and the profiles beside it')


if __name__ == '__main__':
    main()
