"""Calibration of a mask that is smaller than its image."""

from __future__ import annotations

import copy

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header


def scaled(info: CameraInfo, header: Header, x: float, y: float) -> CameraInfo:
    """Return the calibration of a picture that was resized by ``x`` and ``y``.

    K, P and the region of interest describe the full sensor in its own pixels, so everything
    scales alike whatever binning and region say (``sensor_msgs/msg/CameraInfo``; image_proc's
    resize does the same). Distortion is in normalised coordinates and stays.

    Args:
        info: of the camera; is not changed.
        header: of the picture.
        x: width of the picture over width of the image.
        y: the same of the heights.
    """
    result = copy.deepcopy(info)
    result.header = header
    result.width = round(info.width * x)
    result.height = round(info.height * y)
    for row, factor in ((0, x), (1, y)):
        result.k[3 * row : 3 * row + 3] = info.k[3 * row : 3 * row + 3] * factor
        result.p[4 * row : 4 * row + 4] = info.p[4 * row : 4 * row + 4] * factor
    roi = result.roi
    roi.x_offset, roi.width = round(roi.x_offset * x), round(roi.width * x)
    roi.y_offset, roi.height = round(roi.y_offset * y), round(roi.height * y)
    return result
