"""The commands about packages: launch, run, pkg."""

import argparse
import os
import sys

from ament_index_python.packages import get_package_prefix, get_package_share_directory, get_packages_with_prefixes
from launch import LaunchService, get_launch_description_from_python_launch_file
from launch_ros.actions import find_executable


def launch(name, arguments):
    """Runs a launch file: of a package, or by its path."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('package_name', help='package, or path of a launch file')
    parser.add_argument(
        'launch_arguments', nargs='*', help='file name, if a package was given; then <name>:=<value> ...'
    )
    parser.add_argument(
        '-s', '--show-args', action='store_true', help='show arguments that may be given to the launch file'
    )
    parser.add_argument('-d', '--debug', action='store_true', help='show tracebacks')
    parser.add_argument('-n', '--noninteractive', action='store_true', default=not sys.stdin.isatty())
    options = parser.parse_intermixed_args(arguments)
    if os.path.isfile(options.package_name):
        path, given = options.package_name, options.launch_arguments
    elif options.launch_arguments:
        path, given = _launch_file(options.package_name, options.launch_arguments[0]), options.launch_arguments[1:]
    else:
        raise ValueError(
            f"'{options.package_name}' is not a file; and to launch from a package, its launch file is needed"
        )

    values = {}
    for argument in given:
        key, separator, value = argument.partition(':=')
        if not key or not separator or not value:
            raise ValueError(f"malformed launch argument '{argument}', expected format '<name>:=<value>'")
        values[key] = value

    description = get_launch_description_from_python_launch_file(path)
    if options.show_args:
        return _show(description.get_launch_arguments())
    service = LaunchService(argv=given, noninteractive=options.noninteractive, debug=options.debug)
    service.context.launch_configurations.update(values)
    service.include_launch_description(description)
    return service.run()


def _launch_file(package, file_name):
    share = get_package_share_directory(package)
    paths = [os.path.join(folder, file_name) for folder, _, files in os.walk(share) if file_name in files]
    if len(paths) != 1:
        problem = 'found more than once' if paths else 'not found'
        raise FileNotFoundError(
            f"file '{file_name}' was {problem} in the share directory of package '{package}': {share}"
        )
    return paths[0]


def _show(declared):
    print("Arguments (pass arguments as '<name>:=<value>'):")
    for argument in declared:
        print(f"\n    '{argument.name}':\n        {argument.description}")
        if argument.default_value is not None:
            print(f'        (default: {" + ".join(part.describe() for part in argument.default_value)})')
    if not declared:
        print('\n  No arguments.')
    return 0


def run(name, arguments):
    """Becomes an executable of a package."""
    if len(arguments) < 2 or arguments[0].startswith('-'):
        raise ValueError(f'usage: {name} package_name executable_name [argument ...]')
    path = find_executable(*arguments[:2])
    os.execv(path, [path, *arguments[2:]])


def executables(name, arguments):
    """Prints the executables of a package, or of all."""
    for package in arguments or sorted(get_packages_with_prefixes()):
        folder = os.path.join(get_package_prefix(package), 'lib', package)
        for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, file)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                print(package, file)
    return 0


def list_packages(name, arguments):
    """Prints the packages."""
    print('\n'.join(sorted(get_packages_with_prefixes())))
    return 0


def prefix(name, arguments):
    """Prints where a package is installed."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('package_name')
    parser.add_argument('--share', action='store_true', help='the share folder')
    options = parser.parse_args(arguments)
    print((get_package_share_directory if options.share else get_package_prefix)(options.package_name))
    return 0
