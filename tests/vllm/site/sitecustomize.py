"""Lets a torchvision wheel that was built for CUDA be imported beside torch for the CPU; found through PYTHONPATH.

Its compiled part cannot be loaded there, so the operators that its Python part gives shapes to are declared here.
"""

import importlib.abc
import sys

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Declares the operators when torchvision is about to be imported."""

    library = None

    def find_spec(self, fullname, path=None, target=None):  # noqa: ARG002
        if fullname == "torchvision" and self.library is None:
            import torch

            type(self).library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                self.library.define(operator)


sys.meta_path.insert(0, DeclareOperators())
