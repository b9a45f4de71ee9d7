"""The overlay video: input and mask side by side, H.264 in an MP4 file.

H.264 with yuv420p is what browsers and common players all play. The OpenCV wheels carry no H.264
encoder (their `mp4v` does not play in browsers), so the frames are piped into an ffmpeg program:
the one that the package imageio-ffmpeg brings, else the one on the PATH.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.overlay import overlay

MAX_PANEL_WIDTH = 640
MIN_PANEL_WIDTH = 320
MAX_PANEL_HEIGHT = 720
CAPTION_HEIGHT = 30

_CAPTION_BACKGROUND = (24, 27, 32)
_CAPTION_TEXT = (226, 230, 236)
_CAPTION_ALARM = (255, 170, 60)
_FINISH_TIMEOUT_S = 120.0


class VideoError(Exception):
    """The video cannot be written; the message says why."""


def find_ffmpeg() -> str:
    """Return the ffmpeg program of imageio-ffmpeg, else the one on the PATH.

    Raises:
        VideoError: if there is neither.
    """
    try:
        return str(importlib.import_module('imageio_ffmpeg').get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = shutil.which('ffmpeg')
    if found is None:
        raise VideoError('no ffmpeg found (install imageio-ffmpeg or ffmpeg)')
    return found


def panel_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of one video panel, even, for frames of this size.

    Frames keep their aspect; the panel is 320 to 640 pixels wide (narrower only for frames so
    tall that the panel would exceed 720 pixels in height).
    """
    panel_width = min(max(width, MIN_PANEL_WIDTH), MAX_PANEL_WIDTH)
    scale = min(panel_width / width, MAX_PANEL_HEIGHT / height)
    return _even(height * scale), _even(width * scale)


def side_by_side(
    rgb: NDArray[np.uint8],
    labels: NDArray[np.uint8] | None,
    captions: tuple[str, str],
    panel: tuple[int, int],
) -> NDArray[np.uint8]:
    """Return one video frame: input left, overlay right, a caption below each.

    Args:
        rgb: uint8 [H, W, 3].
        labels: trainIds, uint8 [H, W]; None writes 'no mask' over the input.
        captions: below the left and the right panel, ASCII.
        panel: height and width of each panel; frames of another aspect get black bars.

    Returns:
        RGB uint8 [panel height + 30, 2 * panel width, 3].
    """
    height, width = panel
    canvas = np.zeros((height + CAPTION_HEIGHT, 2 * width, 3), np.uint8)
    canvas[height:] = _CAPTION_BACKGROUND
    top, left, inner_height, inner_width = _fit(rgb.shape[0], rgb.shape[1], panel)
    size = (inner_width, inner_height)
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    rows = slice(top, top + inner_height)
    canvas[rows, left : left + inner_width] = small
    right = canvas[rows, width + left : width + left + inner_width]
    if labels is None:
        right[:] = small // 2
        _write_centred(canvas[:height, width:], 'no mask')
    else:
        right[:] = overlay(small, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST))
    _write_caption(canvas[height:, :width], captions[0], _CAPTION_TEXT)
    color = _CAPTION_ALARM if labels is None else _CAPTION_TEXT
    _write_caption(canvas[height:, width:], captions[1], color)
    return canvas


