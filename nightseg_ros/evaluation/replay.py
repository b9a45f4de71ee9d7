"""Replay a bag through the real node, in its own process, over real DDS; record every mask."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosbags.rosbag2 import Writer
from sensor_msgs.msg import Image

from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import TYPESTORE
from nightseg_ros.evaluation.bags import find_topic
from nightseg_ros.evaluation.bags import new_bag
from nightseg_ros.evaluation.bags import open_bag
from nightseg_ros.evaluation.player import BagPlayer

NODE = '/night_seg'
MASK_TOPIC = f'{NODE}/semantic/mask'
CONFIDENCE_TOPIC = f'{NODE}/semantic/confidence'
EXPOSURE_TOPIC = f'{NODE}/exposure/mask'
MASK_TOPICS = (MASK_TOPIC, CONFIDENCE_TOPIC, EXPOSURE_TOPIC)

START_TIMEOUT_S = 90.0
"""For the node to load its model and appear."""

QUIET_S = 2.0
"""Nothing received for this long after the last image: nothing more will come."""


class ReplayError(RuntimeError):
    """The node did not start or died; the message holds what it printed last."""


@dataclass(frozen=True)
class Replay:
    """What a replay was.

    Attributes:
        published_ns: wall time of publication by header stamp (both ns), in order.
        received_ns: wall time at which the mask of a stamp arrived.
        model: name of the model that the node reported.
        backend: name of the backend that the node reported.
        backend_reason: why the node chose it.
    """

    published_ns: dict[int, int]
    received_ns: dict[int, int]
    model: str
    backend: str
    backend_reason: str

    def latency_ms(self, stamp_ns: int) -> float | None:
        """Return publication of an image to reception of its mask; None when it was dropped."""
        if stamp_ns not in self.received_ns:
            return None
        return (self.received_ns[stamp_ns] - self.published_ns[stamp_ns]) / 1e6


def replay(
    bag: Path,
    masks_bag: Path,
    image_topic: str | None = None,
    rate: float = 1.0,
    parameters: dict[str, str] | None = None,
) -> Replay:
    """Play a bag to a node of its own and record the masks that it publishes.

    Args:
        bag: rosbag2 with an Image or CompressedImage topic.
        masks_bag: written; masks, confidence and exposure under the images' stamps.
        image_topic: None takes the bag's only image topic.
        rate: of time; 2.0 plays twice as fast.
        parameters: of the node, as on the command line.

    Raises:
        BagError: the bag cannot be read or lacks the topic.
        ReplayError: the node does not start, or dies.
    """
    with open_bag(bag) as reader:
        images = find_topic(reader, image_topic, (IMAGE, COMPRESSED_IMAGE))
    compressed = images.msgtype == COMPRESSED_IMAGE
    node_parameters = {
        'image_transport': 'compressed' if compressed else 'raw',
        'max_image_age_ms': '0.0',
        **(parameters or {}),
    }
    source = 'image/compressed' if compressed else 'image'
    log = masks_bag.with_name('node.log')
    log.parent.mkdir(parents=True, exist_ok=True)
    rclpy.init()
    try:
        ros = rclpy.create_node('night_seg_replay')
        player = BagPlayer(ros, bag, rate)
        with (
            new_bag(masks_bag) as writer,
            _node_process({source: images.topic}, node_parameters, log) as process,
        ):
            recorder = _Recorder(ros, writer)
            with _spinning(ros):
                _wait_for_node(process, player, recorder, images.topic, log)
                published: dict[int, int] = {}

                def note_time(topic: str, _: int, content: bytes) -> None:
                    if topic == images.topic:
                        published[header_stamp_ns(content)] = time.time_ns()

                player.play(note_time)
                _wait_until_quiet(recorder, len(published))
            if process.poll() is not None:
                raise ReplayError(f'the node died during the replay:\n{_tail(log)}')
            recorder.write_rest()
        engine = recorder.engine
        return Replay(
            published, recorder.received_ns, engine['model'], engine['backend'], engine['why']
        )
    finally:
        rclpy.try_shutdown()


def header_stamp_ns(content: bytes) -> int:
    """Return the stamp of a serialised message that begins with a Header.

    CDR: four bytes of encapsulation, of which the second tells the byte order, then ``sec`` int32
    and ``nanosec`` uint32 (OMG DDSI-RTPS 2.3, section 10).
    """
    order: Literal['little', 'big'] = 'little' if content[1] & 1 else 'big'
    seconds = int.from_bytes(content[4:8], order, signed=True)
    return seconds * 1_000_000_000 + int.from_bytes(content[8:12], order)


class _Recorder:
    """Writes the masks into a bag as they arrive, serialised as they came.

    The masks of one frame are written together, in the order in which frames complete.
    """

    def __init__(self, node: Node, writer: Writer) -> None:
        self.node = node
        self._writer = writer
        self._connections = {
            topic: writer.add_connection(topic, IMAGE, typestore=TYPESTORE) for topic in MASK_TOPICS
        }
        self._waiting: dict[int, dict[str, bytes]] = {}
        self.received_ns: dict[int, int] = {}
        self.last_arrival = time.monotonic()
        self.engine: dict[str, str] = {}
        for topic in MASK_TOPICS:
            on_mask = functools.partial(self._on_mask, topic)
            node.create_subscription(Image, topic, on_mask, QoSProfile(depth=30), raw=True)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_mask(self, topic: str, content: bytes) -> None:
        now = time.time_ns()
        self.last_arrival = time.monotonic()
        stamp = header_stamp_ns(content)
        if topic == MASK_TOPIC:
            self.received_ns[stamp] = now
        masks = self._waiting.setdefault(stamp, {})
        masks[topic] = content
        if len(masks) == len(MASK_TOPICS):
            self._write(self._waiting.pop(stamp), stamp)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f'{NODE}: engine':
                self.engine = {value.key: value.value for value in status.values}

    def _write(self, masks: dict[str, bytes], stamp: int) -> None:
        for topic, content in masks.items():
            self._writer.write(self._connections[topic], stamp, content)

    def write_rest(self) -> None:
        """Write what arrived without its companions."""
        for stamp, masks in self._waiting.items():
            self._write(masks, stamp)


@contextmanager
def _node_process(
    remappings: dict[str, str], parameters: dict[str, str], log: Path
) -> Iterator[subprocess.Popen]:
    command = [sys.executable, '-m', 'nightseg_ros.ros.night_seg_node', '--ros-args']
    for source, target in remappings.items():
        command += ['-r', f'{source}:={target}']
    for name, value in parameters.items():
        command += ['-p', f'{name}:={value}']
    with log.open('wb') as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _spinning(node: Node) -> Iterator[None]:
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()


def _wait_for_node(
    process: subprocess.Popen, player: BagPlayer, recorder: _Recorder, image_topic: str, log: Path
) -> None:
    """Wait until the node listens to the images and is heard on every mask topic."""
    deadline = time.monotonic() + START_TIMEOUT_S
    images = player.publishers[image_topic]
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ReplayError(f'the node did not start:\n{_tail(log)}')
        listens = images.get_subscription_count() > 0
        heard = all(recorder.node.count_publishers(topic) > 0 for topic in MASK_TOPICS)
        if listens and heard and recorder.engine.get('backend'):
            return
        time.sleep(0.05)
    raise ReplayError(f'the node did not become active in {START_TIMEOUT_S:.0f} s:\n{_tail(log)}')


def _wait_until_quiet(recorder: _Recorder, published: int) -> None:
    recorder.last_arrival = time.monotonic()
    while time.monotonic() - recorder.last_arrival < QUIET_S:
        if len(recorder.received_ns) == published:
            time.sleep(0.2)  # confidence and exposure of the last frame follow its mask
            return
        time.sleep(0.05)


def _tail(log: Path, lines: int = 15) -> str:
    return os.linesep.join(log.read_text(errors='replace').splitlines()[-lines:])
