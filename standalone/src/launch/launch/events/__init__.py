"""What happens while a launch runs."""

from launch.events import process
from launch.events.shutdown import Shutdown
from launch.refusal import refuser

__all__ = ['Shutdown', 'process']

__getattr__ = refuser(__name__)
