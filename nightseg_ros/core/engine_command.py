"""``build_engine``: build TensorRT engines before driving, look at them, verify them."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from nightseg_ros.core import self_check
from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import Backend
from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import Report
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.backends import load_backend_class
from nightseg_ros.core.backends.tensorrt.engine_cache import EngineCache
from nightseg_ros.core.backends.tensorrt.engine_cache import Entry
from nightseg_ros.core.backends.tensorrt.engine_cache import UnusableEngineError
from nightseg_ros.core.model import PRECISIONS
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model

if TYPE_CHECKING:
    from nightseg_ros.core.backends.tensorrt.recipe import Recipe

TENSORRT = 'tensorrt'

_EXAMPLES = """
examples:
  build_engine build                        the released model, the fastest precision that passes
  build_engine build my.onnx --precision fp16 --force
  build_engine build --dla-core 0           on a Jetson's deep learning accelerator
  build_engine inspect                      what is in the cache
  build_engine inspect ~/.cache/nightseg_ros/engines/student_384x640_fp16_0123456789abcdef.engine
  build_engine verify                       is the cached engine right, and how fast is it?

exit code: 0 done and passed; 1 the engine cannot be built, or computes wrong masks; 2 it could not
be tried: no GPU, no TensorRT, no such model or engine, an unsafe cache folder
"""

_PLAIN_EVERY = 10.0  # seconds between lines of progress where there is no terminal


class UnavailableError(Exception):
    """What was asked for cannot be tried here; the message says what is missing."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code that its help explains."""
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s: %(message)s')
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ModelError, UnavailableError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except (BackendError, UnusableEngineError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='build_engine',
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    build = commands.add_parser('build', help='build an engine, check it, keep it in the cache')
    _add_engine_options(build)
    build.add_argument('--force', action='store_true', help='build again what is in the cache')
    build.set_defaults(run=_build)

    inspect = commands.add_parser('inspect', help='list the cache, or the layers of one engine')
    inspect.add_argument(
        'path', type=Path, nargs='?', help='an .engine, or an .onnx whose engines to list'
    )
    _add_cache_option(inspect)
    inspect.set_defaults(run=_inspect)

    verify = commands.add_parser('verify', help='check and time the engine in the cache')
    _add_engine_options(verify)
    verify.add_argument('--runs', type=int, default=200, help='inferences to time (default 200)')
    verify.set_defaults(run=_verify)
    return parser


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('model', nargs='?', help='an .onnx (default: the released model)')
    parser.add_argument(
        '--precision',
        choices=(AUTO, *PRECISIONS),
        default=AUTO,
        help='default auto: fp16 if it passes the self-check, else fp32, else int8',
    )
    _add_cache_option(parser)
    parser.add_argument('--device', type=int, default=0, help='CUDA device (default 0)')
    parser.add_argument('--dla-core', type=int, default=-1, help='of a Jetson; -1 (default): GPU')
    parser.add_argument(
        '--no-gpu-fallback',
        action='store_true',
        help='fail where a DLA cannot run a layer, instead of running it on the GPU',
    )


def _add_cache_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--engine-cache-dir',
        type=Path,
        help='yours alone; default $XDG_CACHE_HOME/nightseg_ros/engines, usually in ~/.cache',
    )


def _build(options: argparse.Namespace) -> int:
    model, wanted, cache = _prepare(options)
    if options.force:
        for recipe in _recipes(model, wanted):
            cache.discard(recipe.name)
    # TensorRT cannot be interrupted from Python: let Ctrl-C end the process. The cache stays whole.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with _progress() as report:
        started = create_backend(model, TENSORRT, wanted, report)
    _print_facts(started.backend)
    print(f'self-check      {started.self_check}')
    started.backend.close()
    return 0


def _verify(options: argparse.Namespace) -> int:
    if options.runs < 1:
        raise UnavailableError(f'--runs must be above 0, got {options.runs}')
    model, wanted, cache = _prepare(options)
    stored = [r for r in _recipes(model, wanted) if cache.path(r.name).is_file()]
    if not stored:
        raise UnavailableError(
            f'{cache.folder} has no engine of {model.path} for this GPU, TensorRT and precision: '
            'run build_engine build'
        )
    reference = self_check.load_reference(model)
    factory: Any = load_backend_class(TENSORRT)
    with _progress() as report:
        backend = factory(model, replace(wanted, precision=stored[0].precision), report)
    try:
        _print_facts(backend)
        p50, p95, p99 = np.percentile(_times(backend, options.runs), (50, 95, 99))
        print(f'inference       p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms')
        if reference is None:
            raise UnavailableError(f'no self-check: there is no reference beside {model.path}')
        print(f'self-check      {self_check.check(backend, reference)}')
    finally:
        backend.close()
    return 0


def _inspect(options: argparse.Namespace) -> int:
    path: Path | None = options.path
    if path is not None and path.suffix == '.engine':
        return _inspect_engine(path.expanduser().absolute())
    cache = _cache(options.engine_cache_dir)
    prefix = f'{path.stem}_' if path is not None else ''
    entries = [entry for entry in cache.entries() if entry.path.name.startswith(prefix)]
    print(f'{len(entries)} engines in {cache.folder}')
    if entries:
        print(_table([_HEADER, *map(_row, entries)]))
    return 0


