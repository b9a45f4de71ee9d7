"""``python -m training fit``: train a method, resumable, nothing lost when interrupted."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any
from typing import Literal

import lightning
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from training.checkpoint import load_generator
from training.checkpoint import load_strictly
from training.checkpoint import read_checkpoint
from training.curves import CurvesPicture
from training.data.driving_data import DrivingData
from training.methods.method import Method
from training.methods.method import TrainingError
from training.release_weights import load_release

LAST = 'last.ckpt'
LOGS = 'logs'
CONFIG = 'config.yaml'

_STATISTICS_IMAGES = 48
"""Crops on which the batch statistics of a released model are measured."""


def fit(
    data: DrivingData,
    method: Method,
    output: Path = Path('build/training/student'),
    steps: int = 6000,
    measure_every: int = 1000,
    checkpoint_every: int = 250,
    log_every: int = 20,
    keep_best: str | None = None,
    initial: Path | None = None,
    resume: bool = True,
    seed: int = 1,
    deterministic: bool = False,
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = '32-true',
    accelerator: str = 'auto',
    devices: int = 1,
    sync_batchnorm: bool = False,
    accumulate: int = 1,
    ema_decay: float | None = None,
    progress: bool = True,
) -> None:
    """Train a method on its data.

    training/configs has one file for each method and preset; any line of it can be changed on the
    command line. Sets with ground truth are measured as training goes. Ctrl-C saves a checkpoint,
    and the same command goes on from it.

    Args:
        data: what to train on and where it is.
        method: the networks, the losses, the optimisers.
        output: folder for checkpoints (``last.ckpt``), ``curves.png`` and ``logs/metrics.csv``; the
            metrics of earlier calls are kept beside it as ``metrics-1.csv`` and so on.
            ``config.yaml`` there repeats the training: ``fit --config OUTPUT/config.yaml``.
        steps: optimiser steps in all.
        measure_every: steps between measurements.
        checkpoint_every: steps between checkpoints: the most that a kill can cost.
        log_every: steps between rows of ``logs/metrics.csv``.
        keep_best: also keep the checkpoint with the best value of this metric, such as
            ``miou/dark_zurich_val``. Never choose on a test set.
        initial: what this training starts from: a checkpoint (the papers train on Cityscapes
            first), or the ONNX file of a released model of the same architecture, to adapt it to
            frames of your own; ignored when an earlier call is resumed.
        resume: go on from ``output/last.ckpt`` if there is one.
        seed: of everything random.
        deterministic: use deterministic algorithms where there are any, warn elsewhere; slower.
        precision: bf16-mixed made the three-branch student 1.6 times as fast on a processor that
            knows bfloat16, and small networks hardly any faster (make bench-training measures it);
            16-mixed suits methods without discriminators, whose gradients share its scale.
        accelerator: cpu, gpu or auto.
        devices: number of them; the batch size is that of each.
        sync_batchnorm: share batch statistics among GPUs.
        accumulate: batches per optimiser step.
        ema_decay: average the weights with this decay per step; the averaged ones are measured,
            saved and exported. None does not average.
        progress: show a progress bar; false keeps log files readable.
    """
    lightning.seed_everything(seed, workers=True)
    output = Path(output)
    last = output / LAST
    resumed = resume and last.is_file()
    if resumed:
        _check_resumable(method, last)
    elif initial is not None:
        if Path(initial).suffix == '.onnx':
            load_release(method.generator, initial, data.source_images(_STATISTICS_IMAGES))
        else:
            load_generator(method.generator, initial)
        if method.self_training is not None:
            method.self_training.begin(method.generator)
    _keep_metrics(output / LOGS)
    _write_config(output / CONFIG, locals())
    method.accumulate = accumulate
    trainer = lightning.Trainer(
        default_root_dir=output,
        logger=CSVLogger(output, name=None, version=LOGS),
        max_steps=steps,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        val_check_interval=measure_every * accumulate,
        num_sanity_val_steps=0,
        precision=precision,
        accelerator=accelerator,
        devices=devices,
        # Each group of terms uses other networks, and is propagated backwards on its own.
        strategy='ddp_find_unused_parameters_true' if devices != 1 else 'auto',
        sync_batchnorm=sync_batchnorm,
        deterministic='warn' if deterministic else None,
        log_every_n_steps=log_every,
        enable_progress_bar=progress,
        enable_model_summary=progress,
        callbacks=_callbacks(output, steps, checkpoint_every, keep_best, ema_decay, progress),
    )
    trainer.fit(method, data, ckpt_path=last if resumed else None, weights_only=True)


class StateCheckpoint(ModelCheckpoint):
    """Checkpoints to go on from: none of a state that training stumbled over."""

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: Method, exception: BaseException
    ) -> None:
        """Save when interrupted, but neither broken statistics nor the average as the weights."""
        if not isinstance(exception, TrainingError) and not trainer.validating:
            super().on_exception(trainer, pl_module, exception)


class SaveTheEnd(Callback):
    """Saves the last step where it is no multiple of the interval."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save before the weight average takes the place of the weights."""
        if trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.path)


class WeightAverage(EMAWeightAveraging):
    """The average, kept where the weights are: it is made before they move to a GPU."""

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Method) -> None:
        """Move it."""
        super().on_fit_start(trainer, pl_module)
        self._average_model.to(pl_module.device)


def _callbacks(
    output: Path,
    steps: int,
    checkpoint_every: int,
    keep_best: str | None,
    ema_decay: float | None,
    progress: bool,
) -> list[Callback]:
    callbacks: list[Callback] = [
        *([RichProgressBar(refresh_rate=5)] if progress else []),
        LearningRateMonitor(),
        CurvesPicture(output / LOGS, output / 'curves.png'),
        StateCheckpoint(
            dirpath=output,
            filename='step-{step:06d}',
            auto_insert_metric_name=False,
            every_n_train_steps=checkpoint_every,
            save_last=True,
            # Not last-v1.ckpt beside an older last.ckpt, which export would then read.
            enable_version_counter=False,
            save_on_exception=True,
        ),
    ]
    if keep_best is not None:
        callbacks.append(
            ModelCheckpoint(
                dirpath=output,
                filename='best',
                monitor=keep_best,
                mode='max',
                enable_version_counter=False,
            )
        )
    if ema_decay is not None:
        # Before its start the average is the untrained net: a short run starts it sooner.
        start = min(100, steps // 2)
        callbacks.append(WeightAverage(decay=ema_decay, update_starting_at_step=start))
    return [*callbacks, SaveTheEnd(output / LAST)]


@rank_zero_only
def _write_config(path: Path, arguments: dict[str, Any]) -> None:
    """Write down all arguments of :func:`fit` as a config file for it."""
    config = {
        name: getattr(value, 'config', str(value) if isinstance(value, Path) else value)
        for name, value in arguments.items()
        if name in inspect.signature(fit).parameters
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def _check_resumable(method: Method, last: Path) -> None:
    """Refuse a checkpoint of another architecture before Lightning meets it.

    Raises:
        CheckpointError: naming the keys that differ.
    """
    load_strictly(method, read_checkpoint(last)['state_dict'], last)


@rank_zero_only
def _keep_metrics(logs: Path) -> None:
    """Set the metrics of an earlier call aside: the logger deletes the file that it finds."""
    metrics = logs / 'metrics.csv'
    if metrics.is_file():
        earlier = len(list(logs.glob('metrics-*.csv')))
        metrics.rename(logs / f'metrics-{earlier + 1}.csv')
