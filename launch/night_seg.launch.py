"""Start the night segmentation node: ``ros2 launch nightseg_ros night_seg.launch.py``."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext
from launch import LaunchDescription

PACKAGE = 'nightseg_ros'
SHARE = Path(get_package_share_directory(PACKAGE))

FAST_DDS_PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'

PARAMETERS = {
    'model_path': (str, 'Exported ONNX model.'),
    'backend': (str, 'auto, openvino or onnxruntime.'),
    'image_transport': (str, 'raw, or compressed to subscribe to IMAGE_TOPIC/compressed.'),
    'max_image_age_ms': (float, 'Older frames are dropped and counted; 0 keeps all.'),
    'autostart': (bool, 'Configure and activate at start.'),
    'use_sim_time': (bool, 'Follow /clock, for bags played with --clock.'),
}
"""Node parameters that are launch arguments too; left empty, params_file decides."""

ARGUMENTS = {
    'namespace': ('', 'Namespace of the node and its topics.'),
    'image_topic': ('/camera/image_raw', 'Camera images (sensor_msgs/Image).'),
    'log_level': ('info', 'debug, info, warn or error.'),
    'respawn': ('false', 'Start the node again when it dies.'),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the node."""
    params_file = SHARE / 'config' / 'night_seg.yaml'
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file', default_value=str(params_file), description='Node parameters, YAML.'
            ),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in ARGUMENTS.items()
            ),
            *(
                DeclareLaunchArgument(
                    name, default_value='', description=f'{description} Empty: see params_file.'
                )
                for name, (_, description) in PARAMETERS.items()
            ),
            OpaqueFunction(function=start_node),
        ]
    )


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """Return the node; only arguments that were given override params_file."""
    image_topic = LaunchConfiguration('image_topic').perform(context)
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, (kind, _) in PARAMETERS.items()
        if LaunchConfiguration(name).perform(context)
    }
    # Without it Fast DDS has no room for camera images in shared memory; other RMWs ignore it.
    profile = {FAST_DDS_PROFILE: str(SHARE / 'config' / 'fastdds_shared_memory.xml')}
    return [
        LifecycleNode(
            package=PACKAGE,
            executable='night_seg_node',
            name='night_seg',
            namespace=LaunchConfiguration('namespace'),
            output='screen',
            parameters=[LaunchConfiguration('params_file'), given],
            remappings=[
                ('image', image_topic),
                ('image/compressed', f'{image_topic}/compressed'),
            ],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            respawn=LaunchConfiguration('respawn'),
            respawn_delay=2.0,
            additional_env={} if FAST_DDS_PROFILE in context.environment else profile,
        )
    ]
