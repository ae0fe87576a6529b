"""What a launch can do."""

import logging
import os

from launch import events
from launch.description import Action
from launch.refusal import refuser
from launch.substitutions import Substitution, normalize_to_list_of_substitutions, perform_substitutions

__getattr__ = refuser(__name__)

_DEFAULT_TIMEOUT = 5.0  # seconds from SIGINT to SIGTERM, and from there to SIGKILL


class DeclareLaunchArgument(Action):
    """Declares what can be given as name:=value. It must be without `default_value`; of `choices` it must be one."""

    def __init__(self, name, *, default_value=None, description=None, choices=None, **kwargs):
        super().__init__(**kwargs)
        if choices is not None and not choices:
            raise RuntimeError('Provided choices arg is empty. Use None to ignore the choice list.')
        if choices and isinstance(default_value, str) and default_value not in choices:
            raise RuntimeError(f'Provided default_value "{default_value}" is not in provided choices "{choices}".')
        self.name = name
        self.default_value = None if default_value is None else normalize_to_list_of_substitutions(default_value)
        self.choices = choices
        if description is None:
            self.description = 'no description given' if choices is None else f'One of: {choices}'
        elif choices is None:
            self.description = description
        else:
            self.description = f'{description}{"" if description.endswith(".") else "."} Valid choices are: {choices}'

    def execute(self, context):
        values = context.launch_configurations
        if self.name not in values:
            if self.default_value is None:
                raise RuntimeError(f'Required launch argument "{self.name}" was not provided.')
            values[self.name] = perform_substitutions(context, self.default_value)
        if self.choices is not None and values[self.name] not in self.choices:
            raise RuntimeError(
                f'Argument "{self.name}" provided value "{values[self.name]}" is not valid. '
                f'Valid options are: {self.choices}'
            )


class SetEnvironmentVariable(Action):
    """Sets an environment variable for the processes started from here on."""

    def __init__(self, name, value, **kwargs):
        super().__init__(**kwargs)
        self.name = normalize_to_list_of_substitutions(name)
        self.value = normalize_to_list_of_substitutions(value)

    def execute(self, context):
        os.environ[perform_substitutions(context, self.name)] = perform_substitutions(context, self.value)


class LogInfo(Action):
    """Prints a line."""

    def __init__(self, *, msg, **kwargs):
        super().__init__(**kwargs)
        self.msg = normalize_to_list_of_substitutions(msg)

    def execute(self, context):
        logging.getLogger('launch.user').info('%s', perform_substitutions(context, self.msg))


class OpaqueFunction(Action):
    """Calls function(context, *args, **kwargs), and does the list of entities that it returns, if any."""

    def __init__(self, *, function, args=None, kwargs=None, **left_over):
        super().__init__(**left_over)
        self._call = function, args or (), kwargs or {}

    def execute(self, context):
        function, args, kwargs = self._call
        return function(context, *args, **kwargs)


class RegisterEventHandler(Action):
    """Makes a handler listen from here on."""

    def __init__(self, event_handler, **kwargs):
        super().__init__(**kwargs)
        self.event_handler = event_handler

    def execute(self, context):
        context.register_event_handler(self.event_handler)


class EmitEvent(Action):
    """Makes something happen."""

    def __init__(self, *, event, **kwargs):
        super().__init__(**kwargs)
        self.event = event

    def execute(self, context):
        context.emit_event_sync(self.event)


class Shutdown(EmitEvent):
    """Ends the launch."""

    def __init__(self, *, reason='reason not given', **kwargs):
        super().__init__(event=events.Shutdown(reason=reason), **kwargs)


class ExecuteProcess(Action):
    """Starts a program. `output`: 'screen' or 'both' show all it prints, 'log' shows stderr; the log file has all."""

    def __init__(
        self,
        *,
        cmd,
        name=None,
        cwd=None,
        env=None,
        additional_env=None,
        output='log',
        on_exit=None,
        emulate_tty=False,
        sigterm_timeout=None,
        sigkill_timeout=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.cmd = [normalize_to_list_of_substitutions(word) for word in cmd]
        self.name, self.cwd = (
            None if text is None else normalize_to_list_of_substitutions(text) for text in (name, cwd)
        )
        self.env, self.additional_env = env, additional_env
        self.output = normalize_to_list_of_substitutions(output)
        self.on_exit = on_exit
        self.emulate_tty = emulate_tty
        self.sigterm_timeout, self.sigkill_timeout = sigterm_timeout, sigkill_timeout

    def execute(self, context):
        if not context.is_shutdown:
            context.service.start(self, **self.details(context))

    def details(self, context):
        """Returns all that is needed to start the program, substitutions performed."""

        def text(subject):
            return (
                None if subject is None else perform_substitutions(context, normalize_to_list_of_substitutions(subject))
            )

        def variables(some):
            return {text(name): text(value) for name, value in (some or {}).items()}

        def timeout(name, own):
            return float(text(own) if own is not None else context.launch_configurations.get(name, _DEFAULT_TIMEOUT))

        cmd = [text(word) for word in self.cmd]
        tty = self.emulate_tty
        if isinstance(tty, (str, Substitution)):
            tty = text(tty).lower() in ('true', '1')
        return {
            'cmd': cmd,
            'name': text(self.name) or os.path.basename(cmd[0]),
            'cwd': text(self.cwd),
            'env': {**(os.environ if self.env is None else variables(self.env)), **variables(self.additional_env)},
            'output': text(self.output),
            'emulate_tty': tty,
            'sigterm_timeout': timeout('sigterm_timeout', self.sigterm_timeout),
            'sigkill_timeout': timeout('sigkill_timeout', self.sigkill_timeout),
        }
