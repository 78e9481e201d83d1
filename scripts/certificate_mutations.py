"""Wrong where no input looks: is it noticed? scripts/certificate_mutations/command.py does it; --help says more."""

import sys

from certificate_mutations.command import main

if __name__ == "__main__":
    sys.exit(main())
