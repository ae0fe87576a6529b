"""From a vessel mask to the model's pose, and whether it is believed."""

from m2i_ros.registration.result import Registration, State
from m2i_ros.registration.settings import RegistrationSettings
from m2i_ros.registration.tracker import Registrar

__all__ = ['Registrar', 'Registration', 'RegistrationSettings', 'State']
