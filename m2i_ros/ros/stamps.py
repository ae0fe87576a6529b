"""Stamps: builtin_interfaces/Time as numbers and as text."""


def seconds(stamp):
    """Return a stamp in seconds; the float resolves a microsecond, so it is for durations, not for identity."""
    return stamp.sec + 1e-9 * stamp.nanosec


def seconds_of(ns):
    """Return a stamp in ns as `seconds` returns it, to the last bit."""
    return ns // 10**9 + 1e-9 * (ns % 10**9)


def nanoseconds(stamp):
    """Return a stamp as an integer: exact, for comparison and identity."""
    return stamp.sec * 10**9 + stamp.nanosec


def decimal(stamp):
    """Return a stamp as exact text in seconds: '12.034500000'."""
    return f'{stamp.sec}.{stamp.nanosec:09d}'
