"""Bare inference: the backend alone in a process of its own, on an image that is ready."""

from __future__ import annotations

import argparse
import signal
import time

import numpy as np

from benchmarks.node.processes import serve
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.simulation.night_drive import NightDrive


class BareInference:
    """Times the inference of one backend.

    Args:
        model_path: an ONNX file; '' takes the released one.
        backend: name, or 'auto' for the choice that the node makes.
    """

    def __init__(self, model_path: str, backend: str) -> None:
        segmenter = Segmenter.load(model_path, backend=backend)
        self._backend = segmenter.backend
        self._reason = segmenter.reason
        model = self._backend.model
        frame = NightDrive(max(model.width, 64), max(model.height, 64)).frame(0).night
        self._image = np.ascontiguousarray(frame[None, : model.height, : model.width])

    def engine(self) -> dict[str, str]:
        """Return what runs, and why."""
        model = self._backend.model
        return {
            'model': model.name,
            'input': f'{model.width}x{model.height}',
            'backend': self._backend.name,
            'why': self._reason,
        }

    def paced(self, seconds: float, hz: float, warm_up: int) -> list[float]:
        """Return the times in ms of inferences at a camera's pace, without the first ones.

        Between two frames the processor rests and its caches go cold, as in a node.
        """
        times: list[float] = []
        start = due = time.perf_counter()
        while due < start + seconds or len(times) <= warm_up:
            time.sleep(max(due - time.perf_counter(), 0))
            times.append(self._infer_ms())
            due = max(due + 1 / hz, time.perf_counter())
        return times[warm_up:]

    def back_to_back(self, seconds: float, warm_up: int) -> list[float]:
        """Return the times in ms of inferences without a pause, without the first ones."""
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) <= warm_up or time.perf_counter() < end:
            times.append(self._infer_ms())
        return times[warm_up:]

    def _infer_ms(self) -> float:
        start = time.perf_counter()
        self._backend.infer(self._image)
        return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Answer questions from stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', default='')
    parser.add_argument('--backend', default='auto')
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    serve(BareInference(arguments.model, arguments.backend))


if __name__ == '__main__':
    main()
