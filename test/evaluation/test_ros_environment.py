from __future__ import annotations

import os
import socket

import pytest

from nightseg_ros.evaluation import ros_environment


@pytest.mark.parametrize('participant', [0, 1])
def test_a_domain_with_a_participant_is_passed_over(
    participant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = 87
    monkeypatch.setattr(ros_environment, 'DOMAIN_IDS', [domain])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(('127.0.0.1', 7410 + 250 * domain + 2 * participant))
        with pytest.raises(OSError, match='in use'):
            ros_environment.free_domain_id()


def test_nobody_gets_a_domain_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ros_environment.free_domain_id()
    monkeypatch.setattr(ros_environment, 'DOMAIN_IDS', [first])
    with pytest.raises(OSError, match='in use'):
        ros_environment.free_domain_id()


def test_isolation_keeps_ros_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        monkeypatch.setenv(name, '')
    ros_environment.isolate_ros()
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert int(os.environ['ROS_DOMAIN_ID']) in ros_environment.DOMAIN_IDS
