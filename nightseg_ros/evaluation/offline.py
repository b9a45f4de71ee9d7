"""Every frame of a drive through the segmenter, as fast as the machine allows. No ROS needed.

Decoding, inference and counting of different frames overlap: each worker takes a frame from the
message to its counts, with one thread for the network, which uses cores better than one network
on all of them. Results come in the order of the frames, whoever was faster.
"""

from __future__ import annotations

import os
import queue
import time
from collections import deque
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
from threadpoolctl import threadpool_limits

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import GPU_BACKENDS
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.health import without_unknown_ids
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.evaluation.frames import BagFrame
from nightseg_ros.evaluation.frames import Masks
from nightseg_ros.evaluation.frames import MeasuredFrame
from nightseg_ros.evaluation.measure import measure_frame

FRAMES_AHEAD = 2
"""Frames in flight for each worker: so many stay in memory, however long the bag is."""


@dataclass(frozen=True)
class Engine:
    """Which model runs on what.

    Attributes:
        model_path: an exported ONNX file; None takes the released one.
        backend: a key of ``backends.BACKENDS``, or 'auto'.
        precision: a member of ``model.PRECISIONS``, or 'auto'.
    """

    model_path: Path | None = None
    backend: str = AUTO
    precision: str = AUTO


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def segmenters(engine: Engine, workers: int) -> Iterator[list[Segmenter]]:
    """Load the network once for each worker, with one thread each; on a GPU once.

    Raises:
        ModelError: the model is missing or corrupt.
        BackendError: no backend can run it.
    """
    options = BackendOptions(threads=1, precision=engine.precision)
    loaded = [Segmenter.load(engine.model_path, engine.backend, options)]
    try:
        # Not 'auto' again: it goes by time, and could choose another.
        chosen = loaded[0].backend
        same = BackendOptions(threads=1, precision=chosen.precision)
        copies = 0 if chosen.name in GPU_BACKENDS else workers - 1
        for _ in range(copies):
            loaded.append(Segmenter.load(engine.model_path, chosen.name, same))
        yield loaded
    finally:
        for segmenter in loaded:
            segmenter.close()


def measure_offline(
    frames: Iterable[BagFrame], loaded: Sequence[Segmenter], workers: int
) -> Generator[MeasuredFrame, None, None]:
    """Segment and measure frames; yields them in their order.

    Args:
        frames: of a bag; read one by one, a few ahead of what is yielded.
        loaded: networks, shared by the workers.
        workers: threads.

    Raises:
        BackendError: the runtime fails.
    """
    # The workers are the threads: what else would start some only takes their cores.
    cv2.setNumThreads(1)
    threadpool_limits(1, 'blas')
    idle: queue.SimpleQueue[Segmenter] = queue.SimpleQueue()
    for segmenter in loaded:
        idle.put(segmenter)
    waiting: deque[Future[MeasuredFrame]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix='frame')
    try:
        for frame in frames:
            waiting.append(pool.submit(_measure, frame, idle))
            if len(waiting) >= FRAMES_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _measure(frame: BagFrame, idle: queue.SimpleQueue[Segmenter]) -> MeasuredFrame:
    times_ms: dict[str, float] = {}
    started = time.perf_counter()

    def masks_of(image: CameraFrame) -> Masks:
        times_ms['decode_ms'] = (time.perf_counter() - started) * 1e3
        segmenter = idle.get()
        try:
            found = segmenter(image)
            times_ms['preprocess_ms'] = found.timings.preprocess
            times_ms['infer_ms'] = found.timings.infer
            # Copies: the segmenter's own arrays are the next frame's.
            return Masks(
                labels=without_unknown_ids(found.labels).copy(),
                confidence=found.confidence.copy(),
                exposure=exposure_mask(found.exposure, ExposureThresholds()),
                image=segmenter.backend.input[0].copy(),
            )
        finally:
            idle.put(segmenter)

    return measure_frame(frame, masks_of, times_ms)
