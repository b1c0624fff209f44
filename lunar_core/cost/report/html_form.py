"""A report as one HTML page, without script or external resources. Needs Jinja2 (extra ``report``)."""

from __future__ import annotations

from functools import cache
from typing import Any

from lunar_core.cost.report.contents import Contents
from lunar_core.cost.report.sections import facts_of, notes_of, sections_of
from lunar_core.errors import ConfigurationError
from lunar_core.extras import install_command
from lunar_core.version import __version__


def to_html(report: Contents) -> str:
    """The whole page. Raises ConfigurationError if Jinja2 is not installed."""
    try:
        return _render("page.html.j2", report)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"to_html needs {error.name}: {install_command('report')}"
        ) from None


def to_fragment(report: Contents) -> str | None:
    """The page as a part of another; None if Jinja2 is not installed."""
    try:
        return _render("report.html.j2", report)
    except ModuleNotFoundError:
        return None


def _render(name: str, report: Contents) -> str:
    text: str = (
        _templates()
        .get_template(name)
        .render(
            facts=facts_of(report),
            notes=notes_of(report),
            sections=sections_of(report),
            made_at=report.made_at,
            version=__version__,
        )
    )
    return text


@cache
def _templates() -> Any:  # Jinja2 is an extra
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("lunar_core.cost.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
