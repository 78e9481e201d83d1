"""Faults of one rewrite in a channel that no input activates: networks, faults, and what fold-export says."""
