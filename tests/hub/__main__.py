"""Run the local hub as a process of its own."""

import argparse
import signal
from pathlib import Path

from tests.hub import Faults, Hub


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("root", type=Path, help="directory with <namespace>/<name>/<files>")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=18200, help="0 chooses a free one")
    parser.add_argument("--rate", type=float, default=0, help="bytes per second of each answer; 0: no limit")
    parser.add_argument("--redirect", action="store_true", help="send readers to a CDN on another host name")
    parser.add_argument("--token", default="hf_test", help="needed for repositories named private-… or gated-…")
    parser.add_argument("--log", type=Path, help="gets one JSON line for each request")
    options = parser.parse_args()
    hub = Hub(
        options.root,
        host=options.host,
        port=options.port,
        token=options.token,
        faults=Faults(rate_bps=options.rate, redirect=options.redirect),
        log=options.log,
    )
    hub.start()
    print(f"hub {hub.url}", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    hub.stop()


if __name__ == "__main__":
    # Blocked in all threads, so that only sigwait takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
