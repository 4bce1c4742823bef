"""Draws the chart's Grafana dashboard without Grafana: its own panels, from its own queries, asked of a Prometheus.

    draw.py PROMETHEUS DASHBOARD.json OUT.png START END        (Unix seconds)

Needs matplotlib. `testbed/src/bin/dashboard.rs` makes the series and calls this.
"""

import datetime
import json
import sys
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

INK, FAINT, PAPER, PANEL = "#d8d9da", "#8e9094", "#111217", "#181b1f"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffb357"]
TONES = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}


def ask(prometheus, query, start, end):
    """The series of a query: a name made of the labels, and points."""
    query = query.replace("$__rate_interval", "5s").replace("$application", ".*")
    parameters = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": 1})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{parameters}") as answer:
        return json.load(answer)["data"]["result"]


def legend(template, labels):
    """A Grafana legend, filled in."""
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def tell(value, unit):
    """A value with its unit, short."""
    if unit == "s":
        if 0 < value < 1:
            return f"{value * 1000:.0f} ms"
        return f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} min"
    if unit == "bytes":
        return f"{value / 1024 / 1024:.0f} MiB"
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == int(value) else f"{value:.1f}"


def points(series):
    """Times and values; a NaN is a gap."""
    times = [datetime.datetime.fromtimestamp(t, datetime.timezone.utc) for t, _ in series["values"]]
    return times, [float(v) for _, v in series["values"]]


def draw_stat(axes, panel, found):
    """One number, in the colour of its threshold, over its course."""
    axes.set_xticks([])
    axes.set_yticks([])
    defaults = panel["fieldConfig"]["defaults"]
    times, values = points(found[0][1]) if found else ([], [0.0])
    peak = max(values)
    colour = INK
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or peak >= step["value"]:
            colour = TONES[step["color"]]
    axes.set_ylim(0, max(peak * 2.4, 1))
    if times:
        axes.fill_between(times, values, color=colour, alpha=0.18, linewidth=0)
        axes.plot(times, values, color=colour, linewidth=1)
    text = f"{tell(values[-1], defaults['unit'])}"
    axes.text(0.03, 0.72, text, transform=axes.transAxes, fontsize=17, color=colour, va="center", weight="bold")
    axes.text(0.97, 0.76, f"peak {tell(peak, defaults['unit'])}", transform=axes.transAxes, fontsize=8.5, color=FAINT,
              va="center", ha="right")


def draw_lines(axes, panel, found):
    """Lines or stacked areas."""
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    right = None
    base = None
    for at, (name, series, ref) in enumerate(found):
        colour = COLOURS[at % len(COLOURS)]
        times, values = points(series)
        if panel["title"] == "The operator itself" and ref == "B":
            right = right or axes.twinx()
            right.plot(times, values, color=colour, linewidth=1.2, label=name)
            continue
        if stacked:
            lookup = dict(zip(times, [0 if v != v else v for v in values]))
            base = base if base is not None else {}
            every = sorted(set(base) | set(lookup))
            low = [base.get(t, 0) for t in every]
            high = [base.get(t, 0) + lookup.get(t, 0) for t in every]
            axes.fill_between(every, low, high, color=colour, alpha=0.6, linewidth=0.8, label=name)
            base = dict(zip(every, high))
        else:
            style = (0, (4, 2)) if name.endswith("quota") else "solid"
            axes.plot(times, values, color=colour, linewidth=1.3, linestyle=style, label=name)
    axes.set_ylim(bottom=0)
    if axes.get_ylim()[1] <= 1 and unit == "short" and right is None:
        axes.set_ylim(top=2)
    axes.grid(color="#2c3235", linewidth=0.6)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tell(value, unit)))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=6))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    handles, labels = axes.get_legend_handles_labels()
    if right is not None:
        right.set_ylim(bottom=0, top=right.get_ylim()[1] * 1.3)
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tell(value, "bytes")))
        right.tick_params(colors=FAINT, labelsize=7.5, length=0)
        for spine in right.spines.values():
            spine.set_visible(False)
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    if labels:
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.01, -0.1), ncols=min(4, len(labels)), fontsize=7.5,
                    frameon=False, labelcolor=INK, handlelength=1.2, columnspacing=1.2)


def main():
    prometheus, dashboard, out, start, end = sys.argv[1:6]
    panels = json.load(open(dashboard, encoding="utf-8"))["panels"]
    figure = plt.figure(figsize=(13.5, 15.2), facecolor=PAPER)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    top, bottom, left, width = 0.966, 0.012, 0.006, 0.988
    unit = (top - bottom) / rows
    figure.text(0.012, 0.982, "roomrobot-operator", color=INK, fontsize=14, weight="bold", va="center")
    figure.text(0.988, 0.982, "the dashboard's own queries, drawn with matplotlib from a real drain", color=FAINT, fontsize=9,
                va="center", ha="right")
    for panel in panels:
        place = panel["gridPos"]
        x, w = left + place["x"] / 24 * width, place["w"] / 24 * width
        h, y = place["h"] * unit, top - (place["y"] + place["h"]) * unit
        figure.add_artist(plt.Rectangle((x + 0.002, y + 0.002), w - 0.004, h - 0.004, facecolor=PANEL, edgecolor="#2c3235",
                                        transform=figure.transFigure, linewidth=0.8))
        figure.text(x + 0.008, y + h - 0.0115, panel["title"], color=INK, fontsize=9.5, va="center", weight="bold")
        lines = panel["type"] == "timeseries"
        inner = [x + (0.048 if lines else 0.002), y + (0.043 if lines else 0.002), w - (0.062 if lines else 0.004),
                 h - (0.066 if lines else 0.026)]
        if panel["title"] == "The operator itself":
            inner[2] -= 0.03
        axes = figure.add_axes(inner, facecolor="none")
        axes.tick_params(colors=FAINT, labelsize=7.5, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        found = []
        for target in panel["targets"]:
            for series in ask(prometheus, target["expr"], start, end):
                name = legend(target["legendFormat"], series["metric"]) or panel["title"]
                found.append((name, series, target["refId"]) if lines else (name, series))
        (draw_lines if lines else draw_stat)(axes, panel, found)
        limits = [datetime.datetime.fromtimestamp(float(t), datetime.timezone.utc) for t in (start, end)]
        axes.set_xlim(*limits)
    figure.savefig(out, dpi=88, facecolor=PAPER)
    # Few colours: a palette makes the file a third of the size.
    Image.open(out).convert("RGB").quantize(96).save(out, optimize=True)


if __name__ == "__main__":
    main()
