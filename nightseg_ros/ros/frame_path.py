"""The path of a frame through the node: from a message in a mailbox to published masks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import rclpy
from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from nightseg_ros.core import health
from nightseg_ros.core import image_codec
from nightseg_ros.core.image_codec import ENCODINGS
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.image_codec import ImageError
from nightseg_ros.core.segmenter import Segmentation
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros.camera import Camera
from nightseg_ros.ros.camera import CameraImage
from nightseg_ros.ros.camera import SegmentedFrame
from nightseg_ros.ros.mailbox import Mailboxes
from nightseg_ros.ros.parameters import Settings

try:
    from cv_bridge import CvBridge
except ImportError:
    CvBridge = None

STOP_TIMEOUT_S = 2.0
"""For so long a frame may take to be finished; launch kills five seconds after Ctrl-C."""

LOG_EVERY = 100
"""Drops of one kind from one line in the log to the next."""


class FramePath:
    """One thread that owns the segmenter and serves the cameras in turn.

    Args:
        settings: returns the settings as they are now.
        clock: of the node.
        logger: of the node.
    """

    def __init__(
        self, settings: Callable[[], Settings], clock: Clock, logger: RcutilsLogger
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._logger = logger
        self._busy = threading.Lock()
        self._segmenter: Segmenter | None = None
        self._mailboxes: Mailboxes[Camera, CameraImage] | None = None
        self._worker: threading.Thread | None = None

    @property
    def segmenter(self) -> Segmenter | None:
        """What masks are made with."""
        return self._segmenter

    def replace_segmenter(self, segmenter: Segmenter | None) -> None:
        """Use another segmenter from the next frame on, and free the one that was used."""
        with self._busy:
            old, self._segmenter = self._segmenter, segmenter
        if old is not None:
            old.close()

    def start(self, cameras: list[Camera]) -> None:
        """Begin to work on what :meth:`put` brings."""
        self._mailboxes = Mailboxes(cameras)
        self._worker = threading.Thread(
            target=self._work, args=(self._mailboxes,), name='frame_path', daemon=True
        )
        self._worker.start()

    def put(self, camera: Camera, message: CameraImage) -> None:
        """Leave a camera's newest frame."""
        camera.statistics.received(time.monotonic())
        if self._mailboxes is not None and self._mailboxes.put(camera, message):
            camera.statistics.dropped('replaced_by_newer')

    def drop_waiting(self) -> None:
        """Drop what waits: nothing may be published of it any more."""
        if self._mailboxes is not None:
            self._mailboxes.clear()

    def stop(self) -> bool:
        """Finish the frame at hand and stop; what waits is dropped.

        Returns whether it stopped: a runtime may hang for ever.
        """
        if self._mailboxes is None or self._worker is None:
            return True
        self._mailboxes.close()
        self._worker.join(STOP_TIMEOUT_S)
        if self._worker.is_alive():
            return False
        self._mailboxes = self._worker = None
        return True

    def _work(self, mailboxes: Mailboxes[Camera, CameraImage]) -> None:
        while (taken := mailboxes.take()) is not None:
            camera, message = taken
            try:
                with self._busy:
                    self._process(camera, message)
            except ImageError as error:
                self._drop(camera, error.reason, str(error))
            except Exception as error:  # the worker must outlive whatever a frame does to it
                if not rclpy.ok():
                    return  # told to stop in the middle of a frame
                self._drop(camera, 'processing_failed', f'{type(error).__name__}: {error}')

    def _process(self, camera: Camera, message: CameraImage) -> None:
        start = _now_ms()
        settings = self._settings()
        if self._segmenter is None:
            raise ImageError('no_engine', 'no model is loaded')
        self._check_age(message, settings.max_image_age_ms)
        frame = decode(message)
        decoded = _now_ms()
        masks = self._segmenter(frame)
        segmented = _now_ms()
        raw_labels = masks.labels
        masks = replace(masks, labels=health.without_unknown_ids(raw_labels))
        camera.masks.draw_mask(frame, masks, settings)
        drawn = _now_ms()
        camera.masks.publish(message.header, frame, masks, camera.info, settings)
        done = _now_ms()
        age = self._age_ms(message)
        # What follows delays no mask.
        state = health.examine(raw_labels, masks.confidence, masks.exposure, settings.thresholds)
        camera.last = SegmentedFrame(message.header, frame, _copy(masks))
        stages = {
            'decode': decoded - start,
            'preprocess': masks.timings.preprocess,
            'infer': masks.timings.infer,
            'postprocess': drawn - segmented,
            'publish': done - drawn,
            'total': done - start,
        }
        if age is not None:
            stages['age'] = age
        camera.statistics.published(time.monotonic(), stages, state)

    def _check_age(self, message: CameraImage, limit_ms: float) -> None:
        age = self._age_ms(message)
        if age is not None and 0 < limit_ms < age:
            raise ImageError(
                'too_old',
                f'the image is {age / 1e3:.1f} s old: if this is a bag, set use_sim_time and play '
                'it with --clock, or set max_image_age_ms to 0',
            )

    def _age_ms(self, message: CameraImage) -> float | None:
        """Return how old a frame is on the node's clock; None when it has no stamp."""
        stamp = Time.from_msg(message.header.stamp)
        if stamp.nanoseconds == 0:
            return None
        return (self._clock.now().nanoseconds - stamp.nanoseconds) / 1e6

    def _drop(self, camera: Camera, reason: str, message: str) -> None:
        count = camera.statistics.dropped(reason, message)
        if count == 1 or count % LOG_EVERY == 0:
            of = f' of {camera.name}' if camera.name else ''
            self._logger.warning(f'frame{of} dropped ({reason}, {count} so far): {message}')


def decode(message: CameraImage) -> CameraFrame:
    """Return the frame of a message; cv_bridge reads the encodings that our codec does not.

    Raises:
        ImageError: nobody can read it.
    """
    if isinstance(message, CompressedImage):
        return image_codec.decode_compressed(message.data)
    if message.encoding in ENCODINGS or CvBridge is None:
        return image_codec.view(message)
    return _decode_with_cv_bridge(message)


def _decode_with_cv_bridge(message: Image) -> CameraFrame:
    try:
        pixels: Any = CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except Exception as error:  # CvBridgeError, but also what NumPy makes of missing data
        raise ImageError(
            'unknown_encoding',
            f"encoding '{message.encoding}' is not supported, and cv_bridge says: {error}; "
            f'publish one of {", ".join(ENCODINGS)}',
        ) from error
    return CameraFrame.of(pixels)


def _copy(masks: Segmentation) -> Segmentation:
    return replace(
        masks,
        labels=masks.labels.copy(),
        confidence=masks.confidence.copy(),
        exposure=masks.exposure.copy(),
    )


def _now_ms() -> float:
    return time.perf_counter() * 1e3
