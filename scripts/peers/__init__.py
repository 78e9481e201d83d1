"""What other tools make of the same networks and files: scripts/peers.py."""
