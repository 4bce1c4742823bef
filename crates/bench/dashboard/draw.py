"""Draws the chart's Grafana dashboard without Grafana: its own panels, from its own queries, asked of a Prometheus.

    draw.py ask DASHBOARD.json SERIES.json PROMETHEUS START END MARKS    (Unix seconds; marks as [[time, text], ...])
    draw.py draw DASHBOARD.json SERIES.json OUT.png

Needs matplotlib, see requirements.txt. `crates/bench/src/bin/dashboard.rs` makes the series and calls this.
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
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from PIL import Image

INK, FAINT, PAPER, PANEL = "#d8d9da", "#8e9094", "#111217", "#181b1f"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#f2495c", "#b877d9", "#ff9830", "#8ab8ff", "#c8f2c2"]
TONES = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}


def ask(dashboard, out, prometheus, start, end, marks):
    """Asks a Prometheus every query of the dashboard, and keeps the answers."""
    answers = {}
    for query in (target["expr"] for panel in panels_of(dashboard) for target in panel["targets"]):
        text = query.replace("$__rate_interval", "5s").replace("$application", ".*")
        parameters = urllib.parse.urlencode({"query": text, "start": start, "end": end, "step": 1})
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{parameters}") as answer:
            answers[query] = json.load(answer)["data"]["result"]
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"start": int(start), "end": int(end), "marks": json.loads(marks), "answers": answers}, file)


def panels_of(dashboard):
    """The panels of a dashboard's file."""
    with open(dashboard, encoding="utf-8") as file:
        return json.load(file)["panels"]


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
        if value >= 120:
            return f"{value / 60:.3g} min"
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    if unit == "bytes":
        return f"{value / 1024 / 1024:.0f} MiB"
    number = f"{value:,.0f}".replace(",", "\u202f") if value >= 10 else f"{value:.3g}"
    return f"{number} /s" if unit in ("reqps", "ops") else number


def moment(seconds):
    """A time for matplotlib."""
    return datetime.datetime.fromtimestamp(float(seconds), datetime.timezone.utc)


def points(series):
    """Times and values; a NaN is a gap."""
    times = [moment(t) for t, _ in series["values"]]
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


def draw_lines(axes, panel, found, columns):
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
            if not any(value > 0 for value in values):
                continue
            lookup = dict(zip(times, [0 if v != v else v for v in values]))
            base = base if base is not None else {}
            every = sorted(set(base) | set(lookup))
            low = [base.get(t, 0) for t in every]
            high = [base.get(t, 0) + lookup.get(t, 0) for t in every]
            axes.fill_between(every, low, high, color=colour, alpha=0.7, linewidth=0, label=name)
            base = dict(zip(every, high))
        else:
            style = (0, (4, 2)) if name.endswith("quota") else "solid"
            axes.plot(times, values, color=colour, linewidth=1.3, linestyle=style, label=name)
    axes.set_ylim(bottom=0)
    if axes.get_ylim()[1] <= 1 and unit == "short" and right is None:
        axes.set_ylim(top=2)
    axes.grid(color="#2c3235", linewidth=0.6)
    top = axes.get_ylim()[1]
    whole_minutes = unit == "s" and top >= 150
    axes.yaxis.set_major_locator(MultipleLocator(60 * max(1, round(top / 300))) if whole_minutes else MaxNLocator(5))
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
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.01, -0.1), ncols=min(columns, len(labels)), fontsize=7.5,
                    frameon=False, labelcolor=INK, handlelength=1.2, columnspacing=1.2)


def draw(dashboard, series, out):
    """Draws the dashboard with the answers that were kept."""
    panels = panels_of(dashboard)
    with open(series, encoding="utf-8") as file:
        kept = json.load(file)
    figure = plt.figure(figsize=(13.5, 15.2), facecolor=PAPER)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    top, bottom, left, width = 0.957, 0.012, 0.006, 0.988
    unit = (top - bottom) / rows
    figure.text(0.012, 0.984, "roomrobot-operator", color=INK, fontsize=14, weight="bold", va="center")
    figure.text(0.988, 0.984, "the dashboard's own queries, drawn with matplotlib from a real drain", color=FAINT, fontsize=9,
                va="center", ha="right")
    told = "     ".join(f"{number}  {text}" for number, (_, text) in enumerate(kept["marks"], 1))
    figure.text(0.012, 0.9665, told, color=INK, fontsize=8.6, va="center")
    for panel in panels:
        place = panel["gridPos"]
        x, w = left + place["x"] / 24 * width, place["w"] / 24 * width
        h, y = place["h"] * unit, top - (place["y"] + place["h"]) * unit
        figure.add_artist(plt.Rectangle((x + 0.002, y + 0.002), w - 0.004, h - 0.004, facecolor=PANEL, edgecolor="#2c3235",
                                        transform=figure.transFigure, linewidth=0.8, zorder=-1))
        figure.text(x + 0.008, y + h - 0.0115, panel["title"], color=INK, fontsize=9.5, va="center", weight="bold")
        lines = panel["type"] == "timeseries"
        inner = [x + (0.048 if lines else 0.002), y + (0.043 if lines else 0.002), w - (0.062 if lines else 0.004),
                 h - (0.073 if lines else 0.026)]
        if panel["title"] == "The operator itself":
            inner[2] -= 0.03
        axes = figure.add_axes(inner, facecolor="none")
        axes.tick_params(colors=FAINT, labelsize=7.5, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        found = []
        for target in panel["targets"]:
            for series in kept["answers"][target["expr"]]:
                name = legend(target["legendFormat"], series["metric"]) or panel["title"]
                found.append((name, series, target["refId"]) if lines else (name, series))
        if lines:
            draw_lines(axes, panel, found, 4 if place["w"] >= 12 else 2)
        else:
            draw_stat(axes, panel, found)
        axes.set_xlim(moment(kept["start"]), moment(kept["end"]))
        for number, (at, _) in enumerate(kept["marks"] if lines else [], 1):
            axes.axvline(moment(at), color=INK, linewidth=0.7, linestyle=(0, (2, 3)), alpha=0.6)
            axes.annotate(str(number), (moment(at), 1), xycoords=("data", "axes fraction"), xytext=(0, 1.5),
                          textcoords="offset points", ha="center", va="bottom", fontsize=7.5, color=INK)
    figure.savefig(out, dpi=104, facecolor=PAPER)
    # A palette makes the file a third of the size.
    Image.open(out).convert("RGB").quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    {"ask": ask, "draw": draw}[sys.argv[1]](*sys.argv[2:])
