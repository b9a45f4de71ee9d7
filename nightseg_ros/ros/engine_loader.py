"""Loads a model in a thread of its own, so that the node answers while an engine is built."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.model import Model
from nightseg_ros.core.segmenter import Segmenter


@dataclass(frozen=True)
class Loading:
    """What is being loaded.

    Attributes:
        doing: the step at hand, for people.
        elapsed_s: since it began.
    """

    doing: str
    elapsed_s: float


@dataclass(frozen=True)
class Loaded:
    """What came of it: a segmenter that passed its self-check, or the reason why there is none."""

    segmenter: Segmenter | None
    error: str
    elapsed_s: float


class EngineLoader:
    """Loads one model at a time.

    Args:
        on_loaded: called from the loading thread when :meth:`take` has something.
    """

    def __init__(self, on_loaded: Callable[[], object]) -> None:
        self._on_loaded = on_loaded
        self._lock = threading.Lock()
        self._job: _Job | None = None
        self._loaded: Loaded | None = None
        self._threads: list[threading.Thread] = []

    def start(self, model: Model, backend: str, options: BackendOptions) -> bool:
        """Begin to load; returns whether it did, False while another is loaded or not yet taken."""
        with self._lock:
            if self._job is not None or self._loaded is not None:
                return False
            self._job = job = _Job(model, backend, options)
        # TensorRT cannot be stopped while it builds: such a thread must not keep the process.
        thread = threading.Thread(target=self._run, args=(job,), name='engine_loader', daemon=True)
        self._threads = [*(t for t in self._threads if t.is_alive()), thread]
        thread.start()
        return True

    def loading(self) -> Loading | None:
        """Return what is being loaded, None when nothing is."""
        with self._lock:
            return self._job.progress() if self._job is not None else None

    def take(self) -> Loaded | None:
        """Return what was loaded, once."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
            return loaded

    def wait(self, timeout_s: float) -> bool:
        """Wait for all loading threads to end, cancelled ones too; returns whether they did."""
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def cancel(self) -> None:
        """Let go of what is being loaded: it is freed as soon as it is there."""
        with self._lock:
            self._job = None
            loaded, self._loaded = self._loaded, None
        if loaded is not None and loaded.segmenter is not None:
            loaded.segmenter.close()

    def _run(self, job: _Job) -> None:
        loaded = job.run()
        with self._lock:
            wanted = self._job is job
            if wanted:
                self._job, self._loaded = None, loaded
                # Under the lock: after cancel() nobody is told.
                self._on_loaded()
        if not wanted and loaded.segmenter is not None:
            loaded.segmenter.close()


class _Job:
    def __init__(self, model: Model, backend: str, options: BackendOptions) -> None:
        self._what = (model, backend, options)
        self._started = time.monotonic()
        self._doing = 'starting'

    def progress(self) -> Loading:
        return Loading(self._doing, time.monotonic() - self._started)

    def run(self) -> Loaded:
        segmenter, error = None, ''
        try:
            segmenter = Segmenter(create_backend(*self._what, self._report))
        except BackendError as reason:
            error = str(reason)
        except Exception:  # a runtime may raise anything; the node must say so and live on
            error = f'loading failed unexpectedly:\n{traceback.format_exc()}'
        return Loaded(segmenter, error, time.monotonic() - self._started)

    def _report(self, doing: str) -> None:
        self._doing = doing
