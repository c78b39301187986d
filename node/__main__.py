"""The command `truc`, also as `python -m node`. Everything heavy is imported inside the commands."""

from __future__ import annotations

from node.cli.root import truc


def main() -> None:
    """Run the command and end the process with its exit code."""
    truc(prog_name="truc")


if __name__ == "__main__":
    main()
