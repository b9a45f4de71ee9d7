"""See at night: a ROS 2 node that publishes semantic and exposure masks."""

__version__ = '0.1.0'
