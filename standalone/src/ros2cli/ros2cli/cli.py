"""Finds the function that a command line asks for."""

import os
import sys

from ros2cli import graph, packages

_COMMANDS = {
    ('launch',): packages.launch,
    ('run',): packages.run,
    ('pkg', 'executables'): packages.executables,
    ('pkg', 'list'): packages.list_packages,
    ('pkg', 'prefix'): packages.prefix,
    ('node', 'list'): graph.node_list,
    ('topic', 'list'): graph.topic_list,
    ('topic', 'info'): graph.topic_info,
    ('topic', 'echo'): graph.topic_echo,
    ('topic', 'hz'): graph.topic_hz,
    ('topic', 'pub'): graph.topic_pub,
    ('service', 'list'): graph.service_list,
    ('service', 'call'): graph.service_call,
    ('param', 'list'): graph.param_list,
    ('param', 'get'): graph.param_get,
    ('param', 'set'): graph.param_set,
}


def main():
    """Runs `ros2 ...`; returns its exit code."""
    words = sys.argv[1:]
    for length in (1, 2):
        command = _COMMANDS.get(tuple(words[:length]))
        if command:
            return _run(command, 'ros2 ' + ' '.join(words[:length]), words[length:])
    known = ', '.join(' '.join(words) for words in _COMMANDS)
    if not words or words[0] in ('-h', '--help'):
        print(f'usage: ros2 COMMAND ...\n\ncommands of this stand-in: {known}')
        return 0
    print(f'ros2 {" ".join(words[:2])} is not in this stand-in ({known}): install ROS 2 for it', file=sys.stderr)
    return 1


def _run(command, name, arguments):
    try:
        return command(name, arguments)
    except KeyboardInterrupt:
        return 2  # SIGINT, as the genuine ros2 ends
    except BrokenPipeError:  # `ros2 topic echo ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (LookupError, OSError, RuntimeError, ValueError, ImportError) as error:
        print(error.args[0] if isinstance(error, KeyError) and error.args else error, file=sys.stderr)
        return 1
