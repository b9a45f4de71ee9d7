"""The order in which everything is measured.

Machines are noisy and their noise drifts, so what is to be compared takes turns: every round has a
short burst of each quantity, while the other processes are alive and wait. Samples of all rounds
are pooled; the ratios of single rounds are kept beside them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np

from benchmarks.node.common_node import write_logits_model
from benchmarks.node.processes import BenchError
from benchmarks.node.processes import Helper
from benchmarks.node.processes import Process
from benchmarks.node.processes import wait_until
from nightseg_ros.core.model import load_model
from nightseg_ros.evaluation.ros_environment import free_domain_id
from nightseg_ros.simulation.night_drive import NightDrive

Size = tuple[int, int]
"""Width and height."""

WARM_UP = 5
"""Frames of every burst that do not count."""

FRAMES = 4
PATIENCE_S = 2.0
DEFAULT_TRANSPORT_PATIENCE_S = 0.3
"""Less, as most images get lost."""

DISCOVERY_S = 1.0
"""From the moment that we see an endpoint until its process has seen ours."""

LISTENING_ROUNDS = 2
THROUGHPUT_HZ = 30.0
CAMERAS_LIMIT_S = 30.0

FLOOR = 'floor'
NODE = 'node'
COMMON = 'common_node'
BARE = 'bare'
BACK_TO_BACK = 'bare_back_to_back'

MASK = '/night_seg/semantic/mask'
MASKS = ['/night_seg/semantic/confidence', '/night_seg/exposure/mask']
OVERLAY = ['/night_seg/semantic/overlay']
LISTENERS: dict[str, tuple[list[str], list[str]]] = {
    'mask': ([], []),
    'mask, confidence, exposure': (MASKS, []),
    'and the overlay': (MASKS, OVERLAY),
}
"""Topics that somebody listens to beside the mask: reliable ones, best effort ones."""

NODE_NAME, TIME = '/night_seg', 'processing time'
PROCESSING_TIME = f'{NODE_NAME}: {TIME}'


@dataclass(frozen=True)
class Plan:
    """What to measure, for how long; the command line explains each."""

    sizes: tuple[Size, ...]
    seconds: float
    rounds: int
    hz: float
    backend: str
    model: str
    cameras: int
    throughput: bool
    default_transport: bool
    folder: Path

    @property
    def headline(self) -> Size:
        """The size whose figures come first: 1280x720, unless it is not measured."""
        return (1280, 720) if (1280, 720) in self.sizes else self.sizes[-1]

    @property
    def steps(self) -> int:
        """How often progress is told of."""
        steps = 1 + len(self.sizes) * (self.rounds + LISTENING_ROUNDS + 1)
        steps += self.default_transport * len(self.sizes)
        return steps + self.throughput * (2 + (self.cameras > 1))


@dataclass
class Samples:
    """Times in ms of one quantity, by round."""

    rounds: list[list[float]] = field(default_factory=list)
    lost: int = 0

    def add(self, milliseconds: list[float], lost: int = 0) -> None:
        """Add the times of a burst."""
        self.rounds.append(milliseconds)
        self.lost += lost

    @property
    def pooled(self) -> list[float]:
        """The times of all rounds."""
        return [value for burst in self.rounds for value in burst]


@dataclass
class SizeSamples:
    """Everything measured at one size.

    Attributes:
        quantities: BARE, BACK_TO_BACK, FLOOR, NODE and COMMON.
        listening: the node's latency by who listens.
        stages: percentiles of the node's stages, as it reports them.
        default_transport: the floor without the shared memory profile, or None.
    """

    quantities: dict[str, Samples]
    listening: dict[str, Samples]
    stages: dict[str, str] = field(default_factory=dict)
    default_transport: Samples | None = None


@dataclass
class Throughput:
    """Cameras that publish whatever comes back.

    Attributes:
        name: of the situation.
        hz: asked of each camera.
        seconds: that the cameras ran.
        sent: images by camera.
        arrivals: (stamp, arrival) in ns of each mask, by camera.
        stages: percentiles of the node's stages meanwhile (of the first camera), as it reports
            them.
        skipped: why it was not measured, or ''.
    """

    name: str
    hz: float
    seconds: float
    sent: dict[str, int] = field(default_factory=dict)
    arrivals: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    skipped: str = ''


@dataclass
class Measurement:
    """All that was measured."""

    engine: dict[str, str]
    sizes: dict[Size, SizeSamples]
    throughput: list[Throughput]


class Schedule:
    """Runs a plan.

    Args:
        plan: what to measure.
        tell: called before every step with what comes next; nothing else happens meanwhile.
    """

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._logits = plan.folder / 'logits.onnx'

    def run(self) -> Measurement:
        """Measure everything.

        Raises:
            BenchError: a process fails or gives no answer in time.
        """
        plan = self._plan
        plan.folder.mkdir(parents=True, exist_ok=True)
        self._tell('cutting the model, rendering frames')
        write_logits_model(load_model(plan.model).path, self._logits)
        for size in plan.sizes:
            self._render(size)
        with Helper(
            BARE, 'benchmarks.node.bare', [f'--model={plan.model}', f'--backend={plan.backend}'],
            plan.folder,
        ) as bare:  # fmt: skip
            engine = bare.ask('engine', takes=60)
            sizes = {size: self._measure(size, bare, engine['backend']) for size in plan.sizes}
        if plan.default_transport:
            for size, samples in sizes.items():
                self._tell(f'{name_of(size)}: the floor in Fast DDS as it comes')
                samples.default_transport = self._measure_default_transport(size)
        throughput = []
        if plan.throughput:
            frame_ms = float(sizes[plan.headline].stages['total_ms/p50'])
            throughput = self._measure_throughput(engine['backend'], frame_ms)
        return Measurement(engine, sizes, throughput)

    def _measure(self, size: Size, bare: Helper, backend: str) -> SizeSamples:
        plan = self._plan
        names = (BARE, BACK_TO_BACK, FLOOR, NODE, COMMON)
        samples = SizeSamples({n: Samples() for n in names}, {n: Samples() for n in LISTENERS})
        self._tell(f'{name_of(size)}: starting the nodes')
        with ExitStack() as stack:
            client = stack.enter_context(self._client('client', size))
            nodes = {
                FLOOR: self._floor(),
                NODE: self._night_seg('night_seg', backend, '-r', f'image:=/{NODE}/image'),
                COMMON: Process(
                    COMMON, 'benchmarks.node.common_node',
                    [str(self._logits), '--ros-args', '-r', f'image:=/{COMMON}/image'], plan.folder,
                ),
            }  # fmt: skip
            masks = {FLOOR: '/floor/semantic/mask', NODE: MASK, COMMON: '/common/semantic/mask'}
            for process in nodes.values():
                stack.enter_context(process)
            for target in nodes:
                client.ask('connect', target=target, image=f'/{target}/image', mask=masks[target])
            _wait_for(client, list(nodes), [client, *nodes.values()])
            for number in range(plan.rounds):
                self._tell(f'{name_of(size)}: round {number + 1} of {plan.rounds}')
                self._round(samples, bare, client, nodes)
            samples.stages = client.ask('diagnostics', status=PROCESSING_TIME)
            for number in range(LISTENING_ROUNDS):
                self._tell(f'{name_of(size)}: listeners, {number + 1} of {LISTENING_ROUNDS}')
                for listeners, (topics, pictures) in LISTENERS.items():
                    client.ask('listen', target=NODE, topics=topics, pictures=pictures)
                    self._burst(samples.listening[listeners], client, NODE, nodes[NODE], share=0.6)
        return samples

    def _round(
        self, samples: SizeSamples, bare: Helper, client: Helper, nodes: dict[str, Process]
    ) -> None:
        plan = self._plan
        paced = bare.ask('paced', plan.seconds, seconds=plan.seconds, hz=plan.hz, warm_up=WARM_UP)
        samples.quantities[BARE].add(paced)
        for target, process in nodes.items():
            self._burst(samples.quantities[target], client, target, process)
        seconds = plan.seconds / 4
        samples.quantities[BACK_TO_BACK].add(
            bare.ask('back_to_back', seconds, seconds=seconds, warm_up=WARM_UP)
        )

    def _burst(
        self,
        samples: Samples,
        client: Helper,
        target: str,
        process: Process,
        share: float = 1.0,
        patience: float = PATIENCE_S,
    ) -> None:
        seconds = share * self._plan.seconds
        burst = client.ask(
            'burst',
            takes=seconds,
            target=target,
            seconds=seconds,
            hz=self._plan.hz,
            warm_up=WARM_UP,
            patience=patience,
        )
        process.check()
        samples.add(burst['ms'], burst['lost'])

    def _measure_default_transport(self, size: Size) -> Samples:
        samples = Samples()
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(free_domain_id())}
        environment.pop('FASTRTPS_DEFAULT_PROFILES_FILE', None)
        with (
            self._client('client_default', size, environment) as client,
            self._floor(environment) as floor,
        ):
            client.ask(
                'connect', target=FLOOR, image=f'/{FLOOR}/image', mask='/floor/semantic/mask'
            )
            _wait_for(client, [FLOOR], [client, floor])
            self._burst(samples, client, FLOOR, floor, patience=DEFAULT_TRANSPORT_PATIENCE_S)
        return samples

    def _measure_throughput(self, backend: str, frame_ms: float) -> list[Throughput]:
        """Run one camera, one twice as fast as the node, and several.

        ``frame_ms`` is what the node takes for a frame.

        The cameras are a process of their own, so that receiving does not hold them up; on a small
        machine they, the node and the listener share the cores, as camera drivers do in a vehicle.
        """
        plan = self._plan
        seconds = 2 * plan.seconds
        overload = 2e3 / frame_ms
        one = Throughput('one', THROUGHPUT_HZ, seconds)
        fast = Throughput('one, overload', overload, seconds)
        several = Throughput(f'{plan.cameras}', THROUGHPUT_HZ, seconds)
        topics = {'camera': ('/node/image', MASK)}
        with ExitStack() as stack:
            cameras, client = self._cameras_and_client(stack, topics)
            node = stack.enter_context(
                self._night_seg('night_seg_fast', backend, '-r', 'image:=/node/image')
            )
            _wait_for(cameras, list(topics), [cameras, node])
            _wait_for(client, list(topics), [client, node])
            for situation in (one, fast):
                self._tell(f'cameras: {situation.name} at {situation.hz:.0f} Hz')
                _flood(situation, cameras, client, list(topics), PROCESSING_TIME)
                node.check()
        if plan.cameras < 2:
            return [one, fast]
        names = [f'cam{index}' for index in range(plan.cameras)]
        topics = {n: (f'/{n}/image', f'/night_seg/{n}/semantic/mask') for n in names}
        self._tell(f'cameras: {several.name} at {several.hz:.0f} Hz')
        with ExitStack() as stack:
            cameras, client = self._cameras_and_client(stack, topics)
            node = stack.enter_context(
                self._night_seg('night_seg_cameras', backend, '-p', f'cameras:=[{",".join(names)}]')
            )
            try:
                _wait_for(client, names, [client, node], CAMERAS_LIMIT_S)
            except BenchError as error:
                several.skipped = f'the node publishes no mask of {names[-1]}: {error}'
            else:
                _wait_for(cameras, names, [cameras, node])
                _flood(several, cameras, client, names, f'{NODE_NAME}/{names[0]}: {TIME}')
        return [one, fast, several]

    def _cameras_and_client(
        self, stack: ExitStack, topics: dict[str, tuple[str, str]]
    ) -> tuple[Helper, Helper]:
        cameras = stack.enter_context(self._client('cameras', self._plan.headline))
        client = stack.enter_context(self._client('listener', self._plan.headline))
        for target, (image, mask) in topics.items():
            cameras.ask('connect', target=target, image=image, mask=None)
            client.ask('connect', target=target, image=None, mask=mask)
        return cameras, client

    # Processes

    def _night_seg(self, name: str, backend: str, *arguments: str) -> Process:
        return Process(
            name,
            'nightseg_ros.ros.night_seg_node',
            [
                '--ros-args', '-p', f'backend:={backend}', '-p', 'max_image_age_ms:=0.0',
                *(('-p', f'model_path:={self._plan.model}') if self._plan.model else ()),
                *arguments,
            ],
            self._plan.folder,
        )  # fmt: skip

    def _floor(self, environment: dict[str, str] | None = None) -> Process:
        arguments = ['--ros-args', '-r', f'image:=/{FLOOR}/image']
        return Process(FLOOR, 'benchmarks.node.floor', arguments, self._plan.folder, environment)

    def _client(self, name: str, size: Size, environment: dict[str, str] | None = None) -> Helper:
        frames = str(self._frames(size))
        return Helper(name, 'benchmarks.node.client', [frames], self._plan.folder, environment)

    # Frames

    def _frames(self, size: Size) -> Path:
        return self._plan.folder / f'frames_{name_of(size)}.npy'

    def _render(self, size: Size) -> None:
        drive = NightDrive(*size)
        np.save(self._frames(size), np.stack([frame.night for frame in drive.frames(FRAMES)]))


def name_of(size: Size) -> str:
    """Return a size as people write it."""
    return f'{size[0]}x{size[1]}'


def _wait_for(
    client: Helper, targets: list[str], processes: list[Process], limit: float | None = None
) -> None:
    """Wait until a client and the nodes see each other."""
    limits = {} if limit is None else {'limit': limit}
    for target in targets:
        wait_until(
            lambda target=target: client.ask('connected', target=target),
            f'connection with {target}', processes, **limits,
        )  # fmt: skip
    time.sleep(DISCOVERY_S)


def _flood(
    situation: Throughput, cameras: Helper, client: Helper, targets: list[str], status: str
) -> None:
    seconds = situation.seconds
    client.tell('hear', targets=targets, seconds=seconds + 1)
    cameras.tell('drive', targets=targets, seconds=seconds, hz=situation.hz)
    situation.sent = cameras.answer(seconds)
    situation.arrivals = client.answer(1)
    situation.stages = client.ask('diagnostics', status=status)
