"""``python -m lunar_core.cli`` is ``lunar-llm``."""

from lunar_core.cli import main

main()
