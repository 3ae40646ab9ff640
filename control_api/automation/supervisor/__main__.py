"""``python -m control_api.automation.supervisor 00000000-…``: the fork server of a worker, the channel on standard input."""

import argparse
import os
import socket

from control_api.automation.supervisor.forkserver import serve


def main() -> None:
    """Take the channel from standard input and serve."""
    parser = argparse.ArgumentParser(prog="control_api.automation.supervisor")
    parser.add_argument("job_id", help="in a run: its job, for whoever looks at the process list")
    parser.parse_args()
    channel = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    serve(socket.socket(fileno=channel))


if __name__ == "__main__":
    main()
