"""The launch files: stand-ins for node, RViz and player write down how launch started them."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip('launch_ros', reason='launch_ros is not installed: source a ROS 2')

ROOT = Path(__file__).parents[1]
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
files = [pathlib.Path(b).read_text() for a, b in zip(sys.argv, sys.argv[1:])
         if a == '--params-file']
listening = pathlib.Path(os.environ['STARTED'] + '.listening')
started = dict(arguments=sys.argv[1:], parameters=files,
               profiles=[os.environ.get(name) for name in {PROFILES}],
               node_listens=listening.exists())
name = pathlib.Path(sys.argv[0]).name
with open(pathlib.Path(os.environ['STARTED'], name), 'a') as log:
    print(json.dumps(started), file=log)
if name == os.environ.get('FAILS'):
    sys.exit(3)
"""

LISTENING_STAND_IN = f"""{STAND_IN}
import rclpy, time
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('night_seg')
time.sleep(1.5)  # loads its model
listening.touch()
node.create_subscription(Image, 'image', print, 1)
try:
    rclpy.spin(node)
except KeyboardInterrupt:
    pass
"""


@dataclass
class Outcome:
    """What came of a launch: exit code, every start by the name of the executable, log."""

    code: int
    starts: dict[str, list[dict]]
    log: str

    @property
    def node(self) -> dict:
        """The only start of the node."""
        (started,) = self.starts['night_seg_node']
        return started

    @property
    def parameters(self) -> dict:
        """The node's parameters, later files over earlier ones."""
        yaml = pytest.importorskip('yaml')
        merged = {}
        for text in self.node['parameters']:
            # launch_ros tags lists as Python tuples, which safe YAML does not know.
            for node in (yaml.safe_load(text.replace('!!python/tuple', '')) or {}).values():
                merged.update(node['ros__parameters'])
        return merged

    @property
    def remappings(self) -> dict[str, str]:
        """The node's remappings."""
        return remappings(self.node['arguments'])


def remappings(arguments: list[str]) -> dict[str, str]:
    return dict(argument.split(':=', 1) for argument in arguments if ':=' in argument)


def write_executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def prefix(ros_context, tmp_path, monkeypatch) -> Path:
    """Install the package with stand-ins; ``ros2`` stands in for the player."""
    prefix = tmp_path / 'install'
    index = prefix / 'share/ament_index/resource_index/packages'
    share = prefix / 'share/nightseg_ros'
    for folder in (index, share, tmp_path / 'started'):
        folder.mkdir(parents=True)
    (index / 'nightseg_ros').touch()
    for name in ('launch', 'config'):
        (share / name).symlink_to(ROOT / name)
    write_executable(prefix / 'lib/nightseg_ros/night_seg_node', STAND_IN)
    write_executable(tmp_path / 'bin/ros2', STAND_IN)
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}')
    monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:{os.environ["PATH"]}')
    monkeypatch.setenv('STARTED', str(tmp_path / 'started'))
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'log'))
    for name in PROFILES:
        monkeypatch.delenv(name, raising=False)
    return prefix


@pytest.fixture
def rviz(prefix):
    """Install a stand-in for RViz."""
    (prefix / 'share/ament_index/resource_index/packages/rviz2').touch()
    write_executable(prefix / 'lib/rviz2/rviz2', STAND_IN)


@pytest.fixture
def launch(prefix, tmp_path, caplog) -> Callable[..., Outcome]:
    """Launch a file with arguments and wait for the end."""
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import AnyLaunchDescriptionSource

    from launch import LaunchDescription
    from launch import LaunchService

    def launch(*more, file: str = 'night_seg.launch.py', **arguments: str) -> Outcome:
        source = AnyLaunchDescriptionSource(str(prefix / 'share/nightseg_ros/launch' / file))
        included = IncludeLaunchDescription(source, launch_arguments=arguments.items())
        service = LaunchService(noninteractive=True)
        service.include_launch_description(LaunchDescription([*more, included]))
        code = service.run()
        starts = {
            log.name: [json.loads(line) for line in log.read_text().splitlines()]
            for log in (tmp_path / 'started').iterdir()
        }
        return Outcome(code, starts, caplog.text)

    return launch


