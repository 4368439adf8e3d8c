"""``python -m fastlic`` is the ``fastlic`` command."""

from fastlic.cli.main import main

if __name__ == "__main__":
    main()
