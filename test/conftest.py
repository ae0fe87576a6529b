"""What holds for all tests."""

import os

# A ROS graph of our own: tests that run beside each other, or beside a live system, must not hear each other.
# 1 to 100 is what every platform's ports allow.
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
