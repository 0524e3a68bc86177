"""`python -m orchestrator`, and the `orchestrator` command."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from orchestrator.cli import run  # noqa: PLC0415 - the package itself imports nothing

    sys.exit(run())


if __name__ == "__main__":
    main()
