"""Starts ROS nodes: a stand-in for the genuine launch_ros, as far as m2i_ros's launch files go."""

from launch.refusal import refuser
from launch_ros import actions, parameter_descriptions, substitutions

__all__ = ['actions', 'parameter_descriptions', 'substitutions']

__getattr__ = refuser(__name__)
