"""Entry point: `trtune COMMAND ...`."""

from __future__ import annotations

import io
import os
import sys

STOPPED = 130


def main() -> None:
    """Run the command line and exit with its status; Ctrl-C is an end like any other, at whatever moment it comes."""
    _fill_missing_streams()
    _print_anything()
    try:
        from trtune.cli import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(STOPPED)


def _fill_missing_streams() -> None:
    """Give a program that was started without one of its streams (`>&-`) the void in its place.

    Otherwise the next file opened, a session, gets that number, and what is printed lands in it or fails.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _print_anything() -> None:
    """A terminal that lacks a character, or the name of a file that is no text, ends nothing: it is printed as it can be."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf8 = "utf" in stream.encoding.lower()
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


if __name__ == "__main__":
    main()
