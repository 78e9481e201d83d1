"""What do other tools make of the same networks and files? scripts/peers/command.py does the work; --help says more."""

from peers.command import main

if __name__ == "__main__":
    main()
