"""`python -m cnnjax` is the command `cnnjax`."""

from cnnjax.cli import main

if __name__ == "__main__":
    main()
