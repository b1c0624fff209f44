"""``python -m lunar_core`` is ``lunar-llm``."""

from lunar_core.cli import main

main()
