"""A frame in, masks out: no ROS and no torch here."""
