"""What the rooms that run networks share: OpenVINO's core, one a process."""

from functools import cache


@cache
def openvino_core():
    """Return this process's `openvino.Core`; ImportError without OpenVINO.

    There is to be one, and it stays: each that is made gives its thread another stack for signal handlers, and takes
    that away when it goes. Of two that go in the order they came, the second leaves the stack that the first has freed
    (OpenVINO 2026.4), and the next signal, such as a child process that ends, kills the process or overwrites what
    lies there by then.
    """
    import openvino

    return openvino.Core()
