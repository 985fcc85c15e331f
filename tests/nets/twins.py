"""The networks for small images in PyTorch. The module torch is an argument, because it is not a dependency."""

import itertools


def resnet_twin(torch, blocks, width):
    """Returns the twin of ``ResNet``."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inside, out, stride):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
            self.conv2, self.norm2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
            self.shortcut = None
            if stride > 1 or inside != out:
                self.shortcut, self.shortcut_norm = nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out)

        def forward(self, x):
            y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
            return torch.relu(y + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            modules, inside = [], width
            for stage, number in enumerate(blocks):
                for index in range(number):
                    modules.append(Block(inside, width * 2**stage, 2 if stage and not index else 1))
                    inside = width * 2**stage
            self.blocks, self.head = nn.ModuleList(modules), nn.Linear(inside, 10)

        def forward(self, x):
            x = torch.relu(self.norm(self.conv(x)))
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean((2, 3)))

    return Net()


def vgg_twin(torch, width):
    """Returns the twin of ``VGG16``."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            channels = [3, *(c * width // 64 for c in [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6)]
            pairs = list(itertools.pairwise(channels))
            self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
            self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b in pairs)
            self.head = nn.Linear(channels[-1], 10)

        def forward(self, x):
            for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                x = torch.relu(norm(conv(x)))
                if i in (1, 3, 6, 9, 12):
                    x = torch.max_pool2d(x, 2)
            return self.head(x.flatten(1))

    return Net()
