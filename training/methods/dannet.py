"""DANNet (Wu et al., CVPR 2021): adaptation to day and night at once, in one stage."""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from torch import Tensor
from torch import nn

from models.configured import ConfigError
from training.adversary import Adversary
from training.data.driving_data import Batch
from training.losses.light import LightLoss
from training.losses.static import StaticLoss
from training.methods.method import Method
from training.methods.method import Terms
from training.optimisation import PolyAdam


class Domain(NamedTuple):
    """One domain forwarded: logits at the size of its labels, and its light loss (or None)."""

    logits: Tensor
    light: Tensor | None


class Adapted(NamedTuple):
    """Logits that one step of adaptation leaves behind, without gradient.

    ``day`` is None where the method does not use it.
    """

    source: Tensor
    day: Tensor | None
    night: Tensor


class DANNet(Method):
    """G relights and segments source, day and night; D_d and D_n tell them apart.

    Each row of the paper's table 4 is one argument.

    Args:
        net: the segmentation network.
        relighting: the image relighting network; with ``light`` None: "w/o relighting network".
        light: L_light (equation 6); None: "w/o L_light".
        static: L_static (equation 8); None: "w/o L_static".
        static_weight: beta_3.
        use_day: False: "w/o Dark Zurich-D", which leaves no pseudo label for L_static either.
        day_adversary: D_d with its weight beta_4; None is the paper's.
        night_adversary: D_n.
        discriminator_optimizer: of both; None is the paper's (official: learning rate 1e-4).
        target_size: height and width of day and night logits; None is that of the images
            (official: 960, 960 for images resized to 512).
        common: see :class:`Method`.

    Raises:
        ConfigError: when ``light`` is asked for without a relighting network.
    """

    def __init__(
        self,
        net: nn.Module,
        relighting: nn.Module | None = None,
        light: LightLoss | None = None,
        static: StaticLoss | None = None,
        static_weight: float = 1.0,
        use_day: bool = True,
        day_adversary: Adversary | None = None,
        night_adversary: Adversary | None = None,
        discriminator_optimizer: PolyAdam | None = None,
        target_size: tuple[int, int] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(net, relighting, **common)
        if light is not None and relighting is None:
            raise ConfigError('the light loss trains a relighting network: set light to null, too')
        self.light = light
        self.static = static
        self.static_weight = static_weight
        self.use_day = use_day
        self.day_adversary = (day_adversary or Adversary()) if use_day else None
        self.night_adversary = night_adversary or Adversary()
        self.discriminator_optimizer = discriminator_optimizer or PolyAdam()
        self.target_size = target_size and tuple(target_size)

    def adversaries(self) -> nn.ModuleList:
        """Return D_d and D_n."""
        return nn.ModuleList(a for a in (self.day_adversary, self.night_adversary) if a is not None)

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield the losses of equation 11, domain by domain, then those of the discriminators."""
        yield from self.adapt(batch)

    def adapt(self, batch: Batch) -> Generator[Terms, None, Adapted]:
        """Yield the losses in the order of the official code and return the logits."""
        source, labels = batch['source']
        day, night = batch['target']
        # E of the exposure loss: how bright this step's night images are.
        level = self.light and self.light.level(self.generator.normalise(night))
        target_size = self.target_size or night.shape[-2:]

        day_logits = None
        if self.use_day:
            domain = self.forward_domain(day, level, target_size)
            yield _present(
                {
                    'adversarial/day': self.day_adversary.generator_loss(domain.logits),
                    'light/day': self.light and self.light.target_weight * domain.light,
                }
            )
            day_logits = domain.logits.detach()

        domain = self.forward_domain(night, level, target_size)
        yield _present(
            {
                'adversarial/night': self.night_adversary.generator_loss(domain.logits),
                'static': self.static_term(day_logits, domain.logits),
                'light/night': self.light and self.light.target_weight * domain.light,
            }
        )
        night_logits = domain.logits.detach()

        domain = self.forward_domain(source, level, source.shape[-2:])
        yield _present(
            {
                'segmentation': self.segmentation_loss(domain.logits, labels),
                'light/source': self.light and self.light.source_weight * domain.light,
            }
        )
        source_logits = domain.logits.detach()
        del domain

        if self.use_day:
            loss = self.day_adversary.discriminator_loss(source_logits, day_logits)
            yield {'discriminator/day': loss}
        loss = self.night_adversary.discriminator_loss(source_logits, night_logits)
        yield {'discriminator/night': loss}
        return Adapted(source_logits, day_logits, night_logits)

    def forward_domain(
        self, image: Tensor, level: Tensor | None, size: tuple[int, int] | Tensor
    ) -> Domain:
        """Relight and segment uint8 images [N, 3, H, W]; logits of ``size``."""
        output = self.generator(image)
        light = self.light and self.light(output.image, output.residual, level)
        return Domain(self.upsample(output.segmentation.logits, size), light)

    def static_term(self, day_logits: Tensor | None, night_logits: Tensor) -> Tensor | None:
        """Return beta_3 L_static: the day's static classes are the night's pseudo label."""
        if self.static is None or day_logits is None:
            return None
        label = self.static.label(day_logits, night_logits)
        return self.static_weight * self.static(night_logits, label)


def _present(terms: dict[str, Tensor | None]) -> Terms:
    return {name: value for name, value in terms.items() if value is not None}
