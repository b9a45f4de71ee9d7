"""``python -m training card``: what a released model is, measured, for people to read.

The card lies beside the model: ``NAME.md`` with a picture ``NAME.png`` of where it fails. The
picture shows our masks only: frames and labels of the data sets may not be passed on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment
from jinja2 import StrictUndefined
from numpy.typing import NDArray
from rich.console import Console

from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.labels import colorize
from nightseg_ros.core.model import FP16
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import INT8
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import load_model
from nightseg_ros.core.model import variant
from nightseg_ros.core.segmenter import Segmenter
from training.check_night import NIGHT_SETS
from training.checkpoint import AVERAGED
from training.checkpoint import MORE_SIZES
from training.data.frames import DataError
from training.data.frames import list_images
from training.data.frames import read_rgb
from training.data.labelled_set import LabelledFrames
from training.evaluation.measure import MEASURING_SETS
from training.evaluation.measure import ROAD_SET
from training.evaluation.measure import Estimate
from training.evaluation.measure import SetMeasures
from training.evaluation.measure import measure_road
from training.evaluation.measure import measure_set
from training.evaluation.night_checks import confidence_by_exposure
from training.recipes import LABELLED

FAILURES = 3
"""Frames of each set in the picture: its worst."""

FEW = 1000
"""Pixels of a class in the truth of a set, below which its IoU says little."""

_TILE = (256, 160)
_WRONG, _RIGHT, _UNKNOWN = (235, 70, 60), (225, 232, 240), (120, 120, 120)
_EXPOSURE_COLORS = np.array([(225, 232, 240), (20, 30, 80), (255, 190, 40)], np.uint8)


def card(
    models: list[Path] = [  # noqa: B006 - jsonargparse shows it
        Path('models/released/student_512x1024.onnx'),
        Path('models/released/student_384x640.onnx'),
    ],
    data_root: Path = Path('../shared/data'),
    command: str = 'make train-release',
) -> None:
    """Measure released models with confidence intervals, and write their cards beside them.

    Args:
        models: FP32 files; their FP16 and INT8 files are found beside them.
        data_root: folder of the measuring sets.
        command: that made them.
    """
    for path in models:
        model = load_model(path)
        if model.precision != FP32:
            raise DataError(f'{path} is in {model.precision}: give the FP32 file')
        segmenter = Segmenter.load(path, 'openvino')
        sets = {name: measure_set(segmenter, data_root / name) for name in MEASURING_SETS}
        road = measure_road(segmenter, data_root / ROAD_SET)
        sure = {}
        for name in NIGHT_SETS:
            paths = list_images(data_root / name / 'images')[::6]
            sure[name] = confidence_by_exposure(segmenter, [read_rgb(p) for p in paths])
        picture = path.with_suffix('.png')
        failures = {
            name: [frame for frame, _ in measures.frames[:FAILURES]]
            for name, measures in sets.items()
        }
        _write_picture(segmenter, data_root, failures, picture)
        segmenter.close()
        text = render(model, sets, road, sure, failures, command, picture.name)
        path.with_suffix('.md').write_text(text, encoding='utf-8')
        Console().print(f'wrote {path.with_suffix(".md")} and {picture.name}', soft_wrap=True)


def render(
    model: Model,
    sets: dict[str, SetMeasures],
    road: Estimate,
    sure: dict[str, Any],
    failures: dict[str, list[str]],
    command: str,
    picture: str,
) -> str:
    """Return the card as Markdown."""
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    recipe = json.loads(model.card.get('recipe', '{}'))
    environment.filters |= {'estimate': _estimate, 'share': _share}
    return environment.from_string(_TEMPLATE).render(
        model=model,
        licence=model.card.get('licence', 'Its file names no licence.'),
        data=model.card.get('data', 'its file names none'),
        sets=sets,
        road=road,
        road_set=ROAD_SET,
        sure=sure,
        failures=failures,
        command=command,
        picture=picture,
        names=NAMES,
        few=FEW,
        stages=[_stage(config) for config in json.loads(model.card.get('training', '[]'))],
        averaged=recipe.get(AVERAGED, []),
        more_sizes=[f'{width}x{height}' for height, width in recipe.get(MORE_SIZES, [])],
        headings=list(LABELLED.values()),
        files=[_file(m) for m in (model, variant(model, FP16), variant(model, INT8)) if m],
        temperature=model.card.get('temperature', ''),
    )


def _file(model: Model) -> dict[str, Any]:
    """Return what a card tells of one file."""
    metrics = json.loads(model.card.get('metrics', '{}'))
    return {
        'name': model.path.name,
        'megabytes': f'{len(model.content) / 1e6:.1f}',
        'metrics': [_share(metrics.get(key, float('nan')), 3) for key in LABELLED],
        'sha256': model.sha256,
    }


def _stage(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a card tells of one stage of training."""
    data = config.get('data', {}).get('init_args', {})
    method = config.get('method', {}).get('init_args', {})
    backbone = method.get('net', {}).get('init_args', {}).get('variant', 'lite0').capitalize()
    return {
        'steps': config.get('steps'),
        'seed': config.get('seed'),
        'batch': data.get('batch_size'),
        'initial': config.get('initial')
        or f'ImageNet weights of EfficientNet-{backbone} (Apache 2.0)',
        'self_training': method.get('self_training') is not None,
    }


