"""The command, from its first moment on: Ctrl-C and SIGTERM end it in a line, also while it is being imported."""

from __future__ import annotations

import os
import sys

from pcsim.interrupts import exit_code, take_signals


def main() -> None:
    """Run the command line."""
    take_signals()
    try:
        from pcsim.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.stderr.write("ended at once\n")
        _end()
    except SystemExit as ending:
        # what reads the arguments takes Ctrl-C for an exit of its own, and says nothing
        silent = isinstance(getattr(ending.__context__, "__cause__", None), KeyboardInterrupt)
        if silent:
            sys.stderr.write("ended at once\n")
        tracked = "multiprocessing.resource_tracker" in sys.modules  # which must be told of an end
        if silent or (ending.code == exit_code() and not tracked):
            _end()
        raise


def _end() -> None:
    """Exit for good: Python would end itself by SIGINT after a Ctrl-C that struck while a class was being made."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code())


if __name__ == "__main__":
    main()
