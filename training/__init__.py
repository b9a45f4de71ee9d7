"""The offline part: data, losses, methods, export. Run from a checkout: ``python -m training``."""

# Lightning imports torchmetrics, which imports torchvision: make that import work first.
import models.torchvision_import  # noqa: F401
