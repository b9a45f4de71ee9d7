"""``python -m training fit``: train a network, resumable, nothing lost when interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import lightning
from jsonargparse import lazy_instance
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from training.data.night_driving import NightDrivingData
from training.methods.supervised import Supervised

LAST = 'last.ckpt'
LOGS = 'logs'


def fit(
    data: NightDrivingData = lazy_instance(NightDrivingData),  # noqa: B008
    method: Supervised = lazy_instance(Supervised),  # noqa: B008
    output: Path = Path('build/training/student'),
    steps: int = 6000,
    measure_every: int = 1000,
    checkpoint_every: int = 250,
    resume: bool = True,
    seed: int = 1,
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = '32-true',
    accelerator: str = 'auto',
    devices: int = 1,
    ema_decay: float = 0.998,
) -> None:
    """Train the student on labelled day frames, relit to night.

    Measures the sets that have ground truth as it goes. Weights are averaged (EMA); the averaged
    ones are measured, saved and exported. Ctrl-C saves a checkpoint, and the same command goes on
    from it.

    Args:
        data: what to train on and where it is.
        method: the network and its losses.
        output: folder for checkpoints (``last.ckpt``) and ``logs/metrics.csv``; the metrics of
            earlier calls are kept beside it as ``metrics-1.csv`` and so on.
        steps: optimiser steps in all.
        measure_every: steps between measurements.
        checkpoint_every: steps between checkpoints: the most a kill can cost.
        resume: go on from ``output/last.ckpt`` if there is one.
        seed: of everything random.
        precision: bf16-mixed is about 1.6 times as fast where the processor or GPU knows bfloat16.
        accelerator: cpu, gpu or auto.
        devices: number of them.
        ema_decay: decay of the weight average per step.
    """
    lightning.seed_everything(seed, workers=True)
    output = Path(output)
    last = output / LAST
    _keep_metrics(output / LOGS)
    trainer = lightning.Trainer(
        default_root_dir=output,
        logger=CSVLogger(output, name=None, version=LOGS),
        max_steps=steps,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        val_check_interval=measure_every,
        num_sanity_val_steps=0,
        precision=precision,
        accelerator=accelerator,
        devices=devices,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        callbacks=[
            RichProgressBar(refresh_rate=5),
            LearningRateMonitor(),
            # Before its start the average is the untrained net: a short run starts it sooner.
            EMAWeightAveraging(decay=ema_decay, update_starting_at_step=min(100, steps // 2)),
            ModelCheckpoint(
                dirpath=output,
                filename='step-{step:06d}',
                auto_insert_metric_name=False,
                every_n_train_steps=checkpoint_every,
                save_last=True,
                # Not last-v1.ckpt beside an older last.ckpt, which export would then read.
                enable_version_counter=False,
                save_on_exception=True,
            ),
        ],
    )
    trainer.fit(method, data, ckpt_path=last if resume and last.is_file() else None)


def _keep_metrics(logs: Path) -> None:
    """Set the metrics of an earlier call aside: the logger deletes the file that it finds."""
    metrics = logs / 'metrics.csv'
    if metrics.is_file():
        earlier = len(list(logs.glob('metrics-*.csv')))
        metrics.rename(logs / f'metrics-{earlier + 1}.csv')
