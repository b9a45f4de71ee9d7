"""Replay a bag through the real node, in its own process, over real DDS; record every mask."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Writer
from sensor_msgs.msg import Image

from nightseg_ros.evaluation.bag_reader import BagMessage
from nightseg_ros.evaluation.bag_reader import Topic
from nightseg_ros.evaluation.bags import COMPRESSED_IMAGE
from nightseg_ros.evaluation.bags import IMAGE
from nightseg_ros.evaluation.bags import TYPESTORE
from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import new_bag
from nightseg_ros.evaluation.frames import header_stamp_ns
from nightseg_ros.evaluation.mask_bag import MaskTopics
from nightseg_ros.evaluation.mask_bag import camera_names
from nightseg_ros.evaluation.orphans import end_with_parent
from nightseg_ros.evaluation.player import BagPlayer

NODE = '/night_seg'

START_TIMEOUT_S = 90.0
"""For the node to load its model and appear."""

QUIET_S = 2.0
"""Nothing received for this long after the last image: nothing more will come."""


MAX_TRANSPORT_MS = 10_000.0
"""Stamps further from the time of recording are of another clock, and tell no age."""

MASKS_OF_A_FRAME = 3
"""Labels, confidence, exposure."""

DIAGNOSTICS_S = 1.2
"""The node reports once a second: its last report tells of the last frames."""


class ReplayError(RuntimeError):
    """The node did not start or died; the message holds what it printed last."""


@dataclass
class CameraReplay:
    """What was seen of one camera; times by the stamp of the image, in ns.

    Attributes:
        published_ns: wall time just before the image was published, in order.
        recorded_ns: time at which the bag received the image.
        received_ns: wall time at which its mask arrived.
        untold: stamps that several images have, or that are zero: which of them a mask is of
            cannot be told.
        drops: what the node dropped, by reason.
        stages_ms: p50, p95, p99 of each stage of the node, over its last frames.
    """

    published_ns: dict[int, int] = field(default_factory=dict)
    recorded_ns: dict[int, int] = field(default_factory=dict)
    received_ns: dict[int, int] = field(default_factory=dict)
    untold: set[int] = field(default_factory=set)
    drops: dict[str, int] = field(default_factory=dict)
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the first image to the last mask."""
        if not self.received_ns:
            return 0.0
        return (max(self.received_ns.values()) - min(self.published_ns.values())) / 1e9

    def times_ms(self, stamp: int) -> dict[str, float]:
        """Return what is known of the times of a frame.

        ``latency_ms``: publication of the image to reception of its mask. ``age_ms``: the same
        from the stamp on, as if the camera's way into the bag had been gone live.
        """
        if stamp not in self.received_ns:
            return {}
        latency = (self.received_ns[stamp] - self.published_ns[stamp]) / 1e6
        before_bag = (self.recorded_ns[stamp] - stamp) / 1e6
        times = {'latency_ms': latency}
        if 0 <= before_bag < MAX_TRANSPORT_MS:
            times['age_ms'] = before_bag + latency
        return times


@dataclass
class Replay:
    """What a replay was.

    Attributes:
        cameras: by topic of the images.
        engine: what the node reports about its model and backend.
        memory: [seconds, MiB] of the node.
        complete: whether the bag was played to its end.
    """

    cameras: dict[str, CameraReplay]
    engine: dict[str, str] = field(default_factory=dict)
    memory: list[tuple[float, float]] = field(default_factory=list)
    complete: bool = False


