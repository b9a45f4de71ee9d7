"""Start the night segmentation node: ``ros2 launch nightseg_ros night_seg.launch.py``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument
from launch.actions import OpaqueFunction
from launch.actions import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext
from launch import LaunchDescription

PACKAGE = 'nightseg_ros'
NODE = 'night_seg'
SHARE = Path(get_package_share_directory(PACKAGE))
PARAMS_FILE = SHARE / 'config' / 'night_seg.yaml'

FAST_DDS_PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Where Fast DDS 2 (Humble, Jazzy) and 3 (Kilted) look for their profile."""

BOOLEANS = ['true', 'false', 'True', 'False']
CAMERA = '{camera}'
CAMERA_NAME = re.compile('[A-Za-z][A-Za-z0-9_]*')
TOPIC = re.compile('(~?/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*')

RVIZ_TOPICS = ('semantic/overlay', 'exposure/map')
"""Topics of the node that night_seg.rviz shows."""
RVIZ_IMAGE_TOPIC = '/camera/image_raw'

PARAMETERS = {
    'model_path': (str, 'Exported ONNX model.'),
    'backend': (str, 'auto, tensorrt, openvino or onnxruntime.'),
    'precision': (str, 'auto, fp32, fp16 or int8.'),
    'engine_cache_dir': (str, 'Folder that keeps built engines from one start to the next.'),
    'image_transport': (str, 'raw, or compressed to subscribe to IMAGE_TOPIC/compressed.'),
    'max_image_age_ms': (float, 'Older frames are dropped and counted; 0 keeps all.'),
    'autostart': (bool, 'Configure and activate at start.'),
    'build_only': (
        bool,
        'Build the engine or load it, check it, and end: respawn does not apply, and '
        'ros2 launch fails when the node does.',
    ),
    'use_sim_time': (bool, 'Follow /clock, for bags played with --clock.'),
}
"""Node parameters that are launch arguments too; left empty, params_file decides."""

