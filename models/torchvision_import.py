"""Make torchvision importable beside a torch of another build; import this before torchvision.

A torchvision wheel built for CUDA fails to import beside a CPU-only torch because the schemas of
its compiled operators are missing. Declaring the two that the import asks for is enough for its
networks and transforms v2; its compiled image input and output stays unavailable (use OpenCV).
"""

from __future__ import annotations

import torch

_SCHEMAS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}

# Held for the life of the process: the declarations vanish with the library object.
_library: torch.library.Library | None = None

try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if 'torchvision::nms' not in str(error):
        raise
    _library = torch.library.Library('torchvision', 'FRAGMENT')
    for _schema in _SCHEMAS.values():
        _library.define(_schema)
    import torchvision  # noqa: F401
