"""The task ``evaluation=detection``: the run of the pipeline whose teachers and students are detectors."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import teddy.detection.detector  # noqa: F401 - names its networks
from teddy.config.checks import protocols
from teddy.config.errors import UserError
from teddy.detection.objects import objects_of
from teddy.detection.synthesis import Annotated, SceneInputs
from teddy.detection.training import Detecting, DetectorBase
from teddy.invocation import Invocation
from teddy.plan import Plan
from teddy.pool.prior import PriorPool
from teddy.pool.single import SinglePool
from teddy.pool.trajectory import BaseTraining


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Detection instead of classification, with hard labels alone."""

    def invocation(self, *arguments: Any) -> Invocation:
        return DetectionInvocation(*arguments)

    def check(self, plan: Plan) -> None:
        """Raise UserError if something in a run is for classification only, or a package is missing."""
        if find_spec("pycocotools") is None:
            raise UserError(
                "evaluation=detection needs the package pycocotools; install it with pip install 'teddy-distill[detection]'."
            )
        config = plan.config
        for name, method in plan.methods.items():
            if not isinstance(method, Annotated):
                raise UserError(
                    f"method={name} knows no boxes; choose from conf/method/detection, such as method=[detection/random]."
                )
            if not isinstance(method.pool or plan.strategy, PriorPool | SinglePool):
                raise UserError("evaluation=detection has no pruned teachers; set pool=prior.")
        augment, labels, evaluation = config.dataset.augment, config.labels, config.evaluation
        if (augment.crop, augment.dsa, labels.mix, labels.min_scale) != ("none", "none", "none", 1):
            raise UserError(
                "evaluation=detection mirrors images and no more; set dataset.augment.crop=none, dataset.augment.dsa=none, "
                "labels.mix=none and labels.min_scale=1."
            )
        if config.synthesis.probe_every:
            raise UserError("evaluation=detection has no student probe; set synthesis.probe_every=0.")
        if evaluation.divergence or any(evaluation.protocols[name].labels == "soft" for name in protocols(config)):
            raise UserError(
                "evaluation=detection has neither soft labels nor a divergence; set evaluation.protocol=detection and "
                "evaluation.divergence=false."
            )


class DetectionInvocation(Invocation):
    """A run whose base model and students are detectors, and whose methods see real images with boxes."""

    learning, inputs = Detecting(), SceneInputs

    def base(self) -> BaseTraining:
        objects_of(self.dataset.train, 0)  # images without boxes are found before anything is trained
        return DetectorBase(**vars(super().base()))
