"""The node: camera images in, semantic and exposure masks out."""

from __future__ import annotations

import functools
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeAlias

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle import LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from nightseg_ros.core import image_codec
from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.image_codec import ImageError
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros import diagnostics
from nightseg_ros.ros import parameters
from nightseg_ros.ros.mailbox import Mailbox
from nightseg_ros.ros.masks_publisher import MasksPublisher
from nightseg_ros.ros.statistics import Statistics

DIAGNOSTICS_PERIOD = 1.0
LOG_EVERY = 100
"""Drops of one kind from one line in the log to the next."""

CAMERA_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
)


CameraImage: TypeAlias = Image | CompressedImage
Transition = Callable[['NightSegNode', LifecycleState], TransitionCallbackReturn]


def logged(transition: Transition) -> Transition:
    """Log what a transition raises: rclpy turns it into ERROR without a word."""

    @functools.wraps(transition)
    def run(node: NightSegNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(f'{transition.__name__} failed:\n{traceback.format_exc()}')
            raise

    return run


class NightSegNode(LifecycleNode):
    """Subscribes to a camera, publishes masks.

    The subscription's callback only puts the newest message into a mailbox; one worker thread owns
    the segmenter. So services and parameters answer while a frame is being processed, and a
    network slower than the camera costs frames, never latency.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('night_seg', **kwargs)
        parameters.declare(self)
        parameters.settings(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._segmenter: Segmenter | None = None
        self._masks: MasksPublisher | None = None
        self._subscription: Subscription | None = None
        self._mailbox: Mailbox[CameraImage] | None = None
        self._worker: threading.Thread | None = None
        self._statistics = Statistics()
        self._reported = self._statistics.summary()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._timer = self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics)

    # Lifecycle

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        try:
            self._segmenter = Segmenter.load(
                self.get_parameter('model_path').value,
                self.get_parameter('backend').value,
                self.get_parameter('threads').value,
            )
        except (ModelError, BackendError) as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        model = self._segmenter.backend.model
        self.get_logger().info(
            f'{model.name} ({model.width}x{model.height}) on {self._segmenter.backend.name}: '
            f'{self._segmenter.reason}'
        )
        self._masks = MasksPublisher(self)
        return super().on_configure(state)

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe to the camera."""
        result = super().on_activate(state)
        self._mailbox = Mailbox()
        self._worker = threading.Thread(
            target=self._work,
            args=(self._mailbox, self._segmenter, self._masks),
            name='segmenter',
            daemon=True,
        )
        self._worker.start()
        compressed = self.get_parameter('image_transport').value == 'compressed'
        self._subscription = subscription = self.create_subscription(
            CompressedImage if compressed else Image,
            'image/compressed' if compressed else 'image',
            self._on_image,
            CAMERA_QOS,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self.get_logger().info(f'waiting for images on {subscription.topic_name}')
        return result

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop subscribing and let the worker finish its frame."""
        self.stop()
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self.stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def stop(self) -> None:
        """Stop subscribing and wait for the worker."""
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._mailbox is not None and self._worker is not None:
            self._mailbox.close()
            self._worker.join()
            self._mailbox = self._worker = None

    def _release(self) -> None:
        if self._masks is not None:
            self._masks.destroy()
        self._masks = self._segmenter = None

    # Parameters

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            parameters.settings(self, changes)
        except parameters.InvalidParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    # Frames

    def _on_image(self, message: CameraImage) -> None:
        self._statistics.received()
        if self._mailbox is not None and self._mailbox.put(message):
            self._statistics.dropped('replaced_by_newer')

    def _work(
        self, mailbox: Mailbox[CameraImage], segmenter: Segmenter, publisher: MasksPublisher
    ) -> None:
        while (message := mailbox.take()) is not None:
            try:
                self._process(message, segmenter, publisher)
            except ImageError as error:
                self._drop(error.reason, str(error))
            except Exception as error:  # the worker must outlive whatever a frame does to it
                self._drop('processing_failed', f'{type(error).__name__}: {error}')

    def _process(
        self, message: CameraImage, segmenter: Segmenter, publisher: MasksPublisher
    ) -> None:
        start = self._now_ms()
        settings = parameters.settings(self)
        age = self._age_ms(message)
        if age is not None and 0 < settings.max_image_age_ms < age:
            self._drop(
                'too_old',
                f'the image is {age / 1e3:.1f} s old: if this is a bag, set use_sim_time and play '
                'it with --clock, or set max_image_age_ms to 0',
            )
            return
        if isinstance(message, CompressedImage):
            frame, encoding = image_codec.decode_compressed(message.data), 'bgr8'
        else:
            frame, encoding = image_codec.view(message), message.encoding
        decoded = self._now_ms()
        segmenter.thresholds = settings.thresholds
        masks = segmenter(frame, encoding, publisher.memory(*frame.shape[:2]))
        segmented = self._now_ms()
        publisher.publish(message.header, frame, encoding, masks, settings.overlay_opacity)
        done = self._now_ms()
        self._statistics.published(
            {
                'decode': decoded - start,
                'preprocess': masks.timings.preprocess,
                'infer': masks.timings.infer,
                'postprocess': masks.timings.postprocess,
                'publish': done - segmented,
                'total': done - start,
            }
        )

    def _age_ms(self, message: CameraImage) -> float | None:
        """Return how old a frame is on the node's clock; None when it has no stamp."""
        stamp = Time.from_msg(message.header.stamp)
        if stamp.nanoseconds == 0:
            return None
        return (self.get_clock().now().nanoseconds - stamp.nanoseconds) / 1e6

    def _drop(self, reason: str, message: str) -> None:
        count = self._statistics.dropped(reason, message)
        if count == 1 or count % LOG_EVERY == 0:
            self.get_logger().warning(f'frame dropped ({reason}, {count} so far): {message}')

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        now = self._statistics.summary()
        name = self.get_fully_qualified_name()
        active = self._subscription is not None
        state = 'active' if active else 'inactive' if self._segmenter else 'not configured'
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            diagnostics.engine_status(name, self._segmenter, state),
            diagnostics.input_status(name, now, self._reported, DIAGNOSTICS_PERIOD, active),
            diagnostics.time_status(name, now),
        ]
        self._diagnostics.publish(message)
        self._reported = now

    @staticmethod
    def _now_ms() -> float:
        return time.perf_counter() * 1e3


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; exit code 2 when it cannot start."""
    rclpy.init(args=args)
    node = None
    try:
        node = NightSegNode()
        if node.get_parameter('autostart').value and not _autostart(node):
            return 2
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except parameters.InvalidParameterError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # A second Ctrl-C (a shell and a launcher both send one) must not break the shutdown.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.stop()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _autostart(node: NightSegNode) -> bool:
    configured = node.trigger_configure()
    if configured != TransitionCallbackReturn.SUCCESS:
        return False
    return node.trigger_activate() == TransitionCallbackReturn.SUCCESS


if __name__ == '__main__':
    sys.exit(main())
