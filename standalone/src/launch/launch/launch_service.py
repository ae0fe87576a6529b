"""Runs a launch: one queue of events, a few threads for each process, everything decided in the main thread."""

import logging
import os
import pty
import queue
import signal
import socket
import subprocess
import sys
import threading
import time

from launch.description import LaunchContext
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessStarted

_OUTPUTS = ('screen', 'both', 'log', 'own_log', 'full')


class LaunchService:
    """Does the entities of descriptions until nothing runs any more, or until a Shutdown.

    `noninteractive`: no terminal sends its SIGINT to the processes as well, so this must.
    """

    def __init__(self, *, argv=None, noninteractive=False, debug=False):
        self.context = LaunchContext(argv=argv, service=self)
        self._noninteractive = noninteractive
        self._debug = debug
        self._logger = logging.getLogger('launch')
        self._events = queue.SimpleQueue()  # safe to use from a signal handler
        self._descriptions = []
        self._running = []
        self._started = 0
        self._return_code = 0

    def include_launch_description(self, launch_description):
        """Adds what is to be done."""
        self._descriptions.append(launch_description)

    def emit_event(self, event):
        """Queues an event; from any thread."""
        self._events.put(event)

    def shutdown(self):
        """Ends the launch; from any thread."""
        self.emit_event(Shutdown(reason='LaunchService.shutdown() called'))

    def run(self, *, shutdown_when_idle=True):
        """Runs it to its end. Returns 0, or 1 if the launch itself failed (a process that failed does not count)."""
        _log_to_screen_and_file(self._debug)
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
        before = [signal.signal(number, self._on_signal) for number in signals]
        try:
            self._attempt(self._do, self._descriptions)
            while True:
                self._escalate()
                if not self._running and self._events.empty():
                    if self.context.is_shutdown:
                        return self._return_code
                    if shutdown_when_idle:
                        self.emit_event(Shutdown(reason='idle'))
                try:
                    event = self._events.get(timeout=self._wait())
                except queue.Empty:
                    continue
                self._attempt(self._process, event)
        finally:
            for number, handler in zip(signals, before):
                signal.signal(number, handler)
            for process in self._running:
                process.popen.kill()

    def start(self, action, **details):
        """Starts the program of an ExecuteProcess."""
        self._started += 1
        details['name'] += f'-{self._started}'
        if action.on_exit is not None:
            self.context.register_event_handler(OnProcessExit(target_action=action, on_exit=action.on_exit))
        self._running.append(_Process(action, self.emit_event, **details))

    # --- inside ---

    def _on_signal(self, number, frame):
        self.emit_event(signal.Signals(number))  # no more than that: the main thread may be writing to the log

    def _interrupt(self, number):
        again = ' again, ignoring...' if self.context.is_shutdown else ''
        self._logger.warning(
            'user interrupted with ctrl-c (SIGINT)%s' if number == signal.SIGINT else 'terminated%s', again
        )
        by_terminal = number == signal.SIGINT and not self._noninteractive
        self.emit_event(Shutdown(reason=number.name, due_to_sigint=by_terminal))

    def _attempt(self, function, argument):
        try:
            function(argument)
        except Exception as error:
            self._logger.debug('traceback of the failed launch', exc_info=True)
            self._logger.error('Caught exception in launch (see debug for traceback): %s', error)
            self._return_code = 1
            self.emit_event(Shutdown(reason='exception'))

    def _do(self, entities):
        for entity in entities or []:
            if not hasattr(entity, 'visit'):
                raise TypeError(f'expected an action or a LaunchDescription, got {entity!r}')
            self._do(entity.visit(self.context))

    def _process(self, event):
        if isinstance(event, signal.Signals):
            self._interrupt(event)
        elif isinstance(event, Shutdown):
            if self.context.is_shutdown:
                return
            self.context.is_shutdown = True
        elif isinstance(event, ProcessExited):
            self._running = [process for process in self._running if process.action is not event.action]
        for handler in tuple(self.context.event_handlers):
            if handler.matches(event):
                self._do(handler.handle(event, self.context))
        if isinstance(event, Shutdown):
            for process in self._running:
                process.shut_down(send_sigint=not event.due_to_sigint)

    def _wait(self):
        """Returns the seconds until something is to be done without an event, or None."""
        times = [process.next_signal_at for process in self._running if process.next_signal_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _escalate(self):
        for process in self._running:
            if process.next_signal_at is not None and time.monotonic() >= process.next_signal_at:
                process.escalate()


class _Process:
    """A running program: its output goes line by line to the loggers, its end becomes an event."""

    def __init__(self, action, emit, *, cmd, name, cwd, env, output, emulate_tty, sigterm_timeout, sigkill_timeout):
        if output not in _OUTPUTS:
            raise ValueError(f'output={output!r}: not one of {_OUTPUTS}')
        self.action = action
        self.next_signal_at = None
        self._name = name
        self._emit = emit
        self._timeouts = {signal.SIGTERM: sigterm_timeout, signal.SIGKILL: sigkill_timeout}
        self._next_signal = None
        self._logger = logging.getLogger(name)

        ours, its = pty.openpty() if emulate_tty else (None, subprocess.PIPE)
        self.popen = subprocess.Popen(cmd, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=its, stderr=its)
        if emulate_tty:
            os.close(its)
            streams = {ours: True}
        else:
            streams = {
                self.popen.stdout.fileno(): output != 'log' and output != 'own_log',
                self.popen.stderr.fileno(): True,
            }
        self._logger.info('process started with pid [%d]', self.popen.pid)
        details = {'action': action, 'name': name, 'cmd': cmd, 'pid': self.popen.pid}
        emit(ProcessStarted(**details))
        readers = [threading.Thread(target=self._read, args=stream, daemon=True) for stream in streams.items()]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._watch, args=(readers, details), daemon=True).start()

    def _read(self, descriptor, on_screen):
        logger = logging.getLogger('launch.output.screen' if on_screen else 'launch.output.log')
        rest = b''
        while True:
            try:
                chunk = os.read(descriptor, 65536)
            except OSError:  # how a terminal tells its end
                chunk = b''
            *lines, rest = (rest + chunk).split(b'\n')
            if not chunk and rest:
                lines.append(rest)
            for line in lines:
                logger.info('[%s] %s', self._name, line.decode(errors='replace').rstrip('\r'))
            if not chunk:
                return

    def _watch(self, readers, details):
        returncode = self.popen.wait()
        for reader in readers:
            reader.join(timeout=1.0)  # a grandchild may keep the pipe open
        if returncode == 0:
            self._logger.info('process has finished cleanly [pid %d]', self.popen.pid)
        else:
            cmd = ' '.join(details['cmd'])
            self._logger.error("process has died [pid %d, exit code %d, cmd '%s'].", self.popen.pid, returncode, cmd)
        self._emit(ProcessExited(returncode=returncode, **details))

    def shut_down(self, *, send_sigint):
        """Begins the way SIGINT, SIGTERM, SIGKILL."""
        if send_sigint:
            self._send(signal.SIGINT)
        self._then(signal.SIGTERM)

    def escalate(self):
        """Goes on to the next, harder signal."""
        number, last = self._next_signal, 'SIGINT' if self._next_signal == signal.SIGTERM else 'SIGTERM'
        seconds = self._timeouts[number]
        self._logger.error(
            "process[%s] failed to terminate '%s' seconds after receiving '%s', escalating to '%s'",
            self._name,
            seconds,
            last,
            number.name,
        )
        self._send(number)
        if number == signal.SIGTERM:
            self._then(signal.SIGKILL)
        else:
            self.next_signal_at = None

    def _then(self, number):
        self._next_signal = number
        self.next_signal_at = time.monotonic() + self._timeouts[number]

    def _send(self, number):
        if self.popen.poll() is None:
            self._logger.info("sending signal '%s' to process[%s]", number.name, self._name)
            self.popen.send_signal(number)


