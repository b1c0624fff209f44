"""``lunar-llm sandbox``: the API on this machine."""

from __future__ import annotations

from importlib import import_module

import typer

from lunar_core.cli.app import app


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def sandbox(context: typer.Context) -> None:
    """Serve the API on this machine, without a key and without a bill (--help: its options)."""
    # By its name: what is ours stands on no sandbox, and this only starts one.
    import_module("lunar_core.sandbox.__main__").main(context.args, program="lunar-llm sandbox")
