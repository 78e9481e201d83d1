"""What is said about BatchNorm, measured. scripts/claims/command.py does the work; --help says more."""

from claims.command import main

if __name__ == "__main__":
    main()
