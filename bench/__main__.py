"""`python -m bench [router|rest]`: all of them without a name. `python -m bench simulate --count N`: the search."""

import sys

from bench import rest, router, simulate

BENCHES = {"router": router.main, "rest": rest.main}


def main() -> int:
    """Run the benches named on the command line; 2 for an unknown one, 1 if a bound is missed."""
    if sys.argv[1:2] == ["simulate"]:
        return simulate.main(sys.argv[2:])
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench {', '.join(unknown)}: there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    return max(BENCHES[name]() for name in names)


sys.exit(main())