def defaults() -> dict:
    yaml = pytest.importorskip('yaml')
    return yaml.safe_load((ROOT / 'config/night_seg.yaml').read_text())['/**']['ros__parameters']


# night_seg.launch.py


def test_defaults(launch):
    outcome = launch()
    assert outcome.code == 0
    assert outcome.parameters == defaults()
    assert outcome.remappings == {
        '__node': 'night_seg',
        '__ns': '/',
        'image': '/camera/image_raw',
        'image/compressed': '/camera/image_raw/compressed',
        'camera_info': '/camera/camera_info',
    }
    assert list(outcome.starts) == ['night_seg_node']


def test_image_topic_and_namespace(launch):
    rules = launch(image_topic='/foo/image', namespace='front').remappings
    assert rules['image'] == '/foo/image'
    assert rules['image/compressed'] == '/foo/image/compressed'
    assert rules['camera_info'] == '/foo/camera_info'
    assert rules['__ns'] == '/front'


@pytest.mark.parametrize(
    ('image_topic', 'camera_info_topic', 'expected'),
    [('image', '', 'camera_info'), ('/image', '', '/camera_info'), ('a/b', '/info', '/info')],
)
def test_camera_info_topic(launch, image_topic, camera_info_topic, expected):
    outcome = launch(image_topic=image_topic, camera_info_topic=camera_info_topic)
    assert outcome.remappings['camera_info'] == expected


def test_arguments_become_typed_parameters(launch):
    outcome = launch(
        model_path='some.onnx',
        backend='onnxruntime',
        precision='fp16',
        engine_cache_dir='/engines',
        image_transport='compressed',
        max_image_age_ms='0',
        autostart='false',
        build_only='True',
        use_sim_time='true',
    )
    given = {k: v for k, v in outcome.parameters.items() if defaults().get(k) != v}
    assert given == {
        'model_path': 'some.onnx',
        'backend': 'onnxruntime',
        'precision': 'fp16',
        'engine_cache_dir': '/engines',
        'image_transport': 'compressed',
        'max_image_age_ms': 0.0,
        'autostart': False,
        'build_only': True,
        'use_sim_time': True,
    }
    assert isinstance(given['max_image_age_ms'], float)


def test_only_given_arguments_override_params_file(launch, tmp_path):
    params_file = tmp_path / 'mine.yaml'
    params_file.write_text(
        '/**: {ros__parameters: {backend: openvino, max_image_age_ms: 250.0, autostart: false}}'
    )
    assert launch(params_file=str(params_file), backend='onnxruntime').parameters == {
        'backend': 'onnxruntime',
        'max_image_age_ms': 250.0,
        'autostart': False,
    }


def test_qos_overrides_file(launch):
    given = launch(qos_overrides_file=str(ROOT / 'config/qos_overrides.yaml')).parameters
    assert given['qos_overrides']['/night_seg/semantic/mask'] == {
        'publisher': {'reliability': 'best_effort'}
    }
    assert given['backend'] == defaults()['backend']


def test_cameras(launch):
    outcome = launch(cameras='front, left')
    assert outcome.parameters['cameras'] == ['front', 'left']
    rules = outcome.remappings
    assert 'image' not in rules
    assert rules['front/image'] == '/front/image_raw'
    assert rules['front/image/compressed'] == '/front/image_raw/compressed'
    assert rules['front/camera_info'] == '/front/camera_info'
    assert rules['left/image'] == '/left/image_raw'


def test_patterns_of_cameras(launch):
    rules = launch(
        cameras='front,left',
        image_topic='/cams/{camera}/rgb',
        camera_info_topic='/calibration/{camera}',
    ).remappings
    assert rules['left/image'] == '/cams/left/rgb'
    assert rules['left/camera_info'] == '/calibration/left'


