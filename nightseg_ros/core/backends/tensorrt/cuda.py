"""What the TensorRT backend needs of CUDA: a device, memory, a stream and a graph.

Every call is checked: a status other than success raises BackendError with the call, CUDA's name
for the error and what to do. cuda-bindings releases the GIL during each call (its maintainers say
so in NVIDIA/cuda-python issue 1065), so other threads run while this one waits for the GPU.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.backends.base import BackendError

try:
    from cuda.bindings import runtime as cudart
except ImportError:  # cuda-python 11 and the first of 12; cuda-bindings 13 has only the new name
    from cuda import cudart

_NO_GPU = (
    'there is no NVIDIA GPU that CUDA can use: is the driver loaded (nvidia-smi; on a Jetson '
    'tegrastats), was the container started with --gpus all or --runtime nvidia, and is '
    'cuda-bindings not newer than the driver?'
)
_REMEDIES = {
    'cudaErrorMemoryAllocation': 'the GPU has no memory left: stop other programs that use it, '
    'or take a smaller model',
    'cudaErrorNoDevice': _NO_GPU,
    'cudaErrorInsufficientDriver': _NO_GPU,
    'cudaErrorSystemDriverMismatch': _NO_GPU,
    'cudaErrorInitializationError': _NO_GPU,
    'cudaErrorInvalidDevice': 'there is no such GPU: take another device',
}
_STICKY = (
    'CUDA does not recover from most errors within a process: restart it; if this comes back, '
    'look for Xid messages in dmesg'
)


def checked(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of cudart and return its value, None where it has none.

    Raises:
        BackendError: its status is not success, or there is no driver to call.
    """
    try:
        status, *values = function(*arguments)
    except RuntimeError as error:  # cuda-python 11 where libcuda.so.1 is missing
        raise BackendError(f'{function.__name__} failed ({error}): {_NO_GPU}') from error
    if int(status) != 0:
        name = cudart.cudaGetErrorName(status)[1].decode()
        text = cudart.cudaGetErrorString(status)[1].decode()
        remedy = _REMEDIES.get(name, _STICKY)
        raise BackendError(f'{function.__name__} failed with {name} ({text}): {remedy}')
    return values[0] if values else None


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        index: CUDA's number of it.
        name: 'Orin', 'NVIDIA GeForce RTX 4090'.
        compute_capability: '8.7'.
        integrated: whether it shares the memory of the CPU, as a Jetson's does.
        runtime: version of the CUDA runtime, '12.6'.
    """

    index: int
    name: str
    compute_capability: str
    integrated: bool
    runtime: str

    @classmethod
    def find(cls, index: int) -> Device:
        """Return a GPU by its number.

        Raises:
            BackendError: there is none, or no driver.
        """
        count = checked(cudart.cudaGetDeviceCount)
        if not 0 <= index < count:
            raise BackendError(f'there is no GPU {index}, only 0 to {count - 1}')
        properties = checked(cudart.cudaGetDeviceProperties, index)
        version = checked(cudart.cudaRuntimeGetVersion)
        return cls(
            index,
            bytes(properties.name).split(b'\0')[0].decode(),
            f'{properties.major}.{properties.minor}',
            bool(properties.integrated),
            f'{version // 1000}.{version % 1000 // 10}',
        )

    def make_current(self) -> None:
        """Let this thread's calls go to this GPU: CUDA keeps the choice per thread."""
        checked(cudart.cudaSetDevice, self.index)


