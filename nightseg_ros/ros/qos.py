"""Quality of service: the profiles of all topics, and what DDS says when two do not fit."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from rclpy.qos import DurabilityPolicy
from rclpy.qos import HistoryPolicy
from rclpy.qos import QoSPolicyKind
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy

try:
    from rclpy.event_handler import PublisherEventCallbacks
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks
    from rclpy.qos_event import SubscriptionEventCallbacks


def _profile(
    reliability: ReliabilityPolicy, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability, durability=durability
    )


SENSOR_DATA = _profile(ReliabilityPolicy.BEST_EFFORT)
"""Of what comes from cameras: the newest frame only, never one sent again late."""

MASK = _profile(ReliabilityPolicy.RELIABLE)
"""Of masks; serves best-effort subscribers too."""

PICTURE = _profile(ReliabilityPolicy.BEST_EFFORT)
"""Of pictures for people."""

LATCHED = _profile(ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
"""Of what never changes: subscribers that come later get it too."""

DIAGNOSTICS_DEPTH = 10


@dataclass
class QosEvents:
    """What DDS reported: peers whose QoS does not fit ours, and messages lost on the way.

    Thread-safe. Without it a mismatch is silence: nothing arrives and nobody says why.
    """

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _mismatches: dict[str, str] = field(default_factory=dict)
    _lost: Counter[str] = field(default_factory=Counter)

    def publisher_callbacks(self, topic: str) -> PublisherEventCallbacks:
        """Return what makes a publisher report here."""

        def incompatible(event: Any) -> None:
            self._note(topic, 'subscriber', event)

        return PublisherEventCallbacks(incompatible_qos=incompatible)

    def subscription_callbacks(self, topic: str) -> SubscriptionEventCallbacks:
        """Return what makes a subscription report here."""

        def incompatible(event: Any) -> None:
            self._note(topic, 'publisher', event)

        def lost(event: Any) -> None:
            with self._lock:
                self._lost[topic] += event.total_count_change

        return SubscriptionEventCallbacks(incompatible_qos=incompatible, message_lost=lost)

    def _note(self, topic: str, peer: str, event: Any) -> None:
        policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        with self._lock:
            self._mismatches[topic] = (
                f'{event.total_count} {peer}(s) with incompatible QoS, last: {policy}; no messages '
                'flow between them and this node'
            )

    def mismatches(self) -> dict[str, str]:
        """Return what does not fit, by topic."""
        with self._lock:
            return dict(self._mismatches)

    def lost(self) -> dict[str, int]:
        """Return how many messages were lost on the way, by topic."""
        with self._lock:
            return dict(self._lost)

    def reset(self) -> None:
        """Count losses anew. Mismatches stay: DDS tells of a peer only when it appears."""
        with self._lock:
            self._lost.clear()
