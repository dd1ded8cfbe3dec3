"""`python -m bench [NAME ...]`: all figures without a name. `python -m bench simulate --count N`: the search.

`python -m bench invariant --rounds N --seed S`: the counter invariant on the real stack, with kills and freezes.
"""

import sys

from bench import client, invariant, latency, memory, rest, route, router, simulate, takeover

BENCHES = {
    "router": router.main,
    "latency": latency.main,
    "route": route.main,
    "takeover": takeover.main,
    "rest": rest.main,
    "client": client.main,
    "memory": memory.main,
}
SEARCHES = {"simulate": simulate.main, "invariant": invariant.main}
"""Not a figure of the README: as long as asked, with options of their own."""


def main() -> int:
    """Run the benches named on the command line; 2 for an unknown one, 1 if a bound is missed."""
    names = sys.argv[1:] or list(BENCHES)
    if names[0] in SEARCHES:
        return SEARCHES[names[0]](names[1:])
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench {', '.join(unknown)}: there are {', '.join([*BENCHES, *SEARCHES])}", file=sys.stderr)
        return 2
    return max(BENCHES[name]() for name in names)


sys.exit(main())
