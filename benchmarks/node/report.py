"""What the samples say: figures, tables and a chart."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.node.schedule import BACK_TO_BACK
from benchmarks.node.schedule import BARE
from benchmarks.node.schedule import COMMON
from benchmarks.node.schedule import FLOOR
from benchmarks.node.schedule import NODE
from benchmarks.node.schedule import WARM_UP
from benchmarks.node.schedule import Measurement
from benchmarks.node.schedule import Samples
from benchmarks.node.schedule import Size
from benchmarks.node.schedule import SizeSamples
from benchmarks.node.schedule import Throughput
from benchmarks.node.schedule import name_of

PERCENTILES = (50, 95, 99)

PACKAGES = ('numpy', 'onnx', 'onnxruntime', 'openvino', 'opencv-python-headless', 'ros-rclpy')

BY_ROUND = 'in parentheses: median of the rounds'

Figures = dict[str, Any]

GREY, BLUE, TEAL, ORANGE, TEXT, GRID = (
    '#b8c1cc', '#2f6fde', '#0f8f83', '#d9731a', '#3b4552', '#dde2e9',
)  # fmt: skip


def percentiles(values: Sequence[float]) -> Figures:
    """Return p50, p95, p99 and the greatest of some times, and how many there are."""
    if not len(values):
        return {**{f'p{p}': None for p in PERCENTILES}, 'max': None, 'frames': 0}
    computed = np.percentile(values, PERCENTILES)
    named = {f'p{p}': round(float(v), 3) for p, v in zip(PERCENTILES, computed, strict=True)}
    return {**named, 'max': round(float(max(values)), 3), 'frames': len(values)}


def ratio(numerator: float | None, *denominator: float | None) -> float | None:
    """Return one time over the sum of others; None where one of them is unknown."""
    if numerator is None or None in denominator:
        return None
    return round(numerator / sum(denominator), 4)


def size_figures(samples: SizeSamples) -> Figures:
    """Return the figures of one size."""
    of = {name: _figures(quantity) for name, quantity in samples.quantities.items()}
    bare, floor, node, common = (of[name] for name in (BARE, FLOOR, NODE, COMMON))
    rounds = [
        ratio(*(_median(samples.quantities[name].rounds[i]) for name in (NODE, BARE, FLOOR)))
        for i in range(len(samples.quantities[NODE].rounds))
    ]
    speedups = [
        ratio(*(_median(samples.quantities[name].rounds[i]) for name in (COMMON, NODE)))
        for i in range(len(samples.quantities[NODE].rounds))
    ]
    return {
        'ratio_to_floor_p50': ratio(node['p50'], bare['p50'], floor['p50']),
        'ratio_to_floor_p99': ratio(node['p99'], bare['p99'], floor['p99']),
        'ratio_of_p99_to_floor_p50': ratio(node['p99'], bare['p50'], floor['p50']),
        'ratio_to_floor_p50_median_of_rounds': _median(rounds),
        'ratio_to_floor_p50_rounds': rounds,
        'speedup_over_common_node': ratio(common['p50'], node['p50']),
        'speedup_over_common_node_median_of_rounds': _median(speedups),
        'ms': of,
        'listening_ms': {name: _figures(s) for name, s in samples.listening.items()},
        'stages_ms': stage_table(samples.stages),
        'floor_default_transport_ms': (
            _figures(samples.default_transport) if samples.default_transport else None
        ),
    }


def stage_table(values: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the node's diagnostics, ``infer_ms/p50: 21.30``, as stage -> percentile -> ms."""
    table: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        stage, found, percentile = key.rpartition('_ms/')
        if found:
            table.setdefault(stage, {})[percentile] = float(value)
    return table


