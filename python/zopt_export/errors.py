"""What ends an export with one line to the user."""


class ExportError(Exception):
    """The message names the model's part and the values."""
