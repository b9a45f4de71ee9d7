"""Many bags: processes, kills, resuming, merging, Ray."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightseg_ros.evaluation import bags
from nightseg_ros.evaluation.bag_job import BagJob
from nightseg_ros.evaluation.drive_files import load_result
from nightseg_ros.evaluation.evaluate import evaluate_offline
from nightseg_ros.evaluation.fleet import run_locally
from nightseg_ros.evaluation.fleet import run_on_ray
from nightseg_ros.evaluation.summary import summarise
from nightseg_ros.evaluation.together import put_together

EXACT = (
    'frames', 'truth_frames', 'confusion', 'classes', 'exposure_bins', 'reliability',
    'risk_coverage', 'intervals', 'dominant_class', 'unreadable',
)  # fmt: skip


def command(bags_: list[Path], model: Path, out: Path, *options: object) -> list[str]:
    return [
        sys.executable, '-m', 'nightseg_ros.evaluation.evaluate_command', *map(str, bags_),
        '--model', str(model), '--backend', 'onnxruntime', '--precision', 'fp32', '--no-video',
        '--out', str(out), *map(str, options),
    ]  # fmt: skip


def evaluate(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=240, **options
    )


def report(folder: Path) -> dict:
    return json.loads((folder / 'report.json').read_text())


def test_merged_is_exactly_what_one_process_counts(
    drive, channel_frames, channel_model, make_request, tmp_path
) -> None:
    """Two bags in two processes, against one process, and against one bag of all frames."""
    paths = [drive('a', 8, wrong=2), drive('b', 14, wrong=3, storage='sqlite3')]
    done = evaluate(paths, channel_model, tmp_path / 'out', '--jobs', 2)
    assert done.returncode == 0, done.stderr
    merged = report(tmp_path / 'out')
    names = [f'{name}/camera/image_raw' for name in ('a', 'b')]
    assert [line['name'] for line in merged['drives']] == names

    folders = [tmp_path / 'here' / path.name for path in paths]
    for path, folder in zip(paths, folders, strict=True):
        evaluate_offline(make_request(path, output=folder), 1)
    here = summarise(put_together(map(load_result, folders)))
    for name in EXACT:
        assert merged[name] == here[name], name

    both = [
        bags.Frame(bags.stamp_of(i, 10.0), f.image, f.labels)
        for i, f in enumerate([*channel_frames(8, 2), *channel_frames(14, 3)])
    ]
    bags.write_drive(tmp_path / 'both', both)
    one = evaluate_offline(make_request(tmp_path / 'both'), 1)
    assert one['confusion'] == merged['confusion']
    for name in ('miou', 'accuracy', 'mef1', 'ece', 'aurc', 'confidence', 'over_share'):
        assert one['metrics'][name] == merged['metrics'][name]

    assert len((tmp_path / 'out' / 'report.csv').read_text().splitlines()) == 1 + 22
    for line in merged['drives']:
        assert (tmp_path / 'out' / line['folder'] / 'report.html').is_file()


def wait_for_end_of_group(group: int) -> None:
    """Wait until the children of a process that was killed have ended by themselves."""
    deadline = time.monotonic() + 20
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
        raise AssertionError('processes are left behind')


def test_a_killed_fleet_goes_on_where_it_was(drive, channel_model, tmp_path) -> None:
    out = tmp_path / 'out'
    paths = [drive('a', 5), drive('b', 800), drive('c', 5)]
    process = subprocess.Popen(
        command(paths, channel_model, out, '--jobs', 1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    first = out / 'a_camera_image_raw' / 'report.json'
    second = out / 'b_camera_image_raw'
    deadline = time.monotonic() + 90
    while not (first.exists() and second.exists()):  # b is at work
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    wait_for_end_of_group(process.pid)
    before = first.stat().st_mtime_ns
    done = evaluate(paths, channel_model, out)
    assert done.returncode == 0, done.stderr
    assert '1 of 3 bags are finished' in done.stderr
    assert first.stat().st_mtime_ns == before
    assert report(out)['frames'] == 810
    again = evaluate(paths, channel_model, out)
    assert '3 of 3 bags are finished' in again.stderr


def test_a_bag_that_fails_costs_only_its_own_result(drive, make_request, tmp_path) -> None:
    good, broken = drive('good', 4), drive('broken', 4)
    (broken / 'broken.mcap').write_bytes(b'no bag')
    jobs = [
        BagJob((make_request(bag, output=tmp_path / 'out' / bag.name),), 1)
        for bag in (good, broken)
    ]
    outcomes = {outcome.job.bag.name: outcome.error for outcome in run_locally(jobs, 2)}
    assert outcomes['good'] == ''
    assert 'broken' in outcomes['broken']
    assert report(tmp_path / 'out' / 'good')['frames'] == 4


def test_ray_counts_what_one_process_counts(
    drive, make_request, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip('ray', reason='ray is not installed: pip install ray')
    # Nothing may leave this machine, and the workers find what is only in this checkout.
    monkeypatch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    monkeypatch.setenv('PYTHONPATH', str(Path(__file__).parents[2]))
    jobs = [
        BagJob((make_request(drive(name, 6, wrong=1), output=tmp_path / 'ray' / name),), 1)
        for name in ('a', 'b')
    ]
    outcomes = list(run_on_ray(jobs, 'local'))
    assert not ray.is_initialized()
    assert {(o.job.bag.name, o.error) for o in outcomes} == {('a', ''), ('b', '')}
    for job in jobs:
        (request,) = job.drives
        here = evaluate_offline(make_request(request.bag, output=tmp_path / 'here'), 1)
        assert report(request.output)['confusion'] == here['confusion']
        assert report(request.output)['intervals'] == here['intervals']
