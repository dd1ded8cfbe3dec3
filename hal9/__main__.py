"""`python -m hal9`: the same as the command `hal9`, whatever is on PATH."""

from hal9.cli.main import main

if __name__ == "__main__":
    main()
