"""Imports point one way, and what drives imports no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    'nightseg_ros/core': (
        'rclpy', 'torch', 'models', 'training', 'nightseg_ros.ros', 'nightseg_ros.evaluation',
        'nightseg_ros.simulation',
    ),
    'nightseg_ros/simulation': (
        'rclpy', 'torch', 'models', 'training', 'nightseg_ros.ros', 'nightseg_ros.evaluation',
    ),
    'nightseg_ros/ros': ('torch', 'models', 'training', 'nightseg_ros.evaluation'),
    'nightseg_ros/evaluation': ('torch', 'models', 'training', 'nightseg_ros.ros'),
    'models': ('rclpy', 'training', 'nightseg_ros.ros', 'nightseg_ros.evaluation'),
    'training': ('rclpy', 'nightseg_ros.ros', 'nightseg_ros.evaluation'),
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or '')
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
    return names


def test_an_offline_evaluation_needs_no_ros() -> None:
    code = (
        "import sys; sys.modules['rclpy'] = sys.modules['sensor_msgs'] = None; "
        'import nightseg_ros.evaluation.evaluate_command, nightseg_ros.evaluation.bag_command'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize('folder', sorted(FORBIDDEN))
def test_imports_point_one_way(folder: str) -> None:
    files = list((ROOT / folder).rglob('*.py'))
    assert files
    for path in files:
        for name in imported(path):
            for forbidden in FORBIDDEN[folder]:
                inside = name == forbidden or name.startswith(f'{forbidden}.')
                assert not inside, f'{path.relative_to(ROOT)} imports {name}'
