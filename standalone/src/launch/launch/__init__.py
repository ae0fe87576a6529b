"""Describes and runs processes: a stand-in for the genuine launch, as far as m2i_ros's launch files go."""

from launch import actions, conditions, event_handlers, events, substitutions
from launch.description import Action, LaunchContext, LaunchDescription
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch.launch_service import LaunchService
from launch.refusal import refuser
from launch.substitutions import Substitution

__all__ = [
    'Action',
    'LaunchContext',
    'LaunchDescription',
    'LaunchService',
    'Substitution',
    'actions',
    'conditions',
    'event_handlers',
    'events',
    'get_launch_description_from_python_launch_file',
    'substitutions',
]

__getattr__ = refuser(__name__)
