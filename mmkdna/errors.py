"""What a user gave is wrong, as a sentence that says what to do."""


class BadInput(ValueError):
    """A file, an argument or a config that cannot be used.

    The tools print its message and nothing else; its traceback would only
    show where it was noticed.
    """
