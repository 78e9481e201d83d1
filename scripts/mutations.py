"""How many wrong files does the verification catch? scripts/mutations/command.py does the work; --help says more."""

from mutations.command import main

if __name__ == "__main__":
    main()
