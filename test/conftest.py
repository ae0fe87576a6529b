"""What holds for all tests."""

import os

# A ROS graph of our own: tests that run beside each other, or beside a live system, must not hear each other.
# 1 to 100 is what every platform's ports allow.
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))


def pytest_collection_modifyitems(items):
    """Train first: where OpenVINO (2026.4) has run, torch (2.13) may break while it trains in the same process.

    Last of these what itself runs OpenVINO when it has trained.
    """

    def order(item):
        if 'training' not in item.path.parts:
            return 2
        return 1 if item.path.name == 'test_crossvalidation.py' else 0

    items.sort(key=order)