_HEADER = ('engine', 'precision', 'TensorRT', 'GPU', 'MB', 'built', 'took', 'state')


def _row(entry: Entry) -> tuple[str, ...]:
    facts = entry.facts
    names = ('precision', 'tensorrt', 'gpu')
    return (
        entry.path.name,
        *(str(facts.get(name, '?')) for name in names),
        f'{facts.get("bytes", 0) / 1e6:.1f}',
        str(facts.get('created', '?'))[:16],
        f'{facts.get("build_seconds", "?")} s',
        entry.problem or 'whole',
    )


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _inspect_engine(path: Path) -> int:
    """Print facts, inputs, outputs and layers of one engine."""
    if not path.is_file():
        raise UnavailableError(f'there is no engine {path}')
    entry = next(e for e in _cache(path.parent).entries() if e.path.name == path.name)
    print(json.dumps(entry.facts, indent=2))
    if entry.problem:
        raise UnusableEngineError(f'{path}: {entry.problem}')
    _require_gpu(0)
    import tensorrt as trt

    from nightseg_ros.core.backends.tensorrt.engine_source import deserialize

    engine = deserialize(path.read_bytes(), entry.facts['dla_core'])
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        print(name, tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name).name)
    inspector = engine.create_engine_inspector()
    layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))['Layers']
    print(_table([('layer', 'type', 'output'), *map(_layer, layers)]))
    return 0


def _layer(layer: Any) -> tuple[str, str, str]:
    """Return name, type and output format; engines of others may have names alone."""
    if isinstance(layer, str):
        return layer, '', ''
    outputs = ', '.join(str(o.get('Format/Datatype', '')) for o in layer.get('Outputs', []))
    return str(layer.get('Name', '')), str(layer.get('LayerType', '')), outputs


def _prepare(options: argparse.Namespace) -> tuple[Model, BackendOptions, EngineCache]:
    """Return model, options and cache, all of which can be tried here."""
    _require_gpu(options.device)
    wanted = BackendOptions(
        precision=options.precision,
        engine_cache_dir=options.engine_cache_dir,
        device=options.device,
        dla_core=options.dla_core,
        gpu_fallback=not options.no_gpu_fallback,
    )
    return load_model(options.model), wanted, _cache(options.engine_cache_dir)


def _require_gpu(device: int) -> None:
    try:
        load_backend_class(TENSORRT)
        from nightseg_ros.core.backends.tensorrt.cuda import Device

        Device.find(device).make_current()
    except BackendError as error:
        raise UnavailableError(str(error)) from error


def _cache(folder: Path | None) -> EngineCache:
    try:
        return EngineCache(folder)
    except BackendError as error:
        raise UnavailableError(str(error)) from error


def _recipes(model: Model, options: BackendOptions) -> list[Recipe]:
    """Return what would be built: one recipe, or for 'auto' one for each precision there is."""
    from nightseg_ros.core.backends.tensorrt.cuda import Device
    from nightseg_ros.core.backends.tensorrt.recipe import plan

    device = Device.find(options.device)
    if options.precision != AUTO:
        return [plan(model, options, device)]
    found = []
    for precision in load_backend_class(TENSORRT).precisions:
        with suppress(BackendError):  # there is no INT8 file, say
            found.append(plan(model, replace(options, precision=precision), device))
    return found


def _times(backend: Backend, runs: int) -> list[float]:
    """Return the milliseconds of each of some inferences."""
    image = np.full((1, backend.model.height, backend.model.width, 3), 64, np.uint8)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        backend.infer(image)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _print_facts(backend: Backend) -> None:
    facts = {'precision': backend.precision, **backend.describe()}
    engine = Path(facts['engine'])
    size = f'{engine.stat().st_size / 1e6:.1f} MB' if engine.is_file() else 'not kept'
    for name, fact in {**facts, 'size': size}.items():
        print(f'{name.replace("_", " "):<15} {fact}')


@contextmanager
def _progress() -> Iterator[Report]:
    """Yield what shows progress: a bar on a terminal that rich can draw on, else lines."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn
        from rich.progress import Progress
        from rich.progress import SpinnerColumn
        from rich.progress import TextColumn
    except ImportError:  # no dependency of a vehicle
        yield _plain_report()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_report()
        return
    text = TextColumn('{task.description}', markup=False)  # names of layers have brackets
    columns = (SpinnerColumn(), BarColumn(20), text)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task('starting', total=None)
        yield lambda text: bar.update(task, description=text)


def _plain_report() -> Report:
    """Return what prints each new activity, and one that goes on every ten seconds."""
    shown, when = '', 0.0

    def report(text: str) -> None:
        nonlocal shown, when
        activity, now = text.split(':')[0], time.monotonic()
        if activity != shown or now - when >= _PLAIN_EVERY:
            print(text, file=sys.stderr, flush=True)
            shown, when = activity, now

    return report


if __name__ == '__main__':
    sys.exit(main())
