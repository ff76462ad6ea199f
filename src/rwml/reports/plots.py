"""Drawings of the report: matplotlib panels as inline SVG that takes its colours from the page, and one PNG."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from rwml.core.records import atomic_file
from rwml.reports import escapes

P = ParamSpec("P")
R = TypeVar("R")

SMOOTHING = 9
"""Steps in the centred moving average that is drawn over the raw values."""


class Palette(NamedTuple):
    """Colours of one medium."""

    ink: str
    line: str
    strong: str
    faint: str


# The page knows its own colours only when it is shown (light or dark): placeholders that are replaced by CSS variables.
_PLACEHOLDERS = Palette("#010101", "#020202", "#030303", "#040404")
_VARIABLES = Palette("var(--ink-2)", "var(--line)", "var(--after)", "var(--before)")
SERIES = ("#1660b8", "#c4551d", "#1a7f4b", "#8a3fa0", "#b8860b", "#0f8b8d", "#b3372a", "#5b6270")
"""Colours of neighbouring lines, on white; the page has its own for light and dark."""
_SERIES_PLACEHOLDERS = tuple(f"#0501{number:02x}" for number in range(len(SERIES)))
_PAPER = Palette("#5b6270", "#dfe2e7", "#1660b8", "#9aa1ab")


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart. share: the y axis is in percent from 0. levels: (value, words), drawn as dashed lines."""

    title: str
    steps: Sequence[float]
    values: Sequence[float]
    levels: Sequence[tuple[float, str]] = ()
    share: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Band:
    """One line of a chart with a band around it: of an arm, over training seeds."""

    label: str
    steps: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True, slots=True)
class BandPanel:
    """A chart of several bands on the same axes. colours: number of a colour of `SERIES` for each band."""

    title: str
    bands: Sequence[Band]
    colours: Sequence[int]
    share: bool = field(default=False, kw_only=True)


def _as_plain_text(draw: Callable[P, R]) -> Callable[P, R]:
    """The drawing with every text as it is: a dollar sign in a label begins no formula."""

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return draw(*arguments, **options)

    return drawn


