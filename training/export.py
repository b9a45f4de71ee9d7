"""``python -m training export``: from a checkpoint to the ONNX file that vehicles run."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from rich.console import Console
from rich.table import Table

from models.released_form import Onboard
from models.released_form import ReleasedForm
from models.several_sizes import in_sizes
from models.temperature import Temperature
from nightseg_ros import __version__
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.backends import GPU_BACKENDS
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import load_model
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.core.self_check import reference_path
from training.checkpoint import AVERAGED
from training.checkpoint import MORE_SIZES
from training.checkpoint import STAGES
from training.checkpoint import TEMPERATURE
from training.checkpoint import method_of
from training.checkpoint import read_checkpoint
from training.data.frames import list_images
from training.data.frames import read_rgb
from training.evaluation.measure import measure
from training.fit import CONFIG
from training.reference import write_reference

OPSET = 17
"""The newest that TensorRT 8.5 (JetPack 5) reads."""

MIN_AGREEMENT = 0.995
"""Share of pixels on which every CPU backend must agree with torch."""

LICENCE = (
    'Research and demonstration only: trained on CamVid (CC BY-NC 4.0), MSRS/MFNet, RoadScene and '
    'IDD frames (research use), from ImageNet weights (Apache 2.0).'
)

DATA = (
    'CamVid 0006R0 and 0016E5 (ground truth); MSRS campus day, RoadScene day and IDD (labels of a '
    'Cityscapes-trained teacher, their sky mended); relit to night by augmentation, partly with '
    'the colours of MSRS campus night and RoadScene night'
)


class ExportError(ValueError):
    """The exported model is not what was trained."""


def export(
    checkpoint: Path = Path('build/training/night_student_own_vehicle/calibrated.ckpt'),
    output: Path = Path('models/released/student_384x640.onnx'),
    height: int = 384,
    width: int = 640,
    data_root: Path = Path('../shared/data'),
    parity_frames: str = 'campus_night',
    min_agreement: float = MIN_AGREEMENT,
) -> None:
    """Export a checkpoint to the released ONNX form, check it against torch, and measure it.

    The file is written only when ONNX Runtime's and OpenVINO's labels agree with torch's on more
    than 99.5 % of the pixels of real frames. Its metrics go into its card (ONNX metadata). The
    reference that every vehicle checks itself against goes beside it (``NAME.check.npz``). What was
    calibrated for several sizes looks at every frame in all of them.

    Args:
        checkpoint: a checkpoint of ``python -m training fit``, or a released ONNX file, to have it
            in another size.
        output: the ONNX file.
        height: of the fixed input, a multiple of the network's stride.
        width: of the fixed input, a multiple of the network's stride.
        data_root: folder of the data sets.
        parity_frames: folder under it whose frames are compared.
        min_agreement: share of pixels on which every CPU backend must agree with torch.
    """
    saved = read_checkpoint(checkpoint)
    method = method_of(saved, checkpoint)
    generator = method.generator
    if generator.relighting is not None or not isinstance(generator.net, Onboard):
        raise ExportError(
            f'{checkpoint} holds a {type(generator.net).__name__} '
            f'{"behind a relighting network" if generator.relighting is not None else ""}: only a '
            'student without one is fast enough for a vehicle. Distil it first '
            '(training/configs/distill.yaml).'
        )
    stride = generator.net.stride
    if height % stride or width % stride:
        raise ExportError(f'height and width must be multiples of {stride}, got {height}x{width}')
    temperature = Temperature(**saved.get(TEMPERATURE, {}))
    more_sizes = saved.get(MORE_SIZES, [])
    net = in_sizes(generator.net, more_sizes)
    released = ReleasedForm(net, generator.mean, generator.std, temperature).eval()
    frames = list_images(Path(data_root) / parity_frames / 'images')[::10]
    console = Console()
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix='.export-') as folder:
        draft = Path(folder) / output.name
        to_onnx(released, height, width, draft)
        names = [name for name in BACKENDS if name not in GPU_BACKENDS]
        agreement = {
            name: check_parity(released, draft, name, frames, min_agreement) for name in names
        }
        metrics = measure(Segmenter.load(draft), Path(data_root))
        averaged = saved.get(AVERAGED, [])
        made = {'steps': saved['global_step'], AVERAGED: averaged, MORE_SIZES: more_sizes}
        stages = saved.get(STAGES) or training_stages(Path(checkpoint))
        card = {
            'name': output.stem,
            'version': __version__,
            'input': f'{IMAGE}: uint8 [1,{height},{width},3] RGB',
            'classes': json.dumps(NAMES),
            'data': describe_data(stages),
            'recipe': json.dumps({**method.config, **made}),
            STAGES: json.dumps(stages),
            'temperature': json.dumps(temperature._asdict()),
            'licence': LICENCE,
            'metrics': json.dumps(metrics),
            'agreement_with_torch': json.dumps(agreement),
        }
        proto = onnx.load(str(draft))
        onnx.helper.set_model_props(proto, card)
        onnx.save(proto, str(draft))
        load_model(draft)
        reference = write_reference(draft)
        draft.replace(output)
        reference.replace(reference_path(output))
    table = Table('measure', 'value', title=f'{output} ({output.stat().st_size / 1e6:.1f} MB)')
    for name, value in {**metrics, **{f'agreement/{k}': v for k, v in agreement.items()}}.items():
        table.add_row(name, f'{value:.4f}')
    console.print(table)


def training_stages(checkpoint: Path) -> list[dict[str, Any]]:
    """Return the options of every training that led to a checkpoint, the first stage first.

    Found in the ``config.yaml`` that :func:`fit` leaves beside its checkpoints, and in the metadata
    of a released model that a training started from; where there is none, nothing is known.
    """
    if checkpoint.suffix == '.onnx':
        return json.loads(load_model(checkpoint).card.get(STAGES, '[]'))
    path = checkpoint.parent / CONFIG
    if not path.is_file():
        return []
    config = yaml.safe_load(path.read_text(encoding='utf-8'))
    initial = config.get('initial')
    before = training_stages(Path(initial)) if initial else []
    return [*before, config]


def describe_data(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return what was trained on, for people; stages as :func:`training_stages` returns them."""
    nights = {
        Path(frames['init_args']['root']).name: None
        for stage in stages
        for frames in stage.get('data', {}).get('init_args', {}).get('nights') or []
    }
    if not nights:
        return DATA
    return (
        f'{DATA}; images of {", ".join(nights)}, labelled by the network itself at an earlier stage'
    )


