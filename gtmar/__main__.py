"""``python -m gtmar`` is the command ``gtmar``."""

from gtmar.cli import main

if __name__ == "__main__":
    main()
