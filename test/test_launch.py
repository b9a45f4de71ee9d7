"""The launch file: a stand-in for the node writes down how launch started it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip('launch_ros', reason='launch_ros is not installed: source a ROS 2')

ROOT = Path(__file__).parents[1]
PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
files = [pathlib.Path(b).read_text() for a, b in zip(sys.argv, sys.argv[1:])
         if a == '--params-file']
started = dict(arguments=sys.argv[1:], parameters=files, profile=os.environ.get('{PROFILE}'))
pathlib.Path(os.environ['STARTED']).write_text(json.dumps(started))
"""


@pytest.fixture
def launch_node(ros_context, tmp_path, monkeypatch):
    """Launch with arguments; returns what the node got."""
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import AnyLaunchDescriptionSource

    from launch import LaunchDescription
    from launch import LaunchService

    prefix = tmp_path / 'install'
    index = prefix / 'share/ament_index/resource_index/packages'
    share = prefix / 'share/nightseg_ros'
    executable = prefix / 'lib/nightseg_ros/night_seg_node'
    for folder in (index, share, executable.parent):
        folder.mkdir(parents=True)
    (index / 'nightseg_ros').touch()
    for name in ('launch', 'config'):
        (share / name).symlink_to(ROOT / name)
    executable.write_text(STAND_IN)
    executable.chmod(0o755)
    started = tmp_path / 'started.json'
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}')
    monkeypatch.setenv('STARTED', str(started))
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'log'))
    monkeypatch.delenv(PROFILE, raising=False)

    def launch_node(**arguments: str) -> dict:
        source = AnyLaunchDescriptionSource(str(share / 'launch/night_seg.launch.py'))
        included = IncludeLaunchDescription(source, launch_arguments=arguments.items())
        service = LaunchService(noninteractive=True)
        service.include_launch_description(LaunchDescription([included]))
        assert service.run() == 0
        return json.loads(started.read_text())

    return launch_node


def parameters(started: dict) -> dict:
    """Return the node's parameters, later files over earlier ones."""
    yaml = pytest.importorskip('yaml')
    merged = {}
    for text in started['parameters']:
        for node in (yaml.safe_load(text) or {}).values():
            merged.update(node['ros__parameters'])
    return merged


def test_defaults(launch_node):
    started = launch_node()
    yaml = pytest.importorskip('yaml')
    defaults = yaml.safe_load((ROOT / 'config/night_seg.yaml').read_text())['/**']
    assert parameters(started) == defaults['ros__parameters']
    assert '__node:=night_seg' in started['arguments']
    assert 'image:=/camera/image_raw' in started['arguments']
    assert 'image/compressed:=/camera/image_raw/compressed' in started['arguments']


def test_image_topic_and_namespace(launch_node):
    arguments = launch_node(image_topic='/foo/image', namespace='front')['arguments']
    assert 'image:=/foo/image' in arguments
    assert 'image/compressed:=/foo/image/compressed' in arguments
    assert '__ns:=/front' in arguments


def test_arguments_become_typed_parameters(launch_node):
    given = parameters(
        launch_node(
            model_path='some.onnx',
            backend='onnxruntime',
            image_transport='compressed',
            max_image_age_ms='0',
            autostart='false',
            use_sim_time='true',
        )
    )
    assert given['model_path'] == 'some.onnx'
    assert given['backend'] == 'onnxruntime'
    assert given['image_transport'] == 'compressed'
    assert given['max_image_age_ms'] == 0.0
    assert isinstance(given['max_image_age_ms'], float)
    assert given['autostart'] is False
    assert given['use_sim_time'] is True


def test_only_given_arguments_override_params_file(launch_node, tmp_path):
    params_file = tmp_path / 'mine.yaml'
    params_file.write_text(
        '/**: {ros__parameters: {backend: openvino, max_image_age_ms: 250.0, autostart: false}}'
    )
    started = launch_node(params_file=str(params_file), backend='onnxruntime')
    assert parameters(started) == {
        'backend': 'onnxruntime',
        'max_image_age_ms': 250.0,
        'autostart': False,
    }


def test_gives_fast_dds_shared_memory_unless_a_profile_is_set(launch_node, monkeypatch):
    assert Path(launch_node()['profile']).samefile(ROOT / 'config/fastdds_shared_memory.xml')
    monkeypatch.setenv(PROFILE, '/mine.xml')
    assert launch_node()['profile'] == '/mine.xml'