def throughput_figures(situation: Throughput) -> Figures:
    """Return what came through and how old it was, by camera and of all.

    Ages are also told in multiples of the inference time under the same load: cameras, node and
    listener share the processor.
    """
    if situation.skipped:
        return {'skipped': situation.skipped}
    stages = stage_table(situation.stages)
    inference_ms = stages['infer']['p50']
    cameras = {
        name: _camera_figures(situation.sent[name], arrivals, inference_ms, situation.seconds)
        for name, arrivals in situation.arrivals.items()
    }
    ages = [age for arrivals in situation.arrivals.values() for age in ages_ms(arrivals)]
    received = sum(camera['received'] for camera in cameras.values())
    return {
        'asked_hz': round(situation.hz, 2),
        'seconds': situation.seconds,
        'sent': sum(situation.sent.values()),
        'received': received,
        'received_hz': round(received / situation.seconds, 2),
        'age_ms': percentiles(ages),
        'age_in_inference_times': _in_inference_times(ages, inference_ms),
        'age_when_published_in_inference_times': {
            name: ratio(value, inference_ms) for name, value in stages['age'].items()
        },
        'stages_ms': stages,
        'cameras': cameras,
    }


def ages_ms(arrivals: Sequence[Sequence[int]]) -> list[float]:
    """Return the age of each mask at its arrival, without those of the first frames."""
    return [(arrival - stamp) / 1e6 for stamp, arrival in arrivals[WARM_UP:]]


def _camera_figures(
    sent: int, arrivals: Sequence[Sequence[int]], inference_ms: float, seconds: float
) -> Figures:
    ages = ages_ms(arrivals)
    return {
        'sent': sent,
        'received': len(arrivals),
        'received_hz': round(len(arrivals) / seconds, 2),
        'age_ms': percentiles(ages),
        'age_in_inference_times': _in_inference_times(ages, inference_ms),
    }


def _in_inference_times(ages: Sequence[float], inference_ms: float) -> Figures:
    figures = percentiles(ages)
    return {name: ratio(figures[name], inference_ms) for name in ('p50', 'p99', 'max')}


def _figures(samples: Samples) -> Figures:
    return {**percentiles(samples.pooled), 'lost': samples.lost}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.median(known)), 4) if known else None


def all_figures(measurement: Measurement, headline: Size, settings: Figures) -> Figures:
    """Return everything that is written to the JSON file; the headline's ratios come first."""
    sizes = {name_of(size): size_figures(s) for size, s in measurement.sizes.items()}
    first = sizes[name_of(headline)]
    throughput = {
        situation.name: throughput_figures(situation) for situation in measurement.throughput
    }
    return {
        'ratio_to_floor_p50': first['ratio_to_floor_p50'],
        'ratio_to_floor_p99': first['ratio_to_floor_p99'],
        'ratio_of_p99_to_floor_p50': first['ratio_of_p99_to_floor_p50'],
        'speedup_over_common_node': first['speedup_over_common_node'],
        'overload_age_in_inference_times': {
            name: figures['age_in_inference_times']
            for name, figures in throughput.items()
            if 'skipped' not in figures
        },
        'headline_size': name_of(headline),
        'engine': measurement.engine,
        'machine': machine(),
        'settings': settings,
        'sizes': sizes,
        'throughput': throughput,
    }


def machine() -> Figures:
    """Return what the figures depend on."""
    return {
        'cpu': _cpu_name(),
        'cores': len(os.sched_getaffinity(0)),
        'kernel': platform.release(),
        'load_average_at_end': [round(load, 2) for load in os.getloadavg()],
        'rmw': os.environ.get('RMW_IMPLEMENTATION', ''),
        'fastdds_profile': os.environ.get('FASTRTPS_DEFAULT_PROFILES_FILE', ''),
        'versions': {'python': platform.python_version(), **_versions()},
    }


def _cpu_name() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


# Tables


def show(figures: Figures, console: Console) -> None:
    """Print a table for each question."""
    sizes = figures['sizes']
    console.print(_floor_table(sizes))
    console.print(_common_table(sizes))
    for question, what in (
        ('What does it cost the mask that somebody listens to more?', 'listening_ms'),
        ('Where does the time inside the node go, by its own diagnostics?', 'stages_ms'),
    ):
        console.print(_table_of(question, sizes, what))
    if any(of['floor_default_transport_ms'] for of in sizes.values()):
        console.print(_transport_table(sizes))
    if figures['throughput']:
        console.print(_throughput_table(figures))


