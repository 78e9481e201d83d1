"""Running statistics that deserve to be folded: measured anew, adapted to other data, judged layer by layer."""
