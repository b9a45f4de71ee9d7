from __future__ import annotations

import os
import socket

import pytest

from nightseg_ros.evaluation import ros_environment


def test_a_taken_domain_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    free = ros_environment.free_domain_id()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(('127.0.0.1', 7400 + 250 * free + 10))
        monkeypatch.setattr(ros_environment, 'DOMAIN_IDS', range(free, free + 1))
        with pytest.raises(OSError, match='in use'):
            ros_environment.free_domain_id()
    assert ros_environment.free_domain_id() == free


def test_isolation_keeps_ros_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        monkeypatch.setenv(name, '')
    ros_environment.isolate_ros()
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert int(os.environ['ROS_DOMAIN_ID']) in ros_environment.DOMAIN_IDS
