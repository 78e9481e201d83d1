"""Running statistics that deserve to be folded: measured again, adapted to other data, judged layer by layer."""