def _estimate(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f'{estimate.value:.3f}'
    low, high = estimate.interval
    return f'{estimate.value:.3f} [{low:.3f}, {high:.3f}]'


def _share(value: float, digits: int = 2) -> str:
    return '-' if np.isnan(value) else f'{value:.{digits}f}'


def _write_picture(
    segmenter: Segmenter, data_root: Path, failures: dict[str, list[str]], path: Path
) -> None:
    """Write prediction, errors and exposure of the worst frames, side by side."""
    rows = []
    for name, chosen in failures.items():
        frames = LabelledFrames(data_root / name, cache=False)
        index = {file.name: i for i, file in enumerate(frames.files)}
        for frame in chosen:
            image, truth = frames[index[frame]]
            masks = segmenter.segment_rgb(image)
            tiles = [colorize(masks.labels), _errors(masks.labels, truth)]
            if masks.exposure is not None:
                kinds = exposure_mask(masks.exposure, ExposureThresholds())
                tiles.append(_EXPOSURE_COLORS[kinds])
            rows.append(np.hstack([_tile(tile) for tile in tiles]))
    half = -(-len(rows) // 2)
    columns = [np.vstack(rows[:half]), np.vstack(rows[half:])]
    gap = columns[0].shape[0] - columns[1].shape[0]
    columns[1] = np.pad(columns[1], ((0, gap), (0, 0), (0, 0)))
    cv2.imwrite(str(path), cv2.cvtColor(np.hstack(columns), cv2.COLOR_RGB2BGR))


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = cv2.resize(image, _TILE, interpolation=cv2.INTER_NEAREST)
    return cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _errors(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shown = np.where((labels == truth)[..., None], _RIGHT, _WRONG).astype(np.uint8)
    shown[truth == UNLABELLED] = _UNKNOWN
    return shown


_TEMPLATE = """\
# {{ model.name }}

Night-time semantic segmentation on board, {{ model.width }}x{{ model.height }}: uint8 RGB in;
trainIds, confidence and exposure (V = max of R, G, B) out. Written by `python -m training card`.

{{ licence }}

It has seen a few hundred streets and makes the mistakes below. Nothing that can hurt people may
depend on it alone.

## How good

Computed by OpenVINO on two cores, with 95 % intervals by bootstrap over the frames. Labels of these
sets were used for measuring only.

| frames | | mIoU | calibration error |
|---|---|---|---|
{% for name, found in sets.items() %}
| {{ name }} | {{ found.miou.frames }} | {{ found.miou | estimate }} | {{ found.ece | estimate }} |
{% endfor %}
| {{ road_set }}, road only | {{ road.frames }} | {{ road | estimate }} | |

mIoU is the mean over the classes in the truth, from one confusion matrix: a class of a few pixels
weighs as much in it as the road. Two frames of `night_dev` are a sign, not a measurement.

| class {% for name in sets %}| {{ name }} {% endfor %}|
|---{% for name in sets %}|---{% endfor %}|
{% for class in names %}
{% set k = loop.index0 %}
| {{ class }} {% for found in sets.values() %}| {{ found.class_iou[k] | share }}\
{% if 0 < found.support[k] < few %} (of {{ found.support[k] }} px){% endif %} {% endfor %}|
{% endfor %}

'-' where no frame has the class; where all frames of a set together have fewer than {{ few }}
pixels of it, they are counted.

Mean confidence where frames are under-exposed, normal and over-exposed:
{% for name, c in sure.items() %}
{{ name }} {{ c.under | share }}, {{ c.normal | share }}, {{ c.over | share }};
{% endfor %}
temperature {{ temperature }}.

## Files

| file | MB {% for heading in headings %}| {{ heading }} {% endfor %}| SHA-256 |
|---|---{% for heading in headings %}|---{% endfor %}|---|
{% for file in files %}
| {{ file.name }} | {{ file.megabytes }} {% for value in file.metrics %}| {{ value }} {% endfor %}\
| `{{ file.sha256 }}` |
{% endfor %}

## Where it fails

![masks of the worst frames]({{ picture }})

The worst frames by mIoU: prediction, errors (red; grey has no truth) and exposure (dark blue
under-exposed, yellow over-exposed) side by side, without the camera frames and their labels, which
may not be passed on. From top to bottom, the left half first:
{% for name, chosen in failures.items() %}
{{ name }}: {{ chosen | join(', ') }}{{ ';' if not loop.last else '.' }}
{% endfor %}

## How it was made

`{{ command }}` trains, calibrates, exports and quantises it.

Data: {{ data }}.

| stage | steps | batch | seed | starts from | self-training |
|---|---|---|---|---|---|
{% for stage in stages %}
| {{ loop.index }} | {{ stage.steps }} | {{ stage.batch }} | {{ stage.seed }} \
| {{ stage.initial }} \
| {{ 'yes' if stage.self_training else 'no' }} |
{% endfor %}

{% if more_sizes %}
It looks at every frame at {{ model.width }}x{{ model.height }} and, inside the graph, at
{{ more_sizes | join(', ') }}, with the same weights; the mean of their probabilities decides.

{% endif %}
{% if averaged %}
Its weights are the mean of those of {{ averaged | join(' and ') }}.

{% endif %}
All options of every stage are in the file's metadata (`training`, JSON).
"""