class Stream:
    """A queue of work of the GPU, apart from the default stream of other libraries."""

    def __init__(self) -> None:
        self._stream = checked(cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)
        # An event that blocks frees the CPU while the GPU works, whoever made the CUDA context;
        # cudaDeviceScheduleBlockingSync would have to be set before anybody else makes it.
        flags = cudart.cudaEventBlockingSync | cudart.cudaEventDisableTiming
        try:
            self._done = checked(cudart.cudaEventCreateWithFlags, flags)
        except BackendError:
            cudart.cudaStreamDestroy(self._stream)
            raise

    @property
    def handle(self) -> int:
        """Address for TensorRT."""
        return int(self._stream)

    def copy(self, target: int, source: int, size: int, kind: Any) -> None:
        """Queue a copy of bytes between addresses; kind is a ``cudaMemcpyKind``."""
        checked(cudart.cudaMemcpyAsync, target, source, size, kind, self._stream)

    def wait(self) -> None:
        """Block until all that was queued is done, without the GIL and without spinning."""
        checked(cudart.cudaEventRecord, self._done, self._stream)
        checked(cudart.cudaEventSynchronize, self._done)

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """Return what a function queues, as a graph; nothing of it runs.

        Raises:
            BackendError: something in it cannot be captured; the stream is as before.
        """
        # Thread-local: in any other mode, allocations of other threads would break the capture.
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cudart.cudaStreamBeginCapture, self._stream, mode)
        try:
            enqueue()
        except BackendError:
            cudart.cudaStreamEndCapture(self._stream)
            raise
        else:
            graph = checked(cudart.cudaStreamEndCapture, self._stream)
        finally:
            cudart.cudaGetLastError()  # or a later call would return the failure of this one
        try:
            return Graph(checked(cudart.cudaGraphInstantiateWithFlags, graph, 0), self._stream)
        finally:
            cudart.cudaGraphDestroy(graph)

    def close(self) -> None:
        """Free it; errors are of no use any more."""
        cudart.cudaEventDestroy(self._done)
        cudart.cudaStreamDestroy(self._stream)


class Graph:
    """Captured work, queued again in one call."""

    def __init__(self, executable: Any, stream: Any) -> None:
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        """Queue it on the stream that it was captured from."""
        checked(cudart.cudaGraphLaunch, self._executable, self._stream)

    def close(self) -> None:
        """Free it."""
        cudart.cudaGraphExecDestroy(self._executable)


class TensorMemory:
    """A uint8 tensor that CPU and GPU both see.

    Where they share their memory (``Device.integrated``) it is one piece of memory that both map,
    else two with copies between them.

    Attributes:
        host: the CPU's view, pinned, zero at first. Its memory lives as long as any view of it.
        address: the GPU's view.
        device_bytes: what it takes of the GPU's own memory.
    """

    def __init__(self, shape: tuple[int, ...], shared: bool) -> None:
        size = math.prod(shape)
        self.host = _pinned(size, cudart.cudaHostAllocMapped if shared else 0).reshape(shape)
        self.device_bytes = 0 if shared else size
        host_address = self.host.ctypes.data
        self.address = int(
            checked(cudart.cudaHostGetDevicePointer, host_address, 0)
            if shared
            else checked(cudart.cudaMalloc, size)
        )

    def upload(self, stream: Stream) -> None:
        """Queue the copy to the GPU, where one is needed."""
        if self.device_bytes:
            kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
            stream.copy(self.address, self.host.ctypes.data, self.device_bytes, kind)

    def download(self, stream: Stream) -> None:
        """Queue the copy to the CPU, where one is needed."""
        if self.device_bytes:
            kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
            stream.copy(self.host.ctypes.data, self.address, self.device_bytes, kind)

    def close(self) -> None:
        """Free the GPU's memory; that of the CPU goes with the last view of it."""
        if self.device_bytes:
            cudart.cudaFree(self.address)


def _pinned(size: int, flags: int) -> NDArray[np.uint8]:
    """Return page-locked memory, freed when no array refers to it any more."""
    address = int(checked(cudart.cudaHostAlloc, size, flags))
    memory = (ctypes.c_uint8 * size).from_address(address)
    # Not at exit: threads that still run then may hold views, and the process frees it anyway.
    weakref.finalize(memory, cudart.cudaFreeHost, address).atexit = False
    array = np.ctypeslib.as_array(memory)
    array[:] = 0
    return array
