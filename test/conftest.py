"""What holds for all tests."""

import os

# A ROS graph of our own: tests that run beside each other, or beside a live system, must not hear each other.
# 1 to 100 is what every platform's ports allow.
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
# Where OpenVINO (2026.4) and a training by torch (2.13) share a process, that may break: test_training_apart.py runs
# each file of test/training in a process of its own. By hand: M2I_TRAINING_TESTS=1 pytest test/training/FILE.
collect_ignore = [] if os.environ.get('M2I_TRAINING_TESTS') else ['training']