def band_of(label: str, seeds: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Band:
    """Mean, lowest and highest smoothed value over seeds, given as (steps, values), at the steps that all have."""
    smooth = [dict(zip(steps, moving_average(values), strict=True)) for steps, values in seeds]
    shared = [step for step in smooth[0] if all(step in curve for curve in smooth)]
    columns = [[curve[step] for curve in smooth] for step in shared]
    return Band(label, shared, [sum(c) / len(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns])


def moving_average(values: Sequence[float], window: int = SMOOTHING) -> list[float]:
    """Centred mean over at most `window` values; fewer at the ends."""
    half = window // 2
    spans = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(span) / len(span) for span in spans]


@_as_plain_text
def curve_svg(panel: Panel) -> str:
    """One panel as an `<svg>` element for the page."""
    figure = _figure(4.2, 2.3)
    _draw_curve(figure.add_subplot(), panel, _PLACEHOLDERS)
    return _page_svg(figure, panel.title)


@_as_plain_text
def histogram_svg(counts: Mapping[str, int], marked: Collection[str], title: str, x_label: str) -> str:
    """Bars with their counts; the `marked` ones in the accent colour."""
    figure = _figure(5.2, 1.9)
    axes = _clean(figure.add_subplot(), _PLACEHOLDERS)
    colours = [_PLACEHOLDERS.strong if name in marked else _PLACEHOLDERS.faint for name in counts]
    bars = axes.bar(range(len(counts)), list(counts.values()), color=colours, width=0.84)
    labels = [f"{n:,}" if n else "" for n in counts.values()]
    axes.bar_label(bars, labels, color=_PLACEHOLDERS.ink, fontsize=8, padding=2)
    axes.set_xticks(range(len(counts)), [escapes.label(name) for name in counts])
    axes.set_xlabel(x_label, color=_PLACEHOLDERS.ink, fontsize=9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.01, y=0.16)
    return _page_svg(figure, title)


@_as_plain_text
def bands_svg(panel: BandPanel) -> str:
    """One chart of bands as an `<svg>` element for the page; its legend is the page's."""
    figure = _figure(4.6, 2.6)
    _draw_bands(figure.add_subplot(), panel, _PLACEHOLDERS, _SERIES_PLACEHOLDERS)
    svg = _page_svg(figure, panel.title)
    for number, placeholder in enumerate(_SERIES_PLACEHOLDERS):
        svg = svg.replace(placeholder, f"var(--series-{number})")
    return svg


@_as_plain_text
def write_bands_png(path: Path, panels: Sequence[BandPanel]) -> None:
    """The charts in one picture on white, two to a row, each with its legend, for a README."""
    columns = min(2, len(panels))
    figure = _figure(5.6 * columns, 3.4 * -(-len(panels) // columns))
    figure.get_layout_engine().set(h_pad=0.14, w_pad=0.1)
    figure.patch.set(alpha=1.0, facecolor="white")
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(-(-len(panels) // columns), columns, number + 1)
        _draw_bands(axes, panel, _PAPER, SERIES)
        axes.set_title(escapes.label(panel.title), loc="left", fontsize=10.5, color="#15181d", pad=8)
        axes.legend(frameon=False, fontsize=8, labelcolor=_PAPER.ink)
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=160, metadata={"Software": None})


def _draw_bands(axes: Any, panel: BandPanel, colours: Palette, series: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    _clean(axes, colours)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", color=colours.line, linewidth=0.8)
    axes.set_axisbelow(True)
    for band, number in zip(panel.bands, panel.colours, strict=True):
        colour = series[number % len(series)]
        axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.16, linewidth=0)
        label = escapes.label(band.label)
        axes.plot(band.steps, band.middle, color=colour, linewidth=1.9, solid_capstyle="round", label=label)
    if panel.share:
        highest = max((value for band in panel.bands for value in band.high), default=0.0)
        axes.set_ylim(0.0, max(0.05, min(1.0, 1.15 * highest)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if highest > 0.04 else 1))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.015)


@_as_plain_text
def write_png(path: Path, panels: Sequence[Panel]) -> None:
    """The panels in one picture on white, three to a row, for a README."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(4.0 * columns, 2.5 * rows)
    figure.get_layout_engine().set(h_pad=0.14, w_pad=0.1)
    figure.patch.set(alpha=1.0, facecolor="white")
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        _draw_curve(axes, panel, _PAPER)
        axes.set_title(escapes.label(panel.title), loc="left", fontsize=10.5, color="#15181d", pad=8)
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=160, metadata={"Software": None})


def _figure(width: float, height: float) -> Any:
    # Without pyplot: no global state, no display, nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0.0)
    return figure


def _clean(axes: Any, colours: Palette) -> Any:
    axes.patch.set_alpha(0.0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours.line)
    axes.tick_params(colors=colours.ink, labelsize=9, length=0, pad=4)
    return axes


def _draw_curve(axes: Any, panel: Panel, colours: Palette) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    _clean(axes, colours)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", color=colours.line, linewidth=0.8)
    axes.set_axisbelow(True)
    if len(panel.values) >= SMOOTHING:
        axes.plot(panel.steps, panel.values, color=colours.faint, linewidth=0.9, alpha=0.7)
        smooth = moving_average(panel.values)
        axes.plot(panel.steps, smooth, color=colours.strong, linewidth=2.0, solid_capstyle="round")
    else:
        axes.plot(panel.steps, panel.values, color=colours.strong, linewidth=2.0, marker="o", markersize=3)
    for value, words in panel.levels:
        axes.axhline(value, color=colours.ink, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            words, (1.0, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9,
            color=colours.ink, xytext=(0, 2), textcoords="offset points",
        )  # fmt: skip
    if panel.share:
        highest = max([*panel.values, *(value for value, _ in panel.levels)])
        axes.set_ylim(0.0, max(0.05, min(1.0, 1.15 * highest)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if highest > 0.04 else 1))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.015)


def _page_svg(figure: Any, title: str) -> str:
    """SVG without namespaces, metadata, ids or fonts: the page supplies them."""
    import matplotlib

    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # The salt keeps the clip paths of two drawings on one page apart, and the bytes the same in every run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    view = re.search(r'viewBox="([^"]*)"', svg)
    assert view is not None, "matplotlib writes a view box"
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style\b.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = re.sub(r'font-family: [^;"]*;? ?', "", body)
    for placeholder, variable in zip(_PLACEHOLDERS, _VARIABLES, strict=True):
        body = body.replace(placeholder, variable)
    label = re.sub(r"[<>&\"]", "", title)
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{label}">{body.strip()}'


@_as_plain_text
def write_reward_png(
    path: Path,
    distances: Mapping[str, Sequence[float]],
    right: Collection[str],
    tau_d: float,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> None:
    """Distances by kind of pair as one row of points each, the `right` kinds in the accent colour, tau_d as a line. A
    second plot shows the ROC against each wrong kind (false and true positive rates)."""
    figure = _figure(11.0, 4.4)
    figure.patch.set(alpha=1.0, facecolor="white")
    left, beside = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for axes in (left, beside):
        _clean(axes, _PAPER)
        axes.grid(color=_PAPER.line, linewidth=0.8)
        axes.set_axisbelow(True)
    for place, (kind, values) in enumerate(distances.items()):
        colour = _PAPER.strong if kind in right else _PAPER.ink
        # Points of one row side by side instead of on top of each other; the order makes the picture repeatable.
        heights = [place + 0.6 * ((number * 0.618) % 1.0) - 0.3 for number in range(len(values))]
        left.scatter(values, heights, s=5, color=colour, alpha=0.45, linewidths=0)
    left.axvline(tau_d, color=_PAPER.ink, linewidth=0.9, linestyle=(0, (4, 3)))
    left.set_yticks(range(len(distances)), [escapes.label(kind) for kind in distances])
    left.invert_yaxis()
    left.set_xlim(-0.02, 1.2)
    left.set_xlabel(f"distance (dashed: tau_d = {tau_d:g})", color=_PAPER.ink, fontsize=9)
    for number, (kind, (false, true)) in enumerate(curves.items()):
        beside.plot(false, true, linewidth=1.6, color=f"C{number}", label=escapes.label(kind))
    beside.set_xlabel("wrong pairs that pass", color=_PAPER.ink, fontsize=9)
    beside.set_ylabel("harmless rewordings that pass", color=_PAPER.ink, fontsize=9)
    if curves:
        beside.legend(fontsize=8, frameon=False, loc="lower right")
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=130, metadata={"Software": None})
