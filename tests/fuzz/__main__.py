"""`make fuzz`: as long as it is told to. Every option of `st run` works."""

import sys

from tests.fuzz.schemas import fuzz

DEFAULT = ("--max-examples", "200")


def main() -> int:
    """Fuzz; the exit code is that of schemathesis, or 1."""
    code, said = fuzz(sys.argv[1:] or DEFAULT, shown=True)
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
