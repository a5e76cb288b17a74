"""The `lepton` command; importing this costs nothing, the commands are imported when one is run."""


def main() -> None:
    """Run the command line of this process. Exits with its exit code."""
    from lepton_ai.cli.app import run
    run()
