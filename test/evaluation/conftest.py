"""Drives whose truth is their red channel: the channel model is then always right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightseg_ros.core.model import FP32
from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bags import Frame
from nightseg_ros.evaluation.offline import Engine
from nightseg_ros.evaluation.request import DriveRequest

BACKEND = 'onnxruntime'


def _channel_frames(count: int, wrong: int = 0) -> list[Frame]:
    """Return frames of 48x32 of which the last ``wrong`` have a truth that is not predicted."""
    frames = []
    for index in range(count):
        image = np.zeros((32, 48, 3), np.uint8)
        image[:, : 10 + index % 20, 0] = 13
        image[..., 1] = 200
        image[:16, :, 2] = 255
        truth = image[..., 0].copy()
        if index >= count - wrong:
            truth[:16] = 10
        frames.append(Frame(bags.stamp_of(index, 10.0), image, truth))
    return frames


@pytest.fixture
def channel_frames() -> Callable[..., list[Frame]]:
    """Return the function that makes such frames."""
    return _channel_frames


@pytest.fixture
def drive(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes such a drive as a bag below tmp_path."""

    def write(name: str = 'drive', count: int = 12, wrong: int = 0, **options) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bags.write_drive(path, _channel_frames(count, wrong), **options)
        return path

    return write


@pytest.fixture
def make_request(tmp_path: Path, channel_model: Path) -> Callable[..., DriveRequest]:
    """Return a function that makes the request to evaluate a bag with the channel model."""

    def make(bag: Path, **changes) -> DriveRequest:
        fields = {
            'camera': bags.IMAGE_TOPIC,
            'output': tmp_path / 'out',
            'engine': Engine(channel_model, BACKEND, FP32),
            'labels': bags.LABELS_TOPIC,
            'video': False,
        }
        return DriveRequest(bag, **{**fields, **changes})

    return make
