"""``python -m control_api.automation.supervisor JOB_ID --run-dir DIR --kill-s S``, the order on standard input."""

import argparse
import sys
from pathlib import Path

from control_api.automation.supervisor.guard import guard


def main() -> int:
    """Parse the arguments, none of which is secret, and guard a supervisor."""
    parser = argparse.ArgumentParser(prog="control_api.automation.supervisor")
    parser.add_argument("job_id", help="for whoever looks at the process list")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--kill-s", type=float, required=True)
    arguments = parser.parse_args()
    return guard(arguments.run_dir, kill_s=arguments.kill_s)


if __name__ == "__main__":
    sys.exit(main())
