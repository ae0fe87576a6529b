"""The commands about what runs: node, topic, service, param."""

import argparse
import array
import contextlib
import importlib
import os
import statistics
import time

import rclpy
import yaml
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.duration import Duration
from rclpy.parameter import get_parameter_value, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

_DISCOVERY = 5.0  # seconds to wait for what is asked for by name
_LISTENING = 2.0  # seconds to listen before a list is printed: there is no daemon that has listened already
_SHOWN = 128  # entries of an array that echo prints
_VALUE_IS = (  # by rcl_interfaces/msg/ParameterType
    'Parameter not set',
    'Boolean value is',
    'Integer value is',
    'Double value is',
    'String value is',
    'Byte values are',
    'Boolean values are',
    'Integer values are',
    'Double values are',
    'String values are',
)


@contextlib.contextmanager
def _node():
    rclpy.init(args=[])
    node = rclpy.create_node(f'_ros2cli_{os.getpid()}', start_parameter_services=False, enable_rosout=False)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _wait(node, found, what, seconds=_DISCOVERY):
    """Returns what `found` returns once that is true; raises LookupError naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not (result := found()):
        if time.monotonic() > end:
            raise LookupError(what)
        rclpy.spin_once(node, timeout_sec=0.05)
    return result


def _listen(node):
    end = time.monotonic() + _LISTENING
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)


def _type(name):
    """Returns the class of 'package/msg/Name' (or srv)."""
    package, kind, name = name.split('/') if name.count('/') == 2 else (*name.split('/'), '')
    return getattr(importlib.import_module(f'{package}.{kind}'), name)


def _absolute(name):
    return name if name.startswith('/') else '/' + name


# --- lists ---


def _list(name, arguments, entries):
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('-t', '--show-types', action='store_true', help='print the types too')
    options = parser.parse_args(arguments)
    with _node() as node:
        _listen(node)
        for entry, types in sorted(entries(node)):
            print(f'{entry} [{", ".join(types)}]' if options.show_types else entry)
    return 0


def node_list(name, arguments):
    """Prints the nodes."""

    def nodes(node):
        return [
            (namespace.rstrip('/') + '/' + one, [])
            for one, namespace in node.get_node_names_and_namespaces()
            if not one.startswith('_')
        ]

    return _list(name, arguments, nodes)


def topic_list(name, arguments):
    """Prints the topics."""
    return _list(name, arguments, lambda node: node.get_topic_names_and_types())


def service_list(name, arguments):
    """Prints the services."""
    return _list(name, arguments, lambda node: node.get_service_names_and_types())


def topic_info(name, arguments):
    """Prints a topic's type and how many send and receive it."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('topic_name')
    topic = _absolute(parser.parse_args(arguments).topic_name)
    with _node() as node:
        _listen(node)
        types = dict(node.get_topic_names_and_types()).get(topic)
        if types is None:
            raise LookupError(f"Unknown topic '{topic}'")
        print(f'Type: {", ".join(types)}')
        print(f'Publisher count: {node.count_publishers(topic)}\nSubscription count: {node.count_subscribers(topic)}')
    return 0


# --- topics ---


