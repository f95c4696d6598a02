"""Entry point: `trtune COMMAND ...`."""

from __future__ import annotations

import sys

STOPPED = 130


def main() -> None:
    """Run the command line and exit with its status; Ctrl-C is an end like any other, at whatever moment it comes."""
    try:
        from trtune.cli import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
