"""What goes wrong with the lake and is somebody's to put right. Light to import."""


class LakeError(Exception):
    """The lake cannot be read or written. The message says where, why, and what to do."""


class NotImported(Exception):
    """Nothing of a file was imported. The message says why, with the bad lines."""


class QueryRefused(Exception):
    """A query cannot be run. The message says why."""
