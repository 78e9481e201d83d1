"""How many BatchNorms does each tool leave? scripts/survey/command.py does the work; --help says more."""

from survey.command import main

if __name__ == "__main__":
    main()
