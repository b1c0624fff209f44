"""``python -m lunar_core.cli`` is ``lunar``."""

from lunar_core.cli import main

main()
