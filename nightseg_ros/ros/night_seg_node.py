"""The node: camera images in, semantic and exposure masks out."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.clock import JumpThreshold
from rclpy.clock import TimeJump
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle import LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool
from std_srvs.srv import Trigger

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import load_backend_class
from nightseg_ros.core.memory import keep_memory
from nightseg_ros.core.memory import resident_mib
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros import debug_frame
from nightseg_ros.ros import diagnostics
from nightseg_ros.ros import parameters
from nightseg_ros.ros.camera import Camera
from nightseg_ros.ros.diagnostics import Interval
from nightseg_ros.ros.engine_loader import EngineLoader
from nightseg_ros.ros.engine_loader import Loaded
from nightseg_ros.ros.frame_path import FramePath
from nightseg_ros.ros.impossible_transitions import refuse_impossible_transitions
from nightseg_ros.ros.qos import DIAGNOSTICS_DEPTH
from nightseg_ros.ros.statistics import Summary

DIAGNOSTICS_PERIOD_S = 1.0
MEMORY_BASELINE_AFTER = 100
"""Frames until the node's memory is as large as it should ever be."""

STOP_LOADING_S = 3.0
"""For so long the node waits for a loading thread when it ends; launch kills after five."""

SWITCH_INTERVAL_S = 2e-4
"""For so long a thread may keep the interpreter while another waits; Python's own is 5 ms. With
that, a frame that arrived waited for the executor's thread 0.48 ms (p50; p99 1.0), now 0.38 (0.8);
beside a process that burns one of two cores p90 went from 3.0 to 0.7 ms."""

CANNOT_START = 2
"""Exit code of a node that cannot do what it was started for."""

BAD_QOS_OVERRIDE = (RuntimeError, ParameterException)
"""What rclpy raises when a parameter qos_overrides.* cannot be used."""

Transition = Callable[['NightSegNode', LifecycleState], TransitionCallbackReturn]