def _floor_table(sizes: Figures) -> Table:
    table = _times_table(
        'What does the node add to inference and to the exchange of messages?', BY_ROUND
    )
    for size, of in sizes.items():
        ms = of['ms']
        _add_times(table, size, 'bare inference, paced', ms[BARE])
        _add_times(table, '', 'bare inference, back to back', ms[BACK_TO_BACK])
        _add_times(table, '', 'floor: image and mask sent', ms[FLOOR])
        _add_times(table, '', 'night_seg', ms[NODE])
        by_round = _number(of['ratio_to_floor_p50_median_of_rounds'])
        table.add_row(
            '', f'[bold]night_seg / (paced + floor)[/] ({by_round})',
            f'[bold]{_number(of["ratio_to_floor_p50"])}[/]', '',
            f'[bold]{_number(of["ratio_to_floor_p99"])}[/]',
            end_section=True,
        )  # fmt: skip
    return table


def _common_table(sizes: Figures) -> Table:
    table = _times_table('How much faster is it than the node that most people write?', BY_ROUND)
    for size, of in sizes.items():
        _add_times(table, size, 'the common node', of['ms'][COMMON])
        _add_times(table, '', 'night_seg', of['ms'][NODE])
        by_round = _number(of['speedup_over_common_node_median_of_rounds'])
        table.add_row(
            '', f'[bold]times faster[/] ({by_round})',
            f'[bold]{_number(of["speedup_over_common_node"])}[/]', end_section=True,
        )  # fmt: skip
    return table


def _table_of(question: str, sizes: Figures, what: str) -> Table:
    """Return all times below one key of each size."""
    table = _times_table(question)
    for size, of in sizes.items():
        for name, times in of[what].items():
            _add_times(table, size, name, times)
            size = ''
        table.add_section()
    return table


def _transport_table(sizes: Figures) -> Table:
    table = _times_table('What is the shared memory profile worth to the floor?')
    for size, of in sizes.items():
        for name, times in (
            ('with it', of['ms'][FLOOR]),
            ('Fast DDS as it comes', of['floor_default_transport_ms']),
        ):
            if times:
                lost = f'{times["lost"]} of {times["lost"] + times["frames"]} lost'
                _add_times(table, size, f'{name}, {lost}', times)
                size = ''
        table.add_section()
    return table


def _throughput_table(figures: Figures) -> Table:
    table = _table(
        f'What comes through of {figures["headline_size"]}, and how old is it?',
        'ms from stamp to arrival; × = in inference times under that load',
        'cameras', 'Hz', 'masks/sent', 'infer', 'p50', 'p99', 'max', 'p50 ×', 'p99 ×',
    )  # fmt: skip
    for name, of in figures['throughput'].items():
        if 'skipped' in of:
            table.add_row(name, 'skipped')
            table.caption = f'{name} skipped: {of["skipped"]}'
            continue
        rows = {name: of}
        if len(of['cameras']) > 1:
            rows |= {f'  {camera}': {**of, **own} for camera, own in of['cameras'].items()}
        for row, values in rows.items():
            age, times = values['age_ms'], values['age_in_inference_times']
            table.add_row(
                row, f'{values["asked_hz"]:.0f}', f'{values["received"]}/{values["sent"]}',
                _number(of['stages_ms']['infer']['p50'], 1),
                *(_number(age[p], 1) for p in ('p50', 'p99', 'max')),
                *(_number(times[p]) for p in ('p50', 'p99')),
            )  # fmt: skip
    return table


def _table(title: str, caption: str | None, first: str, *others: str) -> Table:
    table = Table(title=f'\n{title}', caption=caption, title_justify='left', title_style='bold')
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify='right', no_wrap=True)
    return table


