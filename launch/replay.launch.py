"""Play a rosbag2 through the node: ``ros2 launch nightseg_ros replay.launch.py bag:=drive``.

Takes the arguments of night_seg.launch.py too, and ends when the bag or the node does.
"""

from __future__ import annotations

import math
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.action import Action
from launch.actions import DeclareLaunchArgument
from launch.actions import ExecuteProcess
from launch.actions import IncludeLaunchDescription
from launch.actions import LogInfo
from launch.actions import OpaqueFunction
from launch.actions import RegisterEventHandler
from launch.actions import Shutdown
from launch.actions import TimerAction
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.ros_adapters import get_ros_node
from rclpy.node import NodeNameNonExistentError

from launch import LaunchContext
from launch import LaunchDescription

NODE = 'night_seg'
IMAGE_TYPES = {'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'}
SHARE = Path(get_package_share_directory('nightseg_ros'))
FAST_DDS_PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Where Fast DDS 2 (Humble, Jazzy) and 3 (Kilted) look for their profile."""
BOOLEANS = ['true', 'false', 'True', 'False']

POLL_S = 0.5
DISCOVERY_S = 1.0
"""The player's publishers and the node's subscriptions find each other in this time."""


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, the node and the player."""
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='The rosbag2 to play (required).'),
            DeclareLaunchArgument(
                'rate', default_value='1.0', description='Speed; 0.5 is half of the real one.'
            ),
            DeclareLaunchArgument(
                'loop',
                default_value='false',
                description='Start over at the end, until interrupted.',
                choices=BOOLEANS,
            ),
            DeclareLaunchArgument(
                'start_offset', default_value='0.0', description='Seconds to skip at the start.'
            ),
            OpaqueFunction(function=check_arguments),
            RegisterEventHandler(
                OnProcessExit(
                    target_action=lambda action: isinstance(action, LifecycleNode),
                    on_exit=node_ended,
                )
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'night_seg.launch.py')),
                launch_arguments={'use_sim_time': 'true'}.items(),
            ),
            OpaqueFunction(function=wait_for_node),
        ]
    )


# Arguments


def argument(context: LaunchContext, name: str) -> str:
    """Return the value of an argument."""
    return LaunchConfiguration(name).perform(context).strip()


def flag(context: LaunchContext, name: str) -> bool:
    """Return the value of a boolean argument."""
    return argument(context, name).lower() == 'true'


def number(context: LaunchContext, name: str) -> float:
    """Return the value of a numeric argument."""
    text = argument(context, name)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'{name} must be a number, got {text!r}')
    return value


def bag_path(context: LaunchContext) -> Path:
    """Return the bag; shells leave the ~ in ``bag:=~/drive`` as it is."""
    return Path(argument(context, 'bag')).expanduser()


def check_arguments(context: LaunchContext) -> None:
    """Complain now: the player itself would only after the node has loaded its model."""
    if not bag_path(context).exists():
        raise ValueError(f'bag: there is no {bag_path(context)}')
    if number(context, 'rate') <= 0:
        raise ValueError(f'rate must be above 0, got {argument(context, "rate")}')
    if number(context, 'start_offset') < 0:
        raise ValueError(f'start_offset must be 0 or more, got {argument(context, "start_offset")}')


# Waiting for the node


def wait_for_node(context: LaunchContext) -> list[Action]:
    """Start looking at the node: what is played before it has loaded its model is lost."""
    return [LogInfo(msg='the bag is played once the node has loaded its model'), look_later()]


def look_later() -> TimerAction:
    """Return the next look at the node."""
    return TimerAction(period=POLL_S, actions=[OpaqueFunction(function=play_if_ready)])


def play_if_ready(context: LaunchContext) -> list[Action]:
    """Play when the node takes images; otherwise look again."""
    return [player(context) if takes_images(context) else look_later()]


def takes_images(context: LaunchContext) -> bool:
    """Return whether the node subscribes to images: its being active does not say so.

    An active node may be loading its model still, which takes minutes where TensorRT builds an
    engine.
    """
    namespace = '/' + '/'.join(filter(None, argument(context, 'namespace').split('/')))
    try:
        topics = get_ros_node(context).get_subscriber_names_and_types_by_node(NODE, namespace)
    except NodeNameNonExistentError:
        return False
    return any(IMAGE_TYPES.intersection(types) for _, types in topics)


# Processes


def player(context: LaunchContext) -> ExecuteProcess:
    """Return ``ros2 bag play``."""
    command = ['ros2', 'bag', 'play', str(bag_path(context))]
    command += ['--clock', '--rate', str(number(context, 'rate'))]
    command += ['--start-offset', str(number(context, 'start_offset'))]
    command += ['--delay', str(DISCOVERY_S)]
    if flag(context, 'loop'):
        command.append('--loop')
    # As for the node: without it images do not fit into the shared memory of Fast DDS.
    profile = str(SHARE / 'config' / 'fastdds_shared_memory.xml')
    has_profile = any(name in context.environment for name in FAST_DDS_PROFILES)
    return ExecuteProcess(
        cmd=command,
        output='screen',
        additional_env={} if has_profile else dict.fromkeys(FAST_DDS_PROFILES, profile),
        on_exit=player_ended,
    )


def player_ended(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End the launch; only an exception gives ``ros2 launch`` an exit code of its own."""
    if context.is_shutdown:
        return None
    if event.returncode != 0:
        raise RuntimeError(f'ros2 bag play ended with exit code {event.returncode}')
    return Shutdown(reason='the bag has ended')


def node_ended(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End the launch with the node unless it comes back."""
    if context.is_shutdown or flag(context, 'respawn'):
        return None
    if event.returncode != 0:
        raise RuntimeError(f'the node ended with exit code {event.returncode}')
    return Shutdown(reason='the node has ended')