def test_one_named_camera_needs_no_pattern(launch):
    assert launch(cameras='front', image_topic='/cam/rgb').remappings['front/image'] == '/cam/rgb'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'cameras': 'front,2nd'}, "cameras: '2nd' is not a camera name"),
        ({'cameras': 'front,'}, "cameras: '' is not a camera name"),
        ({'cameras': 'front,front'}, "cameras: 'front' is there twice"),
        ({'cameras': 'a,b', 'image_topic': '/c/image'}, 'must contain {camera}: 2 cameras'),
        ({'cameras': 'a,b', 'image_topic': '/c/{camera}'}, "camera_info_topic '/c/camera_info'"),
        ({'image_topic': '/{camera}/image'}, 'needs names for {camera}'),
        ({'image_topic': '/{cam}/image'}, "'/{cam}/image' is not a topic name"),
        ({'image_topic': '/a/image_raw/compressed'}, 'set image_transport:=compressed'),
        ({'params_file': '/nowhere.yaml'}, 'there is no parameter file /nowhere.yaml'),
        ({'qos_overrides_file': '/nowhere.yaml'}, 'there is no parameter file /nowhere.yaml'),
        ({'autostart': 'maybe'}, "autostart: Cannot convert value 'maybe'"),
        ({'max_image_age_ms': 'old'}, 'max_image_age_ms: could not convert'),
        ({'respawn': 'maybe'}, '"respawn" provided value "maybe" is not valid'),
        ({'log_level': 'loud'}, '"log_level" provided value "loud" is not valid'),
    ],
)
def test_bad_arguments_start_nothing(launch, arguments, message):
    outcome = launch(**arguments)
    assert outcome.code == 1
    assert message in outcome.log
    assert not outcome.starts


def test_build_only_ends_with_the_node_and_never_respawns(launch, rviz):
    outcome = launch(build_only='true', respawn='true')
    assert outcome.code == 0
    assert outcome.parameters['build_only'] is True


def test_build_only_fails_with_the_node(launch, monkeypatch):
    monkeypatch.setenv('FAILS', 'night_seg_node')
    outcome = launch(build_only='true', respawn='true')
    assert outcome.code == 1
    assert 'build_only failed: the node ended with exit code 3' in outcome.log
    assert len(outcome.starts['night_seg_node']) == 1


def test_respawn(launch, monkeypatch):
    from launch.actions import RegisterEventHandler
    from launch.actions import Shutdown
    from launch.event_handlers import OnProcessExit

    ends = []

    def on_exit(event, context):
        ends.append(event.returncode)
        return Shutdown() if len(ends) == 2 else None

    monkeypatch.setenv('FAILS', 'night_seg_node')
    outcome = launch(RegisterEventHandler(OnProcessExit(on_exit=on_exit)), respawn='true')
    assert ends == [3, 3]
    assert len(outcome.starts['night_seg_node']) == 2


def test_rviz_shows_the_topics_of_the_node(launch, rviz):
    outcome = launch(rviz='true', namespace='/car', cameras='front,left', use_sim_time='true')
    (started,) = outcome.starts['rviz2']
    rules = remappings(started['arguments'])
    assert rules['/camera/image_raw'] == '/front/image_raw'
    assert rules['/night_seg/semantic/overlay'] == '/car/night_seg/front/semantic/overlay'
    assert rules['/night_seg/exposure/map'] == '/car/night_seg/front/exposure/map'
    assert 'use_sim_time: true' in started['parameters'][0]
    shown = Path(started['arguments'][started['arguments'].index('-d') + 1]).read_text()
    for topic in rules:
        assert topic.startswith('__') or f'Value: {topic}\n' in shown


def test_without_rviz_nothing_breaks_unless_it_is_asked_for(launch):
    outcome = launch(rviz='true')
    assert outcome.code == 1
    assert 'rviz2' in outcome.log
    assert not outcome.starts


def test_gives_fast_dds_shared_memory_unless_a_profile_is_set(launch, monkeypatch):
    for profile in launch().node['profiles']:
        assert Path(profile).samefile(ROOT / 'config/fastdds_shared_memory.xml')
    monkeypatch.setenv(PROFILES[0], '/mine.xml')
    assert launch().starts['night_seg_node'][-1]['profiles'] == ['/mine.xml', None]


# replay.launch.py


