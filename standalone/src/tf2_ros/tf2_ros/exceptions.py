"""What can go wrong with a transform. The genuine classes live in tf2_py; both are imported from tf2_ros."""


class TransformException(Exception):
    """Any failure to give a transform."""


class LookupException(TransformException):
    """A frame does not exist."""


class ConnectivityException(TransformException):
    """Both frames exist, but no chain of transforms joins them."""


class ExtrapolationException(TransformException):
    """The time asked for lies outside of what was received."""


class InvalidArgumentException(TransformException):
    """A frame's name or a transform's numbers are not usable."""


class TimeoutException(TransformException):
    """Nothing came within the time allowed."""
