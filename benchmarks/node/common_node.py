"""The node that most people write, to compare with.

It is written with care, and in the usual way: cv_bridge's copies, normalisation in numpy, ONNX
Runtime returning the logits of every pixel, softmax and argmax in numpy, one thread, queues of 10.
Where there is a choice it is made in this node's favour: the mask goes out before the coloured
picture is computed, and message data is filled with ``frombytes``, as cv_bridge does.

``message.data = mask.tobytes()``, which many write instead, costs the same in Jazzy: 0.02 ms for a
mask and 0.08 ms for a picture of 1280x720. Where rclpy checks fields (always in older
distributions, in Jazzy with ROS_PYTHON_CHECK_FIELDS=1) it looks at every byte in Python, and the
same two lines cost 52 ms and 150 ms.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import rclpy
from numpy.typing import NDArray
from onnx import helper
from onnx import numpy_helper
from onnx.utils import Extractor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from benchmarks.node.floor import spin
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import PALETTE
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import LABELS
from nightseg_ros.simulation.night_drive import NightDrive

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet's, as in the released model."""

SMALLEST_AGREEMENT = 0.97
"""Share of pixels whose class must be the released model's, which decides once per two pixels."""


class LogitsModelError(RuntimeError):
    """The released graph cannot be cut to one that returns logits."""


def write_logits_model(released: Path, path: Path) -> None:
    """Cut the released model to what people export: normalised float NCHW in, logits out.

    The released graph takes uint8 NHWC and normalises; it ends in uint8 masks, decided at half its
    size. Both ends are cut off, and the logits upsampled to the size of the input, as usual.

    Raises:
        LogitsModelError: the graph lacks the nodes to cut at, or what is left computes other
            classes.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(released))
    nodes = {node.op_type: node for node in reversed(model.graph.node)}  # the first of each type
    if not {'Conv', 'ArgMax'} <= nodes.keys():
        raise LogitsModelError(f'{released} has no Conv or no ArgMax to cut at')
    producer = {output: node for node in model.graph.node for output in node.output}
    image, upsampling = nodes['Conv'].input[0], producer[nodes['ArgMax'].input[0]]
    if upsampling.op_type != 'Resize':
        raise LogitsModelError(f'{released} does not upsample its logits before ArgMax')
    cut = Extractor(model).extract_model([image], [upsampling.input[0]])
    _upsample(cut)
    onnx.checker.check_model(cut)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(cut, str(path))
    _check_agreement(released, path)


def _upsample(model: onnx.ModelProto) -> None:
    """Append what scales the logits to the size of the input, bilinearly."""
    graph = model.graph
    height, width = (d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[2:])
    small = graph.output[0]
    sizes = numpy_helper.from_array(np.array([1, NUM_CLASSES, height, width]), 'full_size')
    graph.initializer.append(sizes)
    graph.node.append(
        helper.make_node(
            'Resize', [small.name, '', '', 'full_size'], ['full_logits'], mode='linear'
        )
    )
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info(
            'full_logits', onnx.TensorProto.FLOAT, [1, NUM_CLASSES, height, width]
        )
    )


def _check_agreement(released: Path, path: Path) -> None:
    whole = onnxruntime.InferenceSession(released, providers=['CPUExecutionProvider'])
    _, height, width, _ = whole.get_inputs()[0].shape
    frame = NightDrive(max(width, 64), max(height, 64)).frame(0).night
    frame = np.ascontiguousarray(frame[:height, :width])
    expected = whole.run([LABELS], {IMAGE: frame[None]})[0][0]
    network = LogitsNetwork(path)
    labels, _ = classes_and_confidence(network(frame))
    if labels.shape != expected.shape or np.mean(labels == expected) < SMALLEST_AGREEMENT:
        raise LogitsModelError(f'what was cut out of {released} computes other classes')


class LogitsNetwork:
    """The cut model in ONNX Runtime with its default settings."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        self._input = self._session.get_inputs()[0].name
        self.height, self.width = self._session.get_inputs()[0].shape[2:]

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits [1, 19, h, w] of an RGB frame of any size."""
        small = cv2.resize(frame, (self.width, self.height))
        normalised = (small.astype(np.float32) / 255 - MEAN) / STD
        batch = np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])
        return self._session.run(None, {self._input: batch})[0]


def classes_and_confidence(
    logits: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the most probable class of each pixel, and its probability as 0..255."""
    exponentials = np.exp(logits[0] - logits[0].max(axis=0, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=0, keepdims=True)
    labels = probabilities.argmax(axis=0).astype(np.uint8)
    confidence = (probabilities.max(axis=0) * 255).astype(np.uint8)
    return labels, confidence


class CommonNode(Node):
    """Everything in the callback of the image."""

    def __init__(self, model: Path) -> None:
        super().__init__('common')
        self._network = LogitsNetwork(model)
        self._masks = self.create_publisher(Image, '~/semantic/mask', 10)
        self._confidences = self.create_publisher(Image, '~/semantic/confidence', 10)
        self._pictures = self.create_publisher(Image, '~/semantic/color', 10)
        self.create_subscription(Image, 'image', self._on_image, 10)

    def _on_image(self, message: Image) -> None:
        frame = np.array(message.data, np.uint8).reshape(message.height, message.width, 3)
        labels, confidence = classes_and_confidence(self._network(frame))
        size = (message.width, message.height)
        mask = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        self._masks.publish(to_message(mask, 'mono8', message.header))
        confidence = cv2.resize(confidence, size)
        self._confidences.publish(to_message(confidence, 'mono8', message.header))
        self._pictures.publish(to_message(PALETTE[mask], 'rgb8', message.header))


def to_message(pixels: NDArray[np.uint8], encoding: str, header: Header) -> Image:
    """Return pixels as a message, as cv_bridge does."""
    message = Image(header=header, encoding=encoding)
    message.height, message.width = pixels.shape[:2]
    message.data.frombytes(pixels.tobytes())
    message.step = len(message.data) // message.height
    return message


def main() -> None:
    """Run the node."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path, help='written by write_logits_model')
    arguments = parser.parse_args(remove_ros_args()[1:])
    rclpy.init()
    spin(CommonNode(arguments.model))


if __name__ == '__main__':
    main()
