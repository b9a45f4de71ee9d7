"""``python -m training quantize``: FP16 and INT8 files of a released model, measured beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Literal
from typing import NamedTuple

import onnx
from onnxruntime.quantization.calibrate import TensorsData
from rich.console import Console
from rich.table import Table

from nightseg_ros.core.backends import Backend
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import Started
from nightseg_ros.core.backends import load_backend_class
from nightseg_ros.core.backends.openvino import computes_bfloat16
from nightseg_ros.core.model import BF16
from nightseg_ros.core.model import FP16
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import INT8
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.core.self_check import load_reference
from training.evaluation.measure import measure
from training.quantization.comparison import Agreement
from training.quantization.comparison import Masks
from training.quantization.comparison import agreement
from training.quantization.comparison import backend_masks
from training.quantization.comparison import masks_of
from training.quantization.comparison import time_interleaved
from training.quantization.fp16 import to_fp16
from training.quantization.graph import QuantizationError
from training.quantization.graph import convolutions
from training.quantization.graph import folded
from training.quantization.int8 import calibrate
from training.quantization.int8 import largest_activation
from training.quantization.int8 import to_int8
from training.quantization.night_frames import NightFrames
from training.quantization.night_frames import load_night_frames
from training.quantization.sensitivity import choose_kept
from training.quantization.sensitivity import rank_layers
from training.quantization.sensitivity import short_name
from training.quantization.sensitivity import write_ranking
from training.reference import write_reference

REFERENCE_RUNTIME = 'onnxruntime'
"""Whose FP32 masks all others are compared with: it computes in FP32 on every processor."""

RUNTIMES = {FP16: (REFERENCE_RUNTIME,), INT8: (REFERENCE_RUNTIME, 'openvino')}

JUDGED = ('miou/camvid_day_val', 'miou/camvid_dusk_dev')
"""Metrics that may not fall by more than ``max_loss``: those of sets with dozens of frames."""

Precision = Literal['fp16', 'int8']


class Variant(NamedTuple):
    """A quantised model, and how it was made.

    Attributes:
        proto: the model.
        recipe: for its card.
    """

    proto: onnx.ModelProto
    recipe: dict[str, Any]


class Measured(NamedTuple):
    """What one precision is in one runtime.

    Attributes:
        metrics: of :func:`training.evaluation.measure.measure`.
        agreement: with FP32 on held-out night frames.
    """

    metrics: dict[str, float]
    agreement: Agreement


def quantize(
    model: Path = Path('models/released/student_384x640.onnx'),
    precisions: tuple[Precision, ...] = ('fp16', 'int8'),
    data_root: Path = Path('../shared/data'),
    night: tuple[str, ...] = ('campus_night', 'roadscene_night'),
    calibration_frames: int = 48,
    methods: tuple[str, ...] = ('minmax', 'percentile_99.99', 'percentile_99.999'),
    target_agreement: float = 0.985,
    min_agreement: float = 0.97,
    max_loss: float = 0.01,
    float_weights: bool = False,
    rounds: int = 50,
    output: Path = Path('build/quantize'),
) -> None:
    """Make the FP16 and INT8 files of a released model, and measure them beside it.

    They are written beside the model, all or none of them: when one loses more than allowed in ONNX
    Runtime, what was there before stays. Where another runtime computes it otherwise, a warning
    says so.

    Args:
        model: an FP32 file of ``python -m training export``.
        precisions: of the files to make.
        data_root: folder of the data sets.
        night: folders under it whose night frames calibrate INT8, choose its layers and judge both;
            never those that measure.
        calibration_frames: how many frames calibrate.
        methods: calibration methods for INT8, of which the best on tuning frames is taken: minmax,
            entropy, percentile_99.99.
        target_agreement: share of labels of tuning frames that INT8 must leave as they are; the
            worst layers stay in FP32 until it is reached.
        min_agreement: the same on held-out night frames; a file below it is refused.
        max_loss: of mIoU, by day and at dusk; a file that loses more is refused.
        float_weights: leave the weights of the INT8 file in FP32 with Q/DQ pairs, for TensorRT 8.
        rounds: of timing.
        output: folder of report.json, sensitivity.json and sensitivity.png.

    Raises:
        ModelError: the model is missing or corrupt.
        QuantizationError: a file loses more than allowed, or the model is not FP32.
        DataError: frames are missing.
    """
    console = Console()
    source = load_model(model)
    if source.precision != FP32:
        raise QuantizationError(f'{model} is in {source.precision} already: give the FP32 model')
    root = Path(data_root)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    frames = load_night_frames(
        [root / name / 'images' for name in night],
        source.height,
        source.width,
        calibration_frames,
        tuning=16,
        held_out=40,
    )
    proto = onnx.load_model_from_string(source.content)
    expected = masks_of(proto, frames.held_out)
    about = {
        'calibration': {'frames': len(frames.calibration), 'folders': night},
        'max_loss': max_loss,
        'min_agreement': min_agreement,
    }
    measured: dict[tuple[str, str], Measured] = {}
    for precision, runtime in _without_a_file():
        console.print(f'measuring {precision} in {runtime}')
        measured[precision, runtime] = _measure(source, runtime, root, frames, expected, precision)
    baseline = measured[FP32, REFERENCE_RUNTIME].metrics
    with tempfile.TemporaryDirectory(dir=source.path.parent, prefix='.quantize-') as folder:
        drafts = []
        for precision in precisions:
            if precision == FP16:
                variant = _make_fp16(proto, frames)
            else:
                variant = _make_int8(
                    folded(proto), frames, methods, target_agreement, float_weights, output
                )
            draft = Path(folder) / f'{source.name}_{precision}.onnx'
            _save(variant.proto, {**source.card, 'precision': precision}, draft)
            for runtime in RUNTIMES[precision]:
                console.print(f'measuring {precision} in {runtime}')
                found = _measure(load_model(draft), runtime, root, frames, expected)
                try:
                    refuse_losses(
                        f'{precision} in {runtime}', found, baseline, max_loss, min_agreement
                    )
                except QuantizationError as error:
                    # Another runtime's arithmetic is not the file's: self-checks are there for it.
                    if runtime == REFERENCE_RUNTIME:
                        raise
                    console.print(f'warning: not fit for {runtime} on this processor: {error}')
                measured[precision, runtime] = found
            card = make_card(source, precision, {**variant.recipe, **about}, measured)
            _save(variant.proto, card, draft)
            load_model(draft)
            drafts.append(draft)
        times = _time(source, drafts, frames, rounds)
        for draft in drafts:
            draft.replace(source.path.parent / draft.name)
    _keep_reference(source)
    _report(source, measured, times, output, console)


def _make_fp16(proto: onnx.ModelProto, frames: NightFrames) -> Variant:
    ranges = calibrate(folded(proto), frames.calibration, 'minmax')
    recipe = {
        'method': 'every tensor in FP16, which ends at 65504',
        'largest_activation': round(largest_activation(ranges), 1),
    }
    return Variant(to_fp16(proto), recipe)


def _make_int8(
    proto: onnx.ModelProto,
    frames: NightFrames,
    methods: Sequence[str],
    target: float,
    float_weights: bool,
    output: Path,
) -> Variant:
    """Calibrate, keep the worst layers in FP32, and write the ranking of the layers."""
    console = Console()
    expected = masks_of(proto, frames.tuning)
    compared: dict[str, Agreement] = {}
    ranges: dict[str, TensorsData] = {}
    for method in methods:
        ranges[method] = calibrate(proto, frames.calibration, method)
        found = masks_of(to_int8(proto, ranges[method]), frames.tuning)
        compared[method] = agreement(found, expected)
        console.print(f'{method}: {compared[method].labels:.2%} of the labels stay')
    best = max(compared, key=lambda method: compared[method].labels)
    ranking = rank_layers(proto, ranges[best], frames.tuning, expected)
    tried = choose_kept(proto, ranges[best], ranking, frames.tuning, expected, target)
    write_ranking(ranking, tried, output)
    kept = tried[-1].kept
    names = ', '.join(short_name(name) for name in kept) or 'none'
    console.print(f'layers that stay in FP32: {names} ({tried[-1].agreement.labels:.2%} stay)')
    recipe = {
        'method': best,
        'methods_compared': {name: found.labels for name, found in compared.items()},
        'target_agreement': target,
        'kept_in_fp32': list(kept),
        'convolutions': len(convolutions(proto)),
        'weights': 'FP32 with Q/DQ' if float_weights else 'INT8 with DQ',
    }
    return Variant(to_int8(proto, ranges[best], kept, float_weights), recipe)


def _without_a_file() -> list[tuple[str, str]]:
    """Return the precisions and runtimes that run the FP32 file on this processor."""
    found = [(FP32, REFERENCE_RUNTIME), (FP32, 'openvino')]
    return [*found, (BF16, 'openvino')] if computes_bfloat16() else found


def _load_backend(model: Model, runtime: str, precision: str | None = None) -> Backend:
    """Return a backend that runs exactly this file, in the precision it is in or another."""
    options = BackendOptions(precision=precision or model.precision)
    return load_backend_class(runtime)(model, options, lambda _: None)


def _measure(
    model: Model,
    runtime: str,
    root: Path,
    frames: NightFrames,
    expected: Sequence[Masks],
    precision: str | None = None,
) -> Measured:
    backend = _load_backend(model, runtime, precision)
    found = agreement(backend_masks(backend, frames.held_out), expected)
    metrics = measure(Segmenter(Started(backend, reason='', self_check='')), root)
    backend.close()
    return Measured(metrics, found)


def refuse_losses(
    name: str,
    found: Measured,
    baseline: Mapping[str, float],
    max_loss: float,
    min_agreement: float,
) -> None:
    """Refuse a model that loses more than it may.

    Raises:
        QuantizationError: with all that it loses.
    """
    losses = [
        f'{key} falls from {baseline[key]:.4f} to {found.metrics[key]:.4f} ({max_loss} is allowed)'
        for key in JUDGED
        if baseline[key] - found.metrics[key] > max_loss
    ]
    if found.agreement.labels < min_agreement:
        losses.append(
            f'only {found.agreement.labels:.2%} of the labels of held-out night frames stay '
            f'({min_agreement:.2%} is needed)'
        )
    if losses:
        remedy = (
            'raise --target_agreement, so that more layers stay in FP32'
            if name.startswith(INT8)
            else 'run the model in FP32'
        )
        raise QuantizationError(f'{name} is refused: {"; ".join(losses)}: {remedy}')


def make_card(
    source: Model,
    precision: str,
    recipe: Mapping[str, Any],
    measured: Mapping[tuple[str, str], Measured],
) -> dict[str, str]:
    """Return the metadata of a quantised file: the FP32 model's, and what it became."""
    runtimes = RUNTIMES[precision]
    found = {runtime: measured[precision, runtime] for runtime in runtimes}
    return {
        **source.card,
        'name': f'{source.name}_{precision}',
        'precision': precision,
        'quantized_from': source.sha256,
        'quantization': json.dumps(recipe),
        'metrics': json.dumps(found[REFERENCE_RUNTIME].metrics),
        'metrics_fp32': json.dumps(measured[FP32, REFERENCE_RUNTIME].metrics),
        'metrics_by_runtime': json.dumps({name: m.metrics for name, m in found.items()}),
        'agreement': json.dumps({name: m.agreement._asdict() for name, m in found.items()}),
    }


