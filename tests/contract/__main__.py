"""A long run of the contract tests: ``python -m tests.contract [--examples N] [--postgres URL] [--only TEXT]``."""

import argparse
import functools
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.contract import targets
from tests.contract.fuzz import Target, fuzz, operations
from tests.running import on_postgres


def run(target: Target, only: str, examples: int) -> int:
    """Try all operations whose labels hold a text, tell what was found, and return how much."""
    found = 0
    for label in operations(target.document):
        if only in label:
            findings = fuzz(target, label, examples)
            print(f"{label}: {len(findings)}", file=sys.stderr, flush=True)
            for finding in findings[:3]:
                print(json.dumps(asdict(finding)), flush=True)
            found += len(findings)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("--examples", type=int, default=50, help="requests of each kind to each operation; default: 50")
    parser.add_argument("--postgres", metavar="URL", help="an empty database; default: SQLite")
    parser.add_argument("--only", default="", help="operations whose method and path hold this text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-contract-") as folder:
        database = on_postgres(options.postgres) if options.postgres else {}
        ask = functools.partial(run, only=options.only, examples=options.examples)
        found = targets.meanwhile(targets.control_api(Path(folder), **database), ask)
        found += targets.meanwhile(targets.router(), ask)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