class OverlayVideo:
    """Writes an overlay video frame by frame; the first frame decides its size.

    Use it as a context manager: leaving it without `finish` ends the encoder.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        """Prepare a video of this frame rate; nothing is started before the first frame."""
        self._path = path
        self._rate_hz = rate_hz
        self._panel: tuple[int, int] | None = None
        self._encoder: subprocess.Popen[bytes] | None = None
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> OverlayVideo:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the encoder if it still runs."""
        if self._encoder is not None and self._encoder.poll() is None:
            self._encoder.kill()
            self._encoder.wait()
        self._messages.close()

    def add(
        self,
        rgb: NDArray[np.uint8],
        labels: NDArray[np.uint8] | None,
        stamp_ns: int,
        latency_ms: float | None,
    ) -> None:
        """Append one frame.

        Args:
            rgb: uint8 [H, W, 3].
            labels: trainIds, uint8 [H, W], or None if no mask came.
            stamp_ns: time stamp of the frame in nanoseconds.
            latency_ms: stamp published to mask received, None if unknown.

        Raises:
            VideoError: if there is no encoder, or it failed.
        """
        if self._panel is None:
            self._panel = panel_size(rgb.shape[0], rgb.shape[1])
        if self._encoder is None:
            self._encoder = self._start(self._panel)
        captions = _captions(labels is not None, stamp_ns, latency_ms)
        frame = side_by_side(rgb, labels, captions, self._panel)
        assert self._encoder.stdin is not None
        try:
            self._encoder.stdin.write(frame.data)
        except OSError as error:
            raise VideoError(self._reason()) from error

    def finish(self) -> bool:
        """Complete the file; return False, and write none, if no frame was added.

        Raises:
            VideoError: if the encoder failed.
        """
        if self._encoder is None:
            return False
        assert self._encoder.stdin is not None
        try:
            self._encoder.stdin.close()
            code = self._encoder.wait(timeout=_FINISH_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VideoError(self._reason()) from error
        if code != 0 or not self._path.is_file():
            raise VideoError(self._reason())
        return True

    def _start(self, panel: tuple[int, int]) -> subprocess.Popen[bytes]:
        size = f'{2 * panel[1]}x{panel[0] + CAPTION_HEIGHT}'
        command = [find_ffmpeg(), '-y', '-loglevel', 'error']
        command += ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', size]
        command += ['-r', f'{self._rate_hz:.6f}', '-i', '-']
        command += ['-c:v', 'libx264', '-preset', 'ultrafast', '-crf', '24', '-pix_fmt', 'yuv420p']
        command += ['-movflags', '+faststart', '-f', 'mp4', self._path.name]
        try:
            # Its own session, so that Ctrl-C on a replay still leaves a complete video; started in
            # the folder, so that its messages name no absolute path.
            return subprocess.Popen(
                command,
                cwd=self._path.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._messages,
                start_new_session=True,
            )
        except OSError as error:
            raise VideoError(f'ffmpeg does not start: {error.strerror}') from error

    def _reason(self) -> str:
        if self._encoder is not None:
            self._encoder.kill()
            self._encoder.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors='replace').strip().splitlines()
        return f'ffmpeg failed: {lines[-1] if lines else "no message"}'


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _fit(height: int, width: int, panel: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, left, height, width of a frame centred in the panel with its aspect kept."""
    scale = min(panel[0] / height, panel[1] / width)
    inner_height = max(1, min(panel[0], round(height * scale)))
    inner_width = max(1, min(panel[1], round(width * scale)))
    return (panel[0] - inner_height) // 2, (panel[1] - inner_width) // 2, inner_height, inner_width


def _captions(received: bool, stamp_ns: int, latency_ms: float | None) -> tuple[str, str]:
    left = f'input   stamp {stamp_ns / 1e9:.3f} s'
    if not received:
        return left, 'no mask'
    return left, 'mask' if latency_ms is None else f'mask   latency {latency_ms:.0f} ms'


def _write_caption(area: NDArray[np.uint8], text: str, color: tuple[int, int, int]) -> None:
    place = (10, CAPTION_HEIGHT - 10)
    cv2.putText(area, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.48, color, 1, cv2.LINE_AA)


def _write_centred(area: NDArray[np.uint8], text: str) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize(text, font, 1.0, 2)
    place = ((area.shape[1] - width) // 2, (area.shape[0] + height) // 2)
    cv2.putText(area, text, place, font, 1.0, _CAPTION_ALARM, 2, cv2.LINE_AA)
