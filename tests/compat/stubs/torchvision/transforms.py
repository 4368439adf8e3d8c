"""The one transform that CompressAI's evaluation tool uses."""

import numpy as np
import torch


class ToTensor:
    def __call__(self, image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