def replay(
    bag: Path,
    masks_bag: Path,
    cameras: Sequence[Topic],
    log: Path,
    rate: float = 1.0,
    parameters: Mapping[str, str] | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> Replay:
    """Play a bag to a node of its own and record the masks that it publishes.

    Interrupted (Ctrl-C), it returns what came until then.

    Args:
        bag: with Image or CompressedImage topics.
        masks_bag: written; masks, confidence and exposure under the images' stamps, in the topics
            that `MaskTopics` names.
        cameras: topics of the images.
        log: what the node prints.
        rate: of time; 2.0 plays twice as fast.
        parameters: of the node, as on the command line.
        on_image: called after each image that was published.

    Raises:
        BagError: the bag cannot be read, or the cameras cannot share a node.
        ReplayError: the node does not start, or dies.
    """
    transports = {camera.type for camera in cameras}
    if len(transports) != 1:
        raise BagError('a node takes raw or compressed images, not both: name cameras of one kind')
    compressed = transports == {COMPRESSED_IMAGE}
    names = camera_names([camera.name for camera in cameras])
    node_parameters = {
        'image_transport': 'compressed' if compressed else 'raw',
        'max_image_age_ms': '0.0',
        **(parameters or {}),
    }
    if len(cameras) > 1:
        node_parameters['cameras'] = '[' + ', '.join(names.values()) + ']'
    suffix = 'image/compressed' if compressed else 'image'
    remappings = {f'{name}/{suffix}' if name else suffix: topic for topic, name in names.items()}
    result = Replay({camera.name: CameraReplay() for camera in cameras})
    rclpy.init()
    try:
        ros = rclpy.create_node('night_seg_replay')
        player = BagPlayer(ros, bag, rate, topics=list(names))
        with (
            new_bag(masks_bag) as writer,
            _node_process(remappings, node_parameters, log) as process,
        ):
            recorder = _Recorder(ros, writer, names, result)
            with _spinning(ros):
                _wait_for_node(process, player, recorder, log)

                def note_time(message: BagMessage) -> None:
                    camera = result.cameras[message.topic]
                    stamp = header_stamp_ns(message)
                    if stamp == 0 or stamp in camera.published_ns:
                        camera.untold.add(stamp)
                    camera.recorded_ns[stamp] = message.time_ns
                    camera.published_ns[stamp] = time.time_ns()
                    on_image()

                with suppress(KeyboardInterrupt):
                    player.play(note_time)
                    if rclpy.ok():  # else a signal ended the playing
                        _wait_until_quiet(recorder, result)
                        result.complete = rclpy.ok() and process.poll() is None
            if process.poll() is not None:
                raise ReplayError(f'the node died during the replay:\n{_tail(log)}')
            recorder.write_rest()
        return result
    finally:
        rclpy.try_shutdown()


class _Recorder:
    """Writes the masks into a bag as they arrive, serialised as they came.

    The masks of one frame are written together, in the order in which frames complete.
    """

    def __init__(
        self, node: Node, writer: Writer, names: Mapping[str, str], result: Replay
    ) -> None:
        self.node = node
        self.topics: list[str] = []
        self.last_arrival = time.monotonic()
        self._writer = writer
        self._result = result
        self._started = time.monotonic()
        self._connections: dict[str, Connection] = {}
        self._waiting: dict[tuple[str, int], dict[str, bytes]] = {}
        self._titles = {f'{NODE}/{name}'.rstrip('/'): camera for camera, name in names.items()}
        for camera, name in names.items():
            for topic in MaskTopics.of(name).masks:
                self.topics.append(topic)
                self._connections[topic] = writer.add_connection(topic, IMAGE, typestore=TYPESTORE)
                on_mask = functools.partial(self._on_mask, camera, topic)
                node.create_subscription(Image, topic, on_mask, QoSProfile(depth=30), raw=True)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    @property
    def engine_known(self) -> bool:
        """Whether the node has said what it runs."""
        return bool(self._result.engine.get('backend'))

    def _on_mask(self, camera: str, topic: str, content: bytes) -> None:
        now = time.time_ns()
        self.last_arrival = time.monotonic()
        stamp = header_stamp_ns(BagMessage(topic, IMAGE, 0, content))
        if topic.endswith('/semantic/mask'):
            self._result.cameras[camera].received_ns[stamp] = now
        masks = self._waiting.setdefault((camera, stamp), {})
        masks[topic] = content
        if len(masks) == MASKS_OF_A_FRAME:
            self._write(self._waiting.pop((camera, stamp)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            title, _, kind = status.name.partition(': ')
            values = {value.key: value.value for value in status.values}
            if status.name == f'{NODE}: engine':
                self._result.engine = values
            elif status.name == f'{NODE}: memory':
                elapsed = round(time.monotonic() - self._started, 2)
                self._result.memory.append((elapsed, float(values['resident_mib'])))
            elif title in self._titles:
                self._note(self._result.cameras[self._titles[title]], kind, values)

    @staticmethod
    def _note(camera: CameraReplay, kind: str, values: Mapping[str, str]) -> None:
        if kind == 'input':
            for key, value in values.items():
                what, _, reason = key.partition('/')
                if what in ('dropped', 'lost'):
                    name = reason if what == 'dropped' else 'lost_on_the_way'
                    camera.drops[name] = int(value)
        elif kind == 'processing time':
            for key, value in values.items():
                stage, _, percentile = key.partition('_ms/')
                if stage == 'age':  # counted from stamps of the past
                    continue
                camera.stages_ms.setdefault(stage, {})[percentile] = float(value)

    def _write(self, masks: dict[str, bytes]) -> None:
        now = time.time_ns()
        for topic, content in masks.items():
            self._writer.write(self._connections[topic], now, content)

    def write_rest(self) -> None:
        """Write what arrived without its companions."""
        for masks in self._waiting.values():
            self._write(masks)


@contextmanager
def _node_process(
    remappings: Mapping[str, str], parameters: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen]:
    command = [sys.executable, '-m', 'nightseg_ros.ros.night_seg_node', '--ros-args']
    for source, target in remappings.items():
        command += ['-r', f'{source}:={target}']
    for name, value in parameters.items():
        command += ['-p', f'{name}:={value}']
    with log.open('wb') as output:
        # Its own session: Ctrl-C is for us, who end it when the report is on its way.
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
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
    process: subprocess.Popen, player: BagPlayer, recorder: _Recorder, log: Path
) -> None:
    """Wait until the node listens to the images and is heard on every mask topic."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ReplayError(f'the node did not start:\n{_tail(log)}')
        listens = all(p.get_subscription_count() > 0 for p in player.publishers.values())
        heard = all(recorder.node.count_publishers(topic) > 0 for topic in recorder.topics)
        if listens and heard and recorder.engine_known:
            return
        time.sleep(0.05)
    raise ReplayError(f'the node did not become active in {START_TIMEOUT_S:.0f} s:\n{_tail(log)}')


def _wait_until_quiet(recorder: _Recorder, result: Replay) -> None:
    recorder.last_arrival = time.monotonic()
    while time.monotonic() - recorder.last_arrival < QUIET_S:
        cameras = result.cameras.values()
        if all(len(camera.received_ns) == len(camera.published_ns) for camera in cameras):
            break
        time.sleep(0.05)
    # Confidence and exposure of the last frame follow its mask; diagnostics come once a second.
    time.sleep(DIAGNOSTICS_S)


def _tail(log: Path, lines: int = 15) -> str:
    return os.linesep.join(log.read_text(errors='replace').splitlines()[-lines:])
