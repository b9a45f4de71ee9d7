"""Bi-Mix (Yang et al., 2021): DANNet's adaptation, plus mixing in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from typing import Literal

import torch
from torch import Tensor
from torch import nn

from models.configured import ConfigError
from training.data.driving_data import Batch
from training.losses.mixing import class_mask
from training.losses.mixing import confident_share
from training.losses.mixing import dynamic_mask
from training.losses.mixing import mix
from training.losses.segmentation import pixel_weighted_loss
from training.losses.segmentation import segmentation_loss
from training.losses.static import StaticLoss
from training.losses.static import self_supervised_loss
from training.methods.dannet import Adapted
from training.methods.dannet import DANNet
from training.methods.method import Terms


class BiMix(DANNet):
    """Bidirectional mixing. Table 3 is ``mix_to_segmentation``, ``mix_to_relighting``, relighting.

    Args:
        net: the segmentation network M.
        relighting: f, with F(I) = f(I) + I (equation 1); None: "without relight net", which leaves
            no M->F direction.
        mix_to_segmentation: mu_1, weight of L_F->M (equation 4); 0 switches Trans2Seg off.
        mix_to_relighting: mu_2, weight of L_M->F (equation 12); 0 switches Seg2Trans off.
        self_supervised_weight: mu_3, weight of L_ssl.
        form: ``paper`` or ``official``: what mixed labels are made of, how L_F->M is weighted,
            which pixels move, what L_ssl is, whether the target of L_M->F is detached.
        static: makes the official pseudo labels, and is the official L_ssl on the mixed image;
            None is StaticLoss() as DANNet's code has it. The paper's form does not use it.
        common: see :class:`DANNet` and :class:`Method`.

    Raises:
        ConfigError: when ``mix_to_relighting`` or ``light`` is asked for without relighting or day.
    """

    def __init__(
        self,
        net: nn.Module,
        relighting: nn.Module | None = None,
        mix_to_segmentation: float = 0.001,
        mix_to_relighting: float = 0.001,
        self_supervised_weight: float = 1.0,
        form: Literal['paper', 'official'] = 'paper',
        static: StaticLoss | None = None,
        **common: Any,
    ) -> None:
        if form == 'official' and static is None:
            static = StaticLoss(neighbourhood=1, pseudo_label='fused', likelihood='static')
        super().__init__(net, relighting, static=static, **common)
        if mix_to_relighting and (relighting is None or not self.use_day):
            raise ConfigError(
                'mixing from M to F needs the day and a relighting network: set mix_to_relighting '
                'to 0 without them'
            )
        self.mix_to_segmentation = mix_to_segmentation
        self.mix_to_relighting = mix_to_relighting
        self.self_supervised_weight = self_supervised_weight
        self.form = form

    def terms(self, batch: Batch) -> Iterator[Terms]:
        """Yield equation 15: DANNet's domains with L_ssl, Trans2Seg, Seg2Trans."""
        adapted = yield from self.adapt(batch)
        source, labels = batch['source']
        day, night = batch['target']
        if self.mix_to_segmentation:
            yield self.trans2seg(source, labels, night, adapted)
        if self.mix_to_relighting:
            yield {'mix/relighting': self.mix_to_relighting * self.seg2trans(day, night, adapted)}

    def static_term(self, day_logits: Tensor | None, night_logits: Tensor) -> Tensor | None:
        """Return mu_3 L_ssl on the night image (equation 5); the code has it on the mixed one."""
        if self.form == 'official' and self.mix_to_segmentation:
            return None
        if self.form == 'official':
            return super().static_term(day_logits, night_logits)
        if day_logits is None or not self.self_supervised_weight:
            return None
        return self.self_supervised_weight * self_supervised_loss(day_logits, night_logits)

    def trans2seg(self, source: Tensor, labels: Tensor, night: Tensor, adapted: Adapted) -> Terms:
        """Return mu_1 L_F->M: half the source's classes pasted into the night (equations 2 to 4).

        The mixed image goes into M as it is, without relighting (equation 3).
        """
        official = self.form == 'official'
        size = labels.shape[-2:]
        night_logits = self.upsample(adapted.night, size)
        mask = class_mask(labels, draw_unlabelled=official)
        image = self.generator.normalise(mix(mask, source, night))
        logits = self.upsample(self.generator.net(image).logits, size)
        if not official:
            mixed = mix(mask, labels, night_logits.argmax(dim=1))
            loss = segmentation_loss(logits, mixed, None, self.segmentation_reduction)
            return {'mix/segmentation': self.mix_to_segmentation * loss}
        day_logits = night_logits if adapted.day is None else self.upsample(adapted.day, size)
        taught = self.static.label(day_logits, night_logits)
        share = confident_share(night_logits.softmax(dim=1))
        weights = torch.where(mask, torch.ones_like(share), share)
        loss = pixel_weighted_loss(logits, mix(mask, labels, taught), weights)
        return {
            'mix/segmentation': self.mix_to_segmentation * loss,
            'static': self.self_supervised_weight * self.static(logits, taught),
        }

    def seg2trans(self, day: Tensor, night: Tensor, adapted: Adapted) -> Tensor:
        """Return L_M->F: what moves by day pasted into the night relights alike (eq. 10 to 12)."""
        if self.form == 'official':
            with torch.no_grad():
                unlit = self.generator.net(self.generator.normalise(day)).logits
            predicted = self.upsample(unlit, day.shape[-2:]).argmax(dim=1)
            mask = dynamic_mask(predicted, first_dynamic=12)
        else:
            mask = dynamic_mask(self.upsample(adapted.day, day.shape[-2:]).argmax(dim=1))
        f = self.generator.relighting
        wanted = f(self.generator.normalise(day)).float()
        if self.form == 'paper':
            wanted = wanted.detach()
        mixed = f(self.generator.normalise(mix(mask, day, night))).float()
        return (mixed - wanted).abs().mean()
