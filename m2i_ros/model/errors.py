"""What is raised where a file gives no vessel model."""


class ModelError(ValueError):
    """A file that gives no vessel model; the message names the file, what is wrong and what to do."""
