"""The environment of ROS processes: a graph of one's own, and room for camera images."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import sys
import tempfile
from pathlib import Path
from typing import IO

from nightseg_ros.core.resources import find_resource

FAST_DDS_PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Where Fast DDS 2 (Humble, Jazzy) and 3 (Kilted) look for their profile."""

DOMAIN_IDS = range(1, 102)
"""Domain ids whose ports lie below Linux's ephemeral range."""

PROBED_PARTICIPANTS = 8

_claims: list[IO[str]] = []
"""Lock files of the domains that this process took."""


def isolate_ros() -> None:
    """Keep ROS on this machine and apart from other runs; call it before ``rclpy.init``.

    Sets this process's environment, and so its children's.
    """
    os.environ['ROS_DOMAIN_ID'] = str(free_domain_id())
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    # ROS from wheels finds its packages under the environment's prefix; a sourced ROS has said so.
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    use_shared_memory()


def use_shared_memory() -> None:
    """Give Fast DDS shared memory that holds camera images, unless a profile is set already.

    Without it a frame of a megabyte goes in fragments over UDP, and many get lost.
    """
    profile = find_resource('config', 'fastdds_shared_memory.xml')
    if profile is not None and not any(name in os.environ for name in FAST_DDS_PROFILES):
        os.environ.update(dict.fromkeys(FAST_DDS_PROFILES, str(profile)))


def free_domain_id() -> int:
    """Return a domain id that nobody on this machine uses, and keep it for this process's life.

    Raises:
        OSError: when all are taken.
    """
    for domain in random.sample(DOMAIN_IDS, len(DOMAIN_IDS)):
        if _claim(domain) and not _in_use(domain):
            return domain
    raise OSError('all ROS domain ids are in use on this machine')


def _claim(domain: int) -> bool:
    """Return whether no other process of ours, on its way to start ROS, has the domain."""
    path = Path(tempfile.gettempdir(), f'nightseg_ros_domain_{domain}.lock')
    try:
        file = path.open('a')
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, or another user's
        return False
    _claims.append(file)
    return True


def _in_use(domain: int) -> bool:
    """Return whether one of the first participants of a domain holds its port."""
    for participant in range(PROBED_PARTICIPANTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # RTPS 2.3, 9.6.1.1: 7400 + 250 * domain + 10 + 2 * participant.
                probe.bind(('127.0.0.1', 7410 + 250 * domain + 2 * participant))
            except OSError:
                return True
    return False
