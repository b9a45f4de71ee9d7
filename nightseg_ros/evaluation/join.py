"""Frames of a drive and the masks that came back for them, joined by stamp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nightseg_ros.core.image_codec import view
from nightseg_ros.evaluation.bags import LABELS_TOPIC
from nightseg_ros.evaluation.bags import open_bag
from nightseg_ros.evaluation.bags import read_drive
from nightseg_ros.evaluation.bags import stamp_ns
from nightseg_ros.evaluation.replay import CONFIDENCE_TOPIC
from nightseg_ros.evaluation.replay import EXPOSURE_TOPIC
from nightseg_ros.evaluation.replay import MASK_TOPIC
from nightseg_ros.evaluation.replay import Replay
from nightseg_ros.evaluation.report import EvaluatedFrame


def evaluated_frames(
    bag: Path,
    masks_bag: Path,
    run: Replay,
    image_topic: str | None = None,
    labels_topic: str = LABELS_TOPIC,
) -> Iterator[EvaluatedFrame]:
    """Yield each frame of a drive with the masks that came back for it, joined by stamp."""
    masks = _masks_by_frame(masks_bag)
    stamp, current = next(masks, (None, {}))
    for index, frame in enumerate(read_drive(bag, image_topic, labels_topic)):
        while stamp is not None and stamp < frame.stamp_ns:
            stamp, current = next(masks, (None, {}))
        found = current if stamp == frame.stamp_ns else {}
        yield EvaluatedFrame(
            index=index,
            stamp_ns=frame.stamp_ns,
            image=frame.image,
            labels=found.get(MASK_TOPIC),
            confidence=found.get(CONFIDENCE_TOPIC),
            exposure=found.get(EXPOSURE_TOPIC),
            truth=frame.labels,
            latency_ms=run.latency_ms(frame.stamp_ns),
        )


def _masks_by_frame(masks_bag: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield stamp and masks by topic; the bag is in the order of stamps."""
    with open_bag(masks_bag) as reader:
        stamp, masks = None, {}
        for connection, _, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            if stamp is not None and stamp_ns(message) != stamp:
                yield stamp, masks
                masks = {}
            stamp = stamp_ns(message)
            masks[connection.topic] = view(message).samples
        if stamp is not None:
            yield stamp, masks
