"""A long run of the contract tests: ``python -m tests.contract [--minutes N] [--postgres URL] [--only TEXT] [--seed N]``."""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.contract import targets
from tests.contract.fuzz import SEED, Finding, Target, fuzz
from tests.running import on_postgres

EXAMPLES = 4
TOLD = 3


@dataclass
class Run:
    """Asks for so long, or once if that takes longer, and tells what it finds."""

    minutes: float
    only: str
    begin: int

    def __call__(self, target: Target) -> Counter[str]:
        """Return how much was found of each operation."""
        found: Counter[str] = Counter()
        for finding in self._findings(target):
            found[finding.operation] += 1
            if found[finding.operation] <= TOLD:
                print(json.dumps(asdict(finding)), flush=True)
        return found

    def _findings(self, target: Target) -> Iterator[Finding]:
        labels = [label for label in target.operations if self.only in label]
        end = time.monotonic() + self.minutes * 60
        rounds = 0
        while labels and (not rounds or time.monotonic() < end):
            for label in labels:
                yield from fuzz(target, label, EXAMPLES, begin=self.begin + rounds)
            rounds += 1
        print(f"{target.url}: {len(labels)} operations, {rounds} times", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="how long to ask the control API, and the router half as long")
    parser.add_argument("--postgres", metavar="URL", help="an empty database; default: SQLite")
    parser.add_argument("--only", default="", help="operations whose method and path hold this text")
    parser.add_argument("--seed", type=int, default=SEED, help="another one makes other requests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-contract-") as folder:
        database = on_postgres(options.postgres) if options.postgres else {}
        run = Run(options.minutes, options.only, options.seed)
        found = targets.meanwhile(targets.control_api(Path(folder), **database), run)
        found += targets.meanwhile(targets.router(), Run(options.minutes / 2, options.only, options.seed))
    for operation, number in sorted(found.items()):
        print(f"{operation}: {number}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