def _times_table(title: str, caption: str | None = None) -> Table:
    table = _table(title, caption, 'size')
    table.add_column('ms', min_width=36)
    for percentile in PERCENTILES:
        table.add_column(f'p{percentile}', justify='right', min_width=6)
    return table


def _add_times(table: Table, size: str, what: str, times: Mapping[str, Any]) -> None:
    table.add_row(size, what, *(_number(times.get(f'p{p}'), 1) for p in PERCENTILES))


def _number(value: float | None, digits: int = 2) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


# Chart


def write_chart(figures: Figures, path: Path) -> None:
    """Draw what a mask takes at each size: floor and inference, our node, the common node."""
    sizes = list(figures['sizes'])
    figure = Figure(figsize=(8.2, 4.4), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ms = [figures['sizes'][size]['ms'] for size in sizes]
    width = 0.26
    at = np.arange(len(sizes))
    floor, bare = _column(ms, FLOOR), _column(ms, BARE)
    axes.bar(at - width, floor['p50'], width * 0.92, color=GREY, label='floor: image and mask sent')
    axes.bar(
        at - width, bare['p50'], width * 0.92, bottom=floor['p50'], color=TEAL,
        label='bare inference',
    )  # fmt: skip
    together = {p: floor[p] + bare[p] for p in ('p50', 'p99')}
    _whiskers(axes, at - width, together, [f'{value:.0f}' for value in together['p50']])
    for offset, name, color, label in (
        (0.0, NODE, BLUE, 'night_seg'),
        (width, COMMON, ORANGE, 'the node that most people write'),
    ):
        times = _column(ms, name)
        axes.bar(at + offset, times['p50'], width * 0.92, color=color, label=label)
        against = _column(ms, NODE)['p50'] if name == COMMON else together['p50']
        texts = [
            f'{value:.0f}\n({_number(ratio(value, other or None))}×)'
            for value, other in zip(times['p50'], against, strict=True)
        ]
        _whiskers(axes, at + offset, times, texts)
    _dress(axes, figures, sizes)
    figure.savefig(path)


def _column(ms: Sequence[Figures], name: str) -> dict[str, np.ndarray]:
    return {p: np.array([of[name][p] or 0.0 for of in ms]) for p in ('p50', 'p99')}


def _whiskers(
    axes: Axes, at: np.ndarray, times: Mapping[str, np.ndarray], texts: Sequence[str]
) -> None:
    up = np.maximum(times['p99'] - times['p50'], 0)
    axes.errorbar(
        at, times['p50'], yerr=[np.zeros_like(up), up], fmt='none', ecolor=TEXT, elinewidth=1.1,
        capsize=3,
    )  # fmt: skip
    for x, top, text in zip(at, times['p50'] + up, texts, strict=True):
        axes.annotate(
            text, (x, top), (0, 3), textcoords='offset points', ha='center', va='bottom',
            fontsize=8, color=TEXT, linespacing=1.1,
        )  # fmt: skip


def _dress(axes: Axes, figures: Figures, sizes: Sequence[str]) -> None:
    machine, engine = figures['machine'], figures['engine']
    axes.set_title(
        'From image published to mask received', loc='left', color=TEXT, fontweight='bold', pad=20
    )
    axes.text(
        0, 1.02,
        f'number: median (× the bar to its left), whisker to p99; {engine["model"]} on '
        f'{engine["backend"]}, {machine["cores"]} cores of {machine["cpu"]}',
        transform=axes.transAxes, fontsize=8, color=TEXT,
    )  # fmt: skip
    axes.set_xticks(np.arange(len(sizes)), [size.replace('x', ' × ') for size in sizes])
    axes.set_ylabel('ms', color=TEXT)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    axes.grid(axis='y', color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, length=0)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.spines['bottom'].set_color(GRID)
    axes.figure.legend(
        frameon=False, fontsize=8, labelcolor=TEXT, loc='outside lower center', ncols=4
    )