@pytest.fixture
def replay(launch, tmp_path):
    """Play a bag that is there."""
    (tmp_path / 'drive').mkdir()

    def replay(**arguments: str) -> Outcome:
        arguments.setdefault('bag', str(tmp_path / 'drive'))
        return launch(file='replay.launch.py', **arguments)

    return replay


@pytest.fixture
def listening_node(prefix):
    """Let the node's stand-in subscribe to images."""
    write_executable(prefix / 'lib/nightseg_ros/night_seg_node', LISTENING_STAND_IN)


def test_replay_plays_once_the_node_listens_and_ends_with_the_bag(replay, listening_node, tmp_path):
    outcome = replay(rate='0.5', start_offset='2', namespace='car', max_image_age_ms='50')
    assert outcome.code == 0
    (player,) = outcome.starts['ros2']
    assert player['arguments'] == (
        f'bag play {tmp_path}/drive --clock --rate 0.5 --start-offset 2.0 --delay 1.0'.split()
    )
    assert player['node_listens']
    assert player['profiles'] == outcome.node['profiles']
    assert outcome.parameters['use_sim_time'] is True
    assert outcome.parameters['max_image_age_ms'] == 50
    assert outcome.remappings['__ns'] == '/car'


def test_replay_loops(replay, listening_node):
    assert replay(loop='true').starts['ros2'][0]['arguments'][-1] == '--loop'


def test_replay_fails_with_the_player(replay, listening_node, monkeypatch):
    monkeypatch.setenv('FAILS', 'ros2')
    outcome = replay()
    assert outcome.code == 1
    assert 'ros2 bag play ended with exit code 3' in outcome.log


def test_replay_fails_with_the_node(replay, monkeypatch):
    monkeypatch.setenv('FAILS', 'night_seg_node')
    outcome = replay()
    assert outcome.code == 1
    assert 'the node ended with exit code 3' in outcome.log
    assert 'ros2' not in outcome.starts


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'bag': '/nowhere'}, 'bag: there is no /nowhere'),
        ({'rate': '0'}, 'rate must be above 0, got 0'),
        ({'rate': 'fast'}, "rate must be a number, got 'fast'"),
        ({'rate': 'nan'}, "rate must be a number, got 'nan'"),
        ({'start_offset': '-1'}, 'start_offset must be 0 or more, got -1'),
        ({'cameras': '2nd'}, "cameras: '2nd' is not a camera name"),
    ],
)
def test_bad_arguments_of_replay_start_nothing(replay, arguments, message):
    outcome = replay(**arguments)
    assert outcome.code == 1
    assert message in outcome.log
    assert not outcome.starts


# What launch files and configuration say of the node


@pytest.fixture
def launch_file(prefix):
    """Return night_seg.launch.py as a module."""
    spec = importlib.util.spec_from_file_location(
        'launch_file', ROOT / 'launch/night_seg.launch.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_parameters_are_those_of_the_node(launch_file):
    from nightseg_ros.ros.parameters import DECLARATIONS

    declared = {d.name: d for d in DECLARATIONS}
    arguments = dict(launch_file.PARAMETERS)
    del arguments['use_sim_time']  # rclpy declares it
    for name, (kind, description) in arguments.items():
        assert type(declared[name].default) is kind
        for choice in declared[name].choices:
            assert choice in description


def test_pictures_shown_are_published_by_the_node(launch_file):
    from nightseg_ros.ros.masks_publisher import IMAGES

    published = {f'/night_seg/{topic.name}' for topic in IMAGES}
    layout = json.loads((ROOT / 'config/night_seg.foxglove.json').read_text())
    images = [panel['imageMode'] for panel in layout['configById'].values() if 'imageMode' in panel]
    shown = {image['imageTopic'] for image in images} - {launch_file.RVIZ_IMAGE_TOPIC}
    assert shown
    assert shown | {f'/night_seg/{topic}' for topic in launch_file.RVIZ_TOPICS} <= published


def test_foxglove_layout_shows_only_panels_that_it_configures():
    layout = json.loads((ROOT / 'config/night_seg.foxglove.json').read_text())

    def panels(part: dict | str) -> set[str]:
        if isinstance(part, str):
            return {part}
        return panels(part['first']) | panels(part['second'])

    assert panels(layout['layout']) == set(layout['configById'])