ARGUMENTS = {
    'params_file': (str(PARAMS_FILE), 'Node parameters, YAML.', None),
    'qos_overrides_file': (
        '',
        'More parameters, such as those in config/qos_overrides.yaml.',
        None,
    ),
    'namespace': ('', 'Namespace of the node and its topics.', None),
    'cameras': (
        '',
        'Names of several cameras for one node, such as front,left. Empty: see params_file, whose '
        'cameras keep their topics NAME/image and NAME/camera_info.',
        None,
    ),
    'image_topic': (
        '',
        f'Camera images (sensor_msgs/Image); with cameras a pattern that contains {CAMERA}. '
        f'Empty: /camera/image_raw, with cameras /{CAMERA}/image_raw.',
        None,
    ),
    'camera_info_topic': (
        '',
        'Calibration (sensor_msgs/CameraInfo), a pattern like image_topic. '
        'Empty: camera_info beside the images.',
        None,
    ),
    'rviz': ('false', 'Show overlay, exposure map and image of the (first) camera.', BOOLEANS),
    'log_level': ('info', 'Of the node.', ['debug', 'info', 'warn', 'error', 'fatal']),
    'respawn': ('false', 'Start the node again when it dies.', BOOLEANS),
}
"""Arguments of the launch file alone: default, meaning, choices."""


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and what they start."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=description, choices=choices
                )
                for name, (default, description, choices) in ARGUMENTS.items()
            ),
            *(
                DeclareLaunchArgument(
                    name, default_value='', description=f'{description} Empty: see params_file.'
                )
                for name, (_, description) in PARAMETERS.items()
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[Node]:
    """Return what the arguments ask for."""
    cameras = camera_names(argument(context, 'cameras'))
    images = camera_topics('image_topic', image_pattern(context, cameras), cameras)
    infos = camera_topics('camera_info_topic', camera_info_pattern(context, cameras), cameras)
    node = segmentation_node(context, cameras, remappings(cameras, images, infos))
    # First, so that nothing has been started yet where RViz is not installed.
    return [rviz(context, cameras, images), node] if flag(context, 'rviz') else [node]


# Arguments


def argument(context: LaunchContext, name: str) -> str:
    """Return the value of an argument."""
    return LaunchConfiguration(name).perform(context).strip()


def flag(context: LaunchContext, name: str) -> bool:
    """Return the value of a boolean argument; empty is false."""
    return argument(context, name).lower() == 'true'


def given_parameters(context: LaunchContext) -> dict[str, Any]:
    """Return the parameters that arguments override."""
    given = {}
    for name, (kind, _) in PARAMETERS.items():
        if argument(context, name):
            given[name] = ParameterValue(LaunchConfiguration(name), value_type=kind)
            try:
                given[name].evaluate(context)
            except (TypeError, ValueError) as error:
                raise ValueError(f'{name}: {error}') from error
    return given


def parameter_files(context: LaunchContext) -> list[str]:
    """Return the YAML files; launch itself only warns of one that is not there."""
    given = (argument(context, name) for name in ('params_file', 'qos_overrides_file'))
    files = [Path(file).expanduser() for file in given if file]
    for file in files:
        if not file.is_file():
            raise ValueError(f'there is no parameter file {file}')
    return [str(file) for file in files]


# Cameras


def camera_names(text: str) -> list[str]:
    """Return the names in a comma separated list; none means one camera without a name."""
    names = [name.strip() for name in text.split(',')] if text else []
    for name in names:
        if not CAMERA_NAME.fullmatch(name):
            raise ValueError(
                f'cameras: {name!r} is not a camera name: letters, digits and _, a letter first'
            )
        if names.count(name) > 1:
            raise ValueError(f'cameras: {name!r} is there twice')
    return names


def image_pattern(context: LaunchContext, cameras: list[str]) -> str:
    """Return image_topic or its default."""
    default = f'/{CAMERA}/image_raw' if cameras else '/camera/image_raw'
    pattern = argument(context, 'image_topic') or default
    if pattern.endswith('/compressed'):
        raise ValueError(
            f'image_topic {pattern!r}: leave /compressed away and set image_transport:=compressed'
        )
    return pattern


def camera_info_pattern(context: LaunchContext, cameras: list[str]) -> str:
    """Return camera_info_topic, or where camera drivers put it: beside the images."""
    folder, slash, _ = image_pattern(context, cameras).rpartition('/')
    return argument(context, 'camera_info_topic') or f'{folder}{slash}camera_info'


def camera_topics(name: str, pattern: str, cameras: list[str]) -> list[str]:
    """Return the topic of each camera, or that of the one without a name."""
    if CAMERA in pattern and not cameras:
        raise ValueError(
            f'{name} {pattern!r} needs names for {CAMERA}, such as cameras:=front,left'
        )
    if CAMERA not in pattern and len(cameras) > 1:
        raise ValueError(f'{name} {pattern!r} must contain {CAMERA}: {len(cameras)} cameras')
    topics = [pattern.replace(CAMERA, camera) for camera in cameras or ['']]
    for topic in topics:
        if not TOPIC.fullmatch(topic):
            raise ValueError(f'{name}: {topic!r} is not a topic name')
    return topics


def remappings(cameras: list[str], images: list[str], infos: list[str]) -> list[tuple[str, str]]:
    """Return from which topics the node's inputs come."""
    rules = []
    for camera, image, info in zip(cameras or [''], images, infos, strict=True):
        prefix = f'{camera}/' if camera else ''
        rules += [
            (f'{prefix}image', image),
            (f'{prefix}image/compressed', f'{image}/compressed'),
            (f'{prefix}camera_info', info),
        ]
    return rules


# Processes


def segmentation_node(
    context: LaunchContext, cameras: list[str], rules: list[tuple[str, str]]
) -> LifecycleNode:
    """Return the node; only arguments that were given override the files."""
    given = given_parameters(context)
    if cameras:
        given['cameras'] = cameras
    build_only = flag(context, 'build_only')
    return LifecycleNode(
        package=PACKAGE,
        executable='night_seg_node',
        name=NODE,
        namespace=argument(context, 'namespace'),
        output='screen',
        parameters=[*parameter_files(context), given],
        remappings=rules,
        arguments=['--ros-args', '--log-level', argument(context, 'log_level')],
        respawn=flag(context, 'respawn') and not build_only,
        respawn_delay=2.0,
        additional_env=fast_dds_profile(context),
        on_exit=end_of_build if build_only else None,
    )


def fast_dds_profile(context: LaunchContext) -> dict[str, str]:
    """Return the environment that gives Fast DDS room for camera images in shared memory.

    Nothing where the user has a profile; other RMWs ignore it.
    """
    if any(name in context.environment for name in FAST_DDS_PROFILES):
        return {}
    return dict.fromkeys(FAST_DDS_PROFILES, str(SHARE / 'config' / 'fastdds_shared_memory.xml'))


def end_of_build(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End the launch; only an exception gives ``ros2 launch`` an exit code of its own."""
    if context.is_shutdown:
        return None
    if event.returncode != 0:
        raise RuntimeError(f'build_only failed: the node ended with exit code {event.returncode}')
    return Shutdown(reason='build_only: done')


def rviz(context: LaunchContext, cameras: list[str], images: list[str]) -> Node:
    """Return RViz with our displays, led to the topics of the first camera."""
    namespace = argument(context, 'namespace')
    place = '/'.join(filter(None, ['', *namespace.split('/'), NODE, *cameras[:1]]))
    sim_time = {k: v for k, v in given_parameters(context).items() if k == 'use_sim_time'}
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=namespace,
        arguments=['-d', str(SHARE / 'config' / 'night_seg.rviz')],
        parameters=[sim_time] if sim_time else None,
        remappings=[
            (RVIZ_IMAGE_TOPIC, images[0]),
            *((f'/{NODE}/{topic}', f'/{place}/{topic}') for topic in RVIZ_TOPICS),
        ],
    )
