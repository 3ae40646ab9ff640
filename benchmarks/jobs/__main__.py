"""Measures jobs on this machine: ``python -m benchmarks.jobs``. The last line is one JSON object."""

import argparse
import json

from benchmarks.jobs.crowd import crowd
from benchmarks.jobs.overhead import overhead
from benchmarks.jobs.provision import provision


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of a job beside ansible-playbook by hand")
    parser.add_argument("--hosts", default="1,2,4,8", help="numbers of lab hosts to provision; empty: none")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.hosts.split(",") if count]
    figures = overhead(arguments.rounds) | crowd()
    print(json.dumps(figures | {"provision_s": provision(counts) if counts else None}))


if __name__ == "__main__":
    main()
