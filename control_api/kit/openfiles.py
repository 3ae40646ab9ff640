"""How many files and connections a process may have open."""

import resource

# As many as the unit of an installed control plane allows.
WANTED = 1 << 16


def limit() -> int:
    """Return how many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow_many() -> None:
    """Raise the limit as far as it is ours to raise: clients and the nodes behind them soon use up the 1,024 of a shell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