def _save(proto: onnx.ModelProto, card: Mapping[str, str], path: Path) -> None:
    onnx.helper.set_model_props(proto, dict(card))
    onnx.save(proto, str(path))


def _time(
    source: Model, drafts: Sequence[Path], frames: NightFrames, rounds: int
) -> dict[str, dict[str, float]]:
    """Return by runtime the median time in ms of each precision."""
    models = [source, *(load_model(draft) for draft in drafts)]
    times = {}
    for runtime in (REFERENCE_RUNTIME, 'openvino'):
        backends = {
            model.precision: _load_backend(model, runtime)
            for model in models
            if model is source or runtime in RUNTIMES[model.precision]
        }
        if (BF16, runtime) in _without_a_file():
            backends[BF16] = _load_backend(source, runtime, BF16)
        times[runtime] = time_interleaved(backends, frames.held_out[0], rounds)
        for backend in backends.values():
            backend.close()
    return times


def _keep_reference(source: Model) -> None:
    """Write the self-check reference where it is missing or another model's."""
    try:
        missing = load_reference(source) is None
    except ModelError:
        missing = True
    if missing:
        write_reference(source.path)


def _report(
    source: Model,
    measured: Mapping[tuple[str, str], Measured],
    times: Mapping[str, Mapping[str, float]],
    output: Path,
    console: Console,
) -> None:
    """Print a table and write report.json."""
    rows = []
    for (precision, runtime), found in measured.items():
        path = source.path
        if precision in RUNTIMES:
            path = path.with_name(f'{source.name}_{precision}.onnx')
        rows.append(
            {
                'precision': precision,
                'runtime': runtime,
                'megabytes': round(path.stat().st_size / 1e6, 2),
                **found.metrics,
                'night labels as fp32': found.agreement.labels,
                'confidence off fp32, of 255': found.agreement.confidence,
                'ms': times[runtime][precision],
                'speed-up': round(times[runtime][FP32] / times[runtime][precision], 2),
            }
        )
    (output / 'report.json').write_text(json.dumps(rows, indent=2) + '\n')
    table = Table('', *(f'{row["precision"]}\n{row["runtime"]}' for row in rows), title=source.name)
    for name in list(rows[0])[2:]:
        table.add_row(name, *(str(row[name]) for row in rows))
    console.print(table)
    console.print(f'wrote {output / "report.json"}', soft_wrap=True)
