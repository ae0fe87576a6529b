"""The genuine place of the functions on substitutions."""

from launch.refusal import refuser
from launch.substitutions import normalize_to_list_of_substitutions, perform_substitutions

__all__ = ['normalize_to_list_of_substitutions', 'perform_substitutions']

__getattr__ = refuser(__name__)