class _Plain(logging.Formatter):
    """`[INFO] [name]: text`, and the lines of processes as they are."""

    def format(self, record):
        text = record.getMessage()
        if record.exc_info:
            text += '\n' + self.formatException(record.exc_info)
        return text if record.name.startswith('launch.output') else f'[{record.levelname}] [{record.name}]: {text}'


def _log_to_screen_and_file(debug):
    """Sends the log to stdout and to launch.log, in a new folder under ROS_LOG_DIR, ROS_HOME/log or ~/.ros/log."""
    root = os.environ.get('ROS_LOG_DIR') or os.path.join(
        os.environ.get('ROS_HOME') or os.path.expanduser('~/.ros'), 'log'
    )
    folder = os.path.join(root, f'{time.strftime("%Y-%m-%d-%H-%M-%S")}-{socket.gethostname()}-{os.getpid()}')
    os.makedirs(folder, exist_ok=True)
    screen = logging.StreamHandler(sys.stdout)
    screen.addFilter(lambda record: record.name != 'launch.output.log')
    file = logging.FileHandler(os.path.join(folder, 'launch.log'))
    logger = logging.getLogger()
    logger.handlers = [screen, file]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    for handler in logger.handlers:
        handler.setFormatter(_Plain())
    logging.getLogger('launch').info('All log files can be found below %s', folder)
