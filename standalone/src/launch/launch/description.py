"""What a launch consists of, and what it knows while it runs."""

import os

from launch.refusal import refuse_arguments


class Action:
    """Something to do, if `condition` holds."""

    def __init__(self, *, condition=None, **unknown):
        refuse_arguments(self, unknown)
        self.condition = condition

    def visit(self, context):
        """Does it, unless the condition says no; returns the entities to do next, or None."""
        if self.condition is None or self.condition.evaluate(context):
            return self.execute(context)
        return None

    def execute(self, context):
        """Does it; returns the entities to do next, or None."""
        raise NotImplementedError


class LaunchDescription:
    """A list of actions and descriptions, done one after the other."""

    def __init__(self, initial_entities=None):
        self.entities = list(initial_entities or [])

    def add_action(self, action):
        """Appends an action."""
        self.entities.append(action)

    def visit(self, context):
        """Returns the entities to do next."""
        return self.entities

    def get_launch_arguments(self):
        """Returns the DeclareLaunchArgument actions that can be seen without launching, each name once."""
        from launch.actions import DeclareLaunchArgument

        found = {}
        for entity in self.entities:
            if isinstance(entity, LaunchDescription):
                found.update({argument.name: argument for argument in entity.get_launch_arguments()})
            elif isinstance(entity, DeclareLaunchArgument):
                found.setdefault(entity.name, entity)
        return list(found.values())


class LaunchContext:
    """What the actions of a running launch share."""

    def __init__(self, *, argv=None, service=None):
        self.argv = list(argv or [])
        self.launch_configurations = {}
        self.environment = os.environ
        self.event_handlers = []
        self.is_shutdown = False
        self.service = service

    def perform_substitution(self, substitution):
        """Returns the text of a substitution."""
        return substitution.perform(self)

    def register_event_handler(self, event_handler):
        """Adds a handler; the newest is asked first."""
        self.event_handlers.insert(0, event_handler)

    def emit_event_sync(self, event):
        """Queues an event."""
        self.service.emit_event(event)