def logged(transition: Transition) -> Transition:
    """Log what a transition raises: rclpy turns it into ERROR without a word."""

    @functools.wraps(transition)
    def run(node: NightSegNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            if rclpy.ok():
                reason = traceback.format_exc()
                node.get_logger().error(f'{transition.__name__} failed:\n{reason}')
            raise

    return run


def answered(service: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Answer with the reason when a service fails: its client would wait for ever."""

    @functools.wraps(service)
    def answer(request: Any, response: Any) -> Any:
        try:
            return service(request, response)
        except Exception as error:
            response.success = False
            response.message = f'{type(error).__name__}: {error}'
            return response

    return answer


class NightSegNode(LifecycleNode):
    """Subscribes to cameras, publishes masks.

    Three threads: the executor's (callbacks, services, diagnostics), the frame path's (which owns
    the segmenter) and, while a model is loaded, the loader's. So services and parameters answer
    while a frame is processed or an engine is built, and a network slower than the cameras costs
    frames, never latency.

    Active, it subscribes as soon as a model has passed its self-check, never before.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('night_seg', **kwargs)
        refuse_impossible_transitions(self)
        parameters.declare(self)
        self._settings = parameters.settings(self)
        self.exit_code: int | None = None
        self._state = 'unconfigured'
        self._enabled = True
        self._listening = False
        self._failure = ''
        self._cameras: list[Camera] = []
        self._frame_path = FramePath(lambda: self._settings, self.get_clock(), self.get_logger())
        self._loaded_signal = self.create_guard_condition(self._on_loaded)
        self._loader = EngineLoader(self._loaded_signal.trigger)
        self._follow_parameters()
        # Kept: the callback lives as long as its handle.
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)),
            post_callback=self._on_clock_jump,
        )
        self.create_service(SetBool, '~/enable', answered(self._on_enable))
        self.create_service(Trigger, '~/reload_model', answered(self._on_reload_model))
        self.create_service(Trigger, '~/reset_statistics', answered(self._on_reset_statistics))
        self.create_service(Trigger, '~/save_debug_frame', answered(self._on_save_debug_frame))
        self._reported: dict[str, Summary] = {}
        self._reported_at = self.get_clock().now()
        self._memory_baseline: float | None = None
        self._diagnostics = self.create_publisher(
            DiagnosticArray, '/diagnostics', DIAGNOSTICS_DEPTH
        )
        # On the steady clock: a /clock that stands still must not silence the diagnostics.
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=self._steady_clock)

    # Lifecycle

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Create the publishers and begin to load the model."""
        try:
            self._cameras = [Camera(self, name) for name in self.get_parameter('cameras').value]
            self._start_loading()
        except (ModelError, BackendError, *BAD_QOS_OVERRIDE) as error:
            if not self.context.ok():
                raise
            self._failure = str(error)
            self.get_logger().error(self._failure)
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._state = 'inactive'
        return super().on_configure(state)

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the frame path; subscribe as soon as there is a model."""
        result = super().on_activate(state)
        self._frame_path.start(self._cameras)
        self._state = 'active'
        self._listen_or_not()
        return result

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop subscribing and let the frame path finish its frame."""
        if not self.stop():
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        if not self.stop():
            return TransitionCallbackReturn.ERROR
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def stop(self) -> bool:
        """Stop subscribing and wait for the frame path; returns whether it stopped."""
        if self._state == 'active':
            self._state = 'inactive'
        self._listen_or_not()
        if self._frame_path.stop():
            return True
        self.get_logger().fatal('the backend does not return from a frame: the process must end')
        self._exit(CANNOT_START)
        return False

    def stop_loading(self, timeout_s: float) -> bool:
        """Let go of what is being loaded; returns whether the loading thread has ended."""
        self._loader.cancel()
        return self._loader.wait(timeout_s)

    def _release(self) -> None:
        self._loader.cancel()
        self._frame_path.replace_segmenter(None)
        for camera in self._cameras:
            camera.destroy()
        self._cameras = []
        self._reported = {}
        self._state = 'unconfigured'

    def _listen_or_not(self) -> None:
        """Subscribe exactly while active, enabled and able to segment."""
        ready = self._frame_path.segmenter is not None
        wanted = self._state == 'active' and self._enabled and ready
        if wanted == self._listening:
            return
        self._listening = wanted
        for camera in self._cameras:
            if wanted:
                compressed = self.get_parameter('image_transport').value == 'compressed'
                try:
                    topic = camera.listen(compressed, self._frame_path.put)
                except BAD_QOS_OVERRIDE as error:
                    self._failure = f'cannot subscribe: {error}'
                    self.get_logger().error(self._failure)
                    self._exit(CANNOT_START)
                    return
                self.get_logger().info(f'waiting for images on {topic}')
            else:
                camera.stop_listening()
        if not wanted:
            self._frame_path.drop_waiting()

    # The model

    def _start_loading(self) -> bool:
        """Begin to load what the parameters ask for; returns False while something is loaded.

        Raises:
            ModelError: the model is missing or corrupt.
            BackendError: the backend is not installed.
        """
        request = parameters.engine_request(self)
        model = load_model(request.model_path)
        if request.backend != AUTO:
            load_backend_class(request.backend)
        return self._loader.start(model, request.backend, request.options)

    def _on_loaded(self) -> None:
        loaded = self._loader.take()
        if loaded is None:
            return
        self._failure = loaded.error
        if loaded.segmenter is not None:
            self._use(loaded.segmenter, loaded.elapsed_s)
        else:
            self._give_up(loaded)

    def _use(self, segmenter: Segmenter, elapsed_s: float) -> None:
        backend = segmenter.backend
        self.get_logger().info(
            f'{backend.model.name} ({backend.model.width}x{backend.model.height}) on '
            f'{backend.name} in {backend.precision} after {elapsed_s:.1f} s: {segmenter.reason}; '
            f'self-check {segmenter.self_check}'
        )
        self._frame_path.replace_segmenter(segmenter)
        self._memory_baseline = None
        if self.get_parameter('build_only').value:
            self._exit(0)
        else:
            self._listen_or_not()

    def _give_up(self, loaded: Loaded) -> None:
        self.get_logger().error(loaded.error)
        if self._frame_path.segmenter is not None:
            self.get_logger().warning('the previous model drives on')
        elif self.get_parameter('autostart').value or self.get_parameter('build_only').value:
            self._exit(CANNOT_START)
        else:
            if self._state == 'active':
                self.trigger_deactivate()
            self.trigger_cleanup()

    def _exit(self, code: int) -> None:
        self.exit_code = code
        self.context.try_shutdown()

    # Services

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        self._listen_or_not()
        response.success = True
        response.message = 'enabled' if request.data else 'disabled: nothing is subscribed to'
        return response

    def _on_reload_model(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Begin to load; the model in use drives on until the next has passed its self-check."""
        if self._state == 'unconfigured':
            response.message = 'not configured: there is no model to replace'
            return response
        try:
            response.success = self._start_loading()
        except (ModelError, BackendError) as error:
            response.message = str(error)
            return response
        response.message = (
            'loading; the present model drives on until the new one has passed its self-check, '
            'see "engine" in /diagnostics'
            if response.success
            else 'a model is being loaded already'
        )
        return response

    def _on_reset_statistics(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._reset_statistics()
        response.success = True
        response.message = 'all counts and times begin again'
        return response

    def _on_save_debug_frame(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        saved = []
        try:
            for camera in self._cameras:
                if camera.last is not None:
                    segmenter = self._frame_path.segmenter
                    saved.append(debug_frame.save(camera, camera.last, segmenter, self._settings))
        except OSError as error:
            response.message = f'{error}; set debug_dir to a folder that can be written'
            return response
        response.success = bool(saved)
        response.message = ', '.join(map(str, saved)) or 'no frame was segmented yet'
        return response

    def _reset_statistics(self) -> None:
        for camera in self._cameras:
            camera.reset()
        self._reported = {}

    def _on_clock_jump(self, jump: TimeJump) -> None:
        if jump.delta.nanoseconds < 0:
            seconds = -jump.delta.nanoseconds / 1e9
            self.get_logger().warning(f'the clock jumped back by {seconds:.3f} s: counting anew')
        self._reset_statistics()

    # Parameters

    def _follow_parameters(self) -> None:
        self.add_on_set_parameters_callback(self._check_parameters)
        if hasattr(self, 'add_post_set_parameters_callback'):
            self.add_post_set_parameters_callback(self._read_settings)
        else:  # Humble: a guard condition runs once the callback has returned and the value is set
            self._settings_changed = self.create_guard_condition(self._read_settings)

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            parameters.check(self, changes)
        except parameters.InvalidParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not hasattr(self, 'add_post_set_parameters_callback'):
            self._settings_changed.trigger()
        return SetParametersResult(successful=True)

    def _read_settings(self, changes: list[Parameter] | None = None) -> None:
        self._settings = parameters.settings(self)

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        clock = self.get_clock().now()
        interval = Interval((clock - self._reported_at).nanoseconds / 1e9, time.monotonic())
        self._reported_at = clock
        name = self.get_fully_qualified_name()
        listening = '' if self._listening else self._why_not_listening()
        message = DiagnosticArray()
        message.header.stamp = clock.to_msg()
        message.status = [
            diagnostics.engine_status(
                name,
                self._state,
                self._frame_path.segmenter,
                self._loader.loading(),
                self._failure,
            ),
            diagnostics.memory_status(name, self._memory_baseline),
        ]
        for camera in self._cameras:
            title = f'{name}/{camera.name}' if camera.name else name
            now = camera.statistics.summary()
            before = self._reported.get(camera.name, now)
            self._reported[camera.name] = now
            message.status += [
                diagnostics.input_status(
                    title, listening, now, before, camera.events, self._settings, interval
                ),
                diagnostics.time_status(title, now, self._settings),
                diagnostics.output_status(title, listening, now, self._settings, interval),
                diagnostics.qos_status(title, camera.events),
            ]
            if self._memory_baseline is None and now.published >= MEMORY_BASELINE_AFTER:
                self._memory_baseline = resident_mib()
        self._diagnostics.publish(message)

    def _why_not_listening(self) -> str:
        if self._state != 'active':
            return self._state
        return 'waiting for the model' if self._enabled else 'disabled'


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; exit code 2 when it cannot start."""
    keep_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    interrupt = Interrupt()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    rclpy.init(args=args)
    node, code = None, 0
    # It must outlive the shutdown: rclpy's signal thread wakes executors, and crashes where one
    # has just been freed.
    executor = SingleThreadedExecutor()
    try:
        node = NightSegNode()
        executor.add_node(node)
        if _autostart(node):
            spin(executor, node, interrupt)
        else:
            code = CANNOT_START
    except parameters.InvalidParameterError as error:
        print(f'error: {error}', file=sys.stderr)
        code = CANNOT_START
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok() and not interrupt.came:
            raise
        # Told to stop in the middle of something, which then failed.
    finally:
        # A second Ctrl-C (a shell and a launcher both send one) must not break the shutdown.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            code = node.exit_code or code
            _end(node, code)
        rclpy.try_shutdown()
    return code


def _end(node: NightSegNode, code: int) -> None:
    """Stop and free everything; leave at once with an exit code where that is impossible."""
    stopped = node.stop()
    if not (node.stop_loading(STOP_LOADING_S) and stopped):
        # A runtime that still works aborts when the interpreter takes its thread away.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or node.exit_code or 0)
    node.destroy_node()


class Interrupt:
    """Python's own handler of Ctrl-C, which also remembers that it was called.

    Where its KeyboardInterrupt is raised inside a conversion of rclpy's C++ part, what comes out is
    a RuntimeError about an argument, maybe before the context is shut down.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt."""
        self.came = True
        signal.default_int_handler(number, frame)


def spin(executor: SingleThreadedExecutor, node: LifecycleNode, interrupt: Interrupt) -> None:
    """Run callbacks until the node is told to stop; one that fails must not end the others.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        ExternalShutdownException: the context was shut down.
        Exception: what a callback failed with because the node is told to stop.
    """
    while True:
        try:
            executor.spin()
        except ExternalShutdownException:
            raise
        except Exception:
            if interrupt.came or not rclpy.ok():
                raise
            node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}')
        else:
            return


def _autostart(node: NightSegNode) -> bool:
    """Do what the node was started for; returns whether that could be begun."""
    build_only = node.get_parameter('build_only').value
    if not build_only and not node.get_parameter('autostart').value:
        return True
    if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
        return False
    return build_only or node.trigger_activate() == TransitionCallbackReturn.SUCCESS


if __name__ == '__main__':
    sys.exit(main())
