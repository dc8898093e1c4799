"""What is raised where the module as saved must run."""


class NotPackedError(Exception):
    """A module cannot be packed here. The message says why, for the log."""
