"""Where packages lie."""

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.refusal import refuser
from launch.substitutions import Substitution, normalize_to_list_of_substitutions, perform_substitutions

__getattr__ = refuser(__name__)


class FindPackagePrefix(Substitution):
    """The folder that a package is installed in."""

    _find = staticmethod(get_package_prefix)

    def __init__(self, package):
        self.package = normalize_to_list_of_substitutions(package)

    def perform(self, context):
        return self._find(perform_substitutions(context, self.package))

    def describe(self):
        return f'{type(self).__name__}(pkg={" + ".join(part.describe() for part in self.package)})'


class FindPackageShare(FindPackagePrefix):
    """The share folder of a package."""

    _find = staticmethod(get_package_share_directory)
