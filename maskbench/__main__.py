"""``python -m maskbench`` is the ``maskbench`` command."""

from maskbench.cli import main

if __name__ == "__main__":
    main()
