"""The ros2 command: a stand-in for ros2cli and its parts launch, run, topic, service, param, node, pkg."""
