"""Packaging: what colcon and pip get is complete and agrees with itself."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nightseg_ros

ROOT = Path(__file__).parents[1]
COMMANDS = {'build_engine', 'evaluate_bag', 'night_seg_node', 'night_seg_bag', 'night_seg_demo'}
# Distribution information as colcon reads it: from setup.py alone, every value a literal.
DESCRIBE = """
from distutils.core import run_setup
d = run_setup('setup.py', script_args=['--dry-run'], stop_after='config')
print([d.metadata.name, d.metadata.version, d.python_requires, d.entry_points])
"""


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    """Return a copy of what packaging reads: a build leaves files in the source folder."""
    pytest.importorskip('setuptools', reason='setuptools is not installed: it builds the package')
    folder = tmp_path_factory.mktemp('project')
    ignore = shutil.ignore_patterns('__pycache__')
    for name in ('config', 'launch', 'nightseg_ros', 'resource'):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ('LICENSE', 'README.md', 'package.xml', 'pyproject.toml', 'setup.cfg', 'setup.py'):
        shutil.copy(ROOT / name, folder)
    released = folder / 'models/released'
    released.mkdir(parents=True)
    (released / 'student_384x640.onnx').touch()
    return folder


def run_python(*arguments: str, cwd: Path) -> str:
    """Run Python in a folder; returns what it prints."""
    result = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope='module')
def wheel(project) -> zipfile.ZipFile:
    """Return the built wheel."""
    if not importlib.util.find_spec('setuptools.command.bdist_wheel'):
        pytest.importorskip('wheel', reason='setuptools before 70.1 needs wheel to build one')
    build = 'from setuptools import build_meta; print(build_meta.build_wheel("."))'
    name = run_python('-c', build, cwd=project).splitlines()[-1]
    with zipfile.ZipFile(project / name) as wheel:
        yield wheel


def test_package_xml():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert package.get('format') == '3'
    assert package.findtext('name') == 'nightseg_ros'
    assert package.findtext('license') == 'Apache-2.0'
    assert package.findtext('version') == nightseg_ros.__version__
    assert package.findtext('export/build_type') == 'ament_python'


def test_colcon_can_read_setup_py(project):
    line = run_python('-W', 'ignore', '-c', 'import setuptools\n' + DESCRIBE, cwd=project)
    name, version, python, entry_points = ast.literal_eval(line.splitlines()[-1])
    assert name.replace('-', '_') == 'nightseg_ros'
    assert version == nightseg_ros.__version__
    assert python == '>=3.10'
    assert {line.split(' = ')[0] for line in entry_points['console_scripts']} == COMMANDS


def test_wheel_holds_everything(wheel):
    data = f'nightseg_ros-{nightseg_ros.__version__}.data/data/share/'
    files = set(wheel.namelist())
    expected = {
        f'{data}ament_index/resource_index/packages/nightseg_ros',
        f'{data}nightseg_ros/package.xml',
        f'{data}nightseg_ros/models/student_384x640.onnx',
        *(f'{data}nightseg_ros/config/{path.name}' for path in (ROOT / 'config').iterdir()),
        *(f'{data}nightseg_ros/launch/{path.name}' for path in (ROOT / 'launch').glob('*.py')),
        *(
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / 'nightseg_ros').rglob('*')
            if path.is_file() and '__pycache__' not in path.parts
        ),
    }
    assert not expected - files


def test_wheel_holds_only_our_package(wheel):
    top = {name.split('/')[0] for name in wheel.namelist()}
    assert top == {
        'nightseg_ros',
        f'nightseg_ros-{nightseg_ros.__version__}.data',
        f'nightseg_ros-{nightseg_ros.__version__}.dist-info',
    }


def test_wheel_metadata(wheel):
    info = f'nightseg_ros-{nightseg_ros.__version__}.dist-info'
    metadata = wheel.read(f'{info}/METADATA').decode()
    assert f'Version: {nightseg_ros.__version__}\n' in metadata
    assert 'Requires-Python: >=3.10\n' in metadata
    lines = wheel.read(f'{info}/entry_points.txt').decode().splitlines()
    assert {line.split(' = ')[0] for line in lines if ' = ' in line} == COMMANDS