def to_onnx(released: ReleasedForm, height: int, width: int, path: Path) -> None:
    """Write a network as ONNX, its weights plain initializers."""
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, but the other cannot write an opset this old.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            released,
            (example,),
            str(path),
            input_names=[IMAGE],
            output_names=released.output_names,
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load(str(path))
    share_weights(proto.graph)
    onnx.save(proto, str(path))


def share_weights(graph: onnx.GraphProto) -> None:
    """Let nodes take weights that they share from the initializer itself, not from a copy of it.

    Where one convolution is called twice, torch writes an Identity for the second; TensorRT wants
    weights to be initializers, and so do our passes to FP16 and INT8.
    """
    weights = {tensor.name for tensor in graph.initializer}
    copies = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == 'Identity' and node.input[0] in weights
    }
    kept = [node for node in graph.node if node.output[0] not in copies]
    for node in kept:
        node.input[:] = [copies.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)


def check_parity(
    released: ReleasedForm,
    path: Path,
    backend: str,
    frames: list[Path],
    min_agreement: float = MIN_AGREEMENT,
) -> float:
    """Return the share of pixels on which a backend's labels equal torch's.

    Raises:
        ExportError: when it is below ``min_agreement``.
    """
    segmenter = Segmenter.load(path, backend)
    model = segmenter.backend.model
    shares = []
    for frame in frames:
        image = torch.from_numpy(read_rgb(frame)).permute(2, 0, 1)[None].float()
        image = torch.nn.functional.interpolate(image, (model.height, model.width), mode='bilinear')
        image = image.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        with torch.inference_mode():
            expected = released(image)[0].numpy()[0]
        shares.append(np.mean(segmenter.backend.infer(image.numpy()).labels == expected))
    agreement = float(np.mean(shares))
    if agreement < min_agreement:
        raise ExportError(
            f'{backend} agrees with torch on only {agreement:.2%} of the pixels of {len(frames)} '
            f'frames; {min_agreement:.1%} is needed: the exported graph computes something else'
        )
    return round(agreement, 5)