def _subscribe(node, topic, type_name, callback):
    """Subscribes as the publishers send: best effort if one of them does, latched if all of them are."""
    if type_name is None:
        what = f'no publisher of {topic} within {_DISCOVERY:.0f} s'
        _wait(node, lambda: node.get_publishers_info_by_topic(topic), what)
    publishers = [info.qos_profile for info in node.get_publishers_info_by_topic(topic)]
    type_name = type_name or node.get_publishers_info_by_topic(topic)[0].topic_type
    best_effort = any(qos.reliability == ReliabilityPolicy.BEST_EFFORT for qos in publishers)
    latched = publishers and all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in publishers)
    qos = QoSProfile(
        depth=10,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
    return node.create_subscription(_type(type_name), topic, callback, qos)


def topic_echo(name, arguments):
    """Prints the messages of a topic."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('topic_name')
    parser.add_argument('message_type', nargs='?')
    parser.add_argument('--once', action='store_true', help='end after the first message')
    parser.add_argument('--field', help='print this field only, for example header.stamp')
    parser.add_argument('--full-length', action='store_true', help='print arrays whole')
    options = parser.parse_args(arguments)
    limit = None if options.full_length else _SHOWN
    printed = []

    def show(message):
        for field in options.field.split('.') if options.field else []:
            message = getattr(message, field)
        print(yaml.safe_dump(_plain(message, limit), sort_keys=False, default_flow_style=None), end='---\n', flush=True)
        printed.append(True)

    with _node() as node:
        subscription = _subscribe(node, _absolute(options.topic_name), options.message_type, show)
        while not (printed and options.once):
            rclpy.spin_once(node, timeout_sec=0.5)
        node.destroy_subscription(subscription)
    return 0


def _plain(value, limit):
    """Returns a message as dictionaries, lists and numbers; of arrays the first `limit` entries."""
    if hasattr(value, 'get_fields_and_field_types'):
        return {field: _plain(getattr(value, field), limit) for field in value.get_fields_and_field_types()}
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, bytes):
        return list(value)
    entries = value.tolist() if hasattr(value, 'tolist') and not isinstance(value, array.array) else list(value[:limit])
    more = limit is not None and len(value) > limit
    return [_plain(entry, limit) for entry in entries[:limit]] + (['...'] if more else [])


def topic_hz(name, arguments):
    """Prints, once a second, how often messages come."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('topic_name')
    parser.add_argument('-w', '--window', type=int, default=10000, help='messages to average over')
    options = parser.parse_args(arguments)
    times = []
    with _node() as node:
        topic = _absolute(options.topic_name)
        subscription = _subscribe(node, topic, None, lambda message: times.append(time.monotonic()))
        shown = time.monotonic()
        while True:
            rclpy.spin_once(node, timeout_sec=0.2)
            del times[: -options.window]
            if time.monotonic() - shown < 1.0:
                continue
            shown = time.monotonic()
            gaps = [later - earlier for earlier, later in zip(times, times[1:])]
            if gaps:
                spread = f'min: {min(gaps):.3f}s max: {max(gaps):.3f}s std dev: {statistics.pstdev(gaps):.5f}s'
                print(f'average rate: {len(gaps) / sum(gaps):.3f}\n\t{spread} window: {len(times)}', flush=True)
        node.destroy_subscription(subscription)


def topic_pub(name, arguments):
    """Sends one message, once somebody listens."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('topic_name')
    parser.add_argument('message_type')
    parser.add_argument('values', nargs='?', default='{}', help='the fields, as YAML')
    parser.add_argument('-1', '--once', action='store_true', required=True, help='the one way this stand-in sends')
    options = parser.parse_args(arguments)
    with _node() as node:
        message_type = _type(options.message_type)
        message = _filled(message_type(), yaml.safe_load(options.values))
        topic = _absolute(options.topic_name)
        publisher = node.create_publisher(message_type, topic, 10)
        _wait(node, publisher.get_subscription_count, f'nobody listens to {topic}')
        publisher.publish(message)
        print(f'publishing #1: {message}')
        publisher.wait_for_all_acked(Duration(seconds=2))
    return 0


def _filled(message, values):
    """Returns `message` with `values`, a dictionary, in its fields."""
    for field, value in (values or {}).items():
        if field not in message.get_fields_and_field_types():
            raise LookupError(f"{type(message).__name__} has no field '{field}'")
        old = getattr(message, field)
        if hasattr(old, 'get_fields_and_field_types'):
            _filled(old, value)
        else:
            setattr(message, field, float(value) if isinstance(old, float) else value)
    return message


# --- services and parameters ---


def _call(node, service_type, name, request):
    client = node.create_client(service_type, name)
    _wait(node, client.service_is_ready, f'no service {name} within {_DISCOVERY:.0f} s')
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=10.0)
    if not future.done():
        raise RuntimeError(f'{name} did not answer within 10 s')
    return future.result()


def service_call(name, arguments):
    """Calls a service and prints its answer."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('service_name')
    parser.add_argument('service_type')
    parser.add_argument('values', nargs='?', default='{}', help='the fields of the request, as YAML')
    options = parser.parse_args(arguments)
    service_type = _type(options.service_type)
    request = _filled(service_type.Request(), yaml.safe_load(options.values))
    with _node() as node:
        print(f'requester: making request: {request}\n', flush=True)
        print(f'response:\n{_call(node, service_type, _absolute(options.service_name), request)}')
    return 0


def param_list(name, arguments):
    """Prints the parameters of a node."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('node_name')
    target = _absolute(parser.parse_args(arguments).node_name)
    with _node() as node:
        for one in sorted(
            _call(node, ListParameters, f'{target}/list_parameters', ListParameters.Request()).result.names
        ):
            print(f'  {one}')
    return 0


def param_get(name, arguments):
    """Prints a parameter."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('node_name')
    parser.add_argument('parameter_name')
    options = parser.parse_args(arguments)
    request = GetParameters.Request(names=[options.parameter_name])
    with _node() as node:
        values = _call(node, GetParameters, f'{_absolute(options.node_name)}/get_parameters', request).values
        if not values or values[0].type == 0:
            raise LookupError(f'Parameter not set: {options.parameter_name}')
        print(f'{_VALUE_IS[values[0].type]}: {parameter_value_to_python(values[0])}')
    return 0


def param_set(name, arguments):
    """Sets a parameter."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument('node_name')
    parser.add_argument('parameter_name')
    parser.add_argument('value')
    options = parser.parse_args(arguments)
    parameter = Parameter(name=options.parameter_name, value=get_parameter_value(options.value))
    request = SetParameters.Request(parameters=[parameter])
    with _node() as node:
        result = _call(node, SetParameters, f'{_absolute(options.node_name)}/set_parameters', request).results[0]
    if not result.successful:
        raise RuntimeError(f'Setting parameter failed: {result.reason}')
    print('Set parameter successful')
    return 0
