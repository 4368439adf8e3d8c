"""The ``fastlic`` command: arguments and text in and out; everything else is the library's."""
