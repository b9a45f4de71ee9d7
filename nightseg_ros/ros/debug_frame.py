"""A frame and what was made of it, as files: to look at, and to send along, when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from nightseg_ros import __version__
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.image_codec import to_rgb
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros.camera import Camera
from nightseg_ros.ros.camera import SegmentedFrame
from nightseg_ros.ros.parameters import Settings


def save(
    camera: Camera, last: SegmentedFrame, segmenter: Segmenter | None, settings: Settings
) -> Path:
    """Write a camera's last frame, its masks and a description; returns the folder.

    Raises:
        OSError: the folder cannot be written.
    """
    stamp = last.header.stamp
    name = f'{camera.name or "camera"}_{stamp.sec}_{stamp.nanosec:09d}'
    folder = settings.debug_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    rgb = to_rgb(last.frame)
    masks = last.masks.resized(*rgb.shape[:2])
    pictures = {
        'image': rgb[..., ::-1],
        'mask': masks.labels,
        'confidence': masks.confidence,
        'exposure': exposure_mask(masks.exposure, settings.thresholds),
        'exposure_map': masks.exposure,
        'overlay': overlay(rgb, masks.labels, settings.overlay_opacity)[..., ::-1],
    }
    for picture, pixels in pictures.items():
        path = folder / f'{picture}.png'
        if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f'cannot write {path}')
    summary = camera.statistics.summary()
    description = {
        'version': __version__,
        'frame_id': last.header.frame_id,
        'stamp': f'{stamp.sec}.{stamp.nanosec:09d}',
        'encoding': last.frame.encoding,
        'size': [last.frame.width, last.frame.height],
        'classes': NAMES,
        'engine': _engine(segmenter),
        'received': summary.received,
        'published': summary.published,
        'dropped': summary.dropped,
        'stages_ms': {stage: times._asdict() for stage, times in summary.stages.items()},
    }
    (folder / 'frame.json').write_text(json.dumps(description, indent=2))
    return folder


def _engine(segmenter: Segmenter | None) -> dict[str, str]:
    if segmenter is None:
        return {}
    backend = segmenter.backend
    return {
        'model': backend.model.name,
        'sha256': backend.model.sha256,
        'backend': backend.name,
        'precision': backend.precision,
        **backend.describe(),
    }
