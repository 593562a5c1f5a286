"""`python -m bise` is the `bise` command."""

from bise.cli import main

if __name__ == "__main__":
    main()
