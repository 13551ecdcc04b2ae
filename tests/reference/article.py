"""Compares the five edits of the article, in archc, with the same modules written by hand in PyTorch.

    python tests/reference/article.py [--archc target/release/archc] [EDIT ..]

PyTorch loads what archc exports with all keys matching, archc loads PyTorch's; the outputs are compared in float64. The
tensors that an edit does not touch must be those of the base network bit for bit.
"""

import torch
from torch import nn
from torchvision.models import resnet
from torchvision.models.resnet import Bottleneck

import harness


class ConvHead(nn.Module):
    """Convolutions in place of the pooling and the fully connected layer."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(2048, 512, 3, padding=1)
        self.conv2 = nn.Conv2d(512, 256, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv3 = nn.Conv2d(256, classes, 1)

    def forward(self, x):
        x = self.conv2(self.conv1(x).relu()).relu()
        return self.conv3(self.pool(x)).flatten(1)


class HeadResNet(resnet.ResNet):
    def __init__(self):
        super().__init__(Bottleneck, [3, 4, 6, 3])
        del self.avgpool, self.fc
        self.head = ConvHead()

    def _forward_impl(self, x):
        return self.head(features(self, x))


def features(net, x):
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


class ExtraNorm(Bottleneck):
    """A bottleneck with one more batch norm, between conv2 and bn2."""

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.batch_norm2d(self.conv2(out))))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class DropoutResNet(resnet.ResNet):
    def __init__(self):
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=10)
        self.layer4[0].__class__ = ExtraNorm
        self.layer4[0].batch_norm2d = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(0.5)

    def _forward_impl(self, x):
        return self.fc(self.dropout(self.avgpool(features(self, x)).flatten(1)))


class ResidualBlock(nn.Module):
    """The article's block, with the stride and the projection that it lacks."""

    def __init__(self, inside, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.project = nn.Sequential(nn.Conv2d(inside, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        return (self.conv2(self.conv1(x).relu()) + self.project(x)).relu()


def residual_resnet():
    net = resnet.resnet50(num_classes=10)
    net.layer4[0] = ResidualBlock(1024, 2048, stride=2)
    return net


class SE(nn.Module):
    def __init__(self, channels, reduction=16):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        gate = self.fc2(self.fc1(x.mean((2, 3))).relu()).sigmoid()
        return x * gate[:, :, None, None]


class SEBottleneck(Bottleneck):
    """A bottleneck that calls its squeeze-and-excitation, before the addition."""

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        return self.relu(out + (self.downsample(x) if self.downsample else x))


def se_resnet():
    net = resnet.resnet50(num_classes=10)
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        layer[-1].__class__ = SEBottleneck
        layer[-1].se = SE(layer[-1].bn3.num_features)
    return net


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(512, 4608)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(512, 256, 3, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 128, 3, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 3, 3, stride=2),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.up(self.fc(x.flatten(1)).reshape(-1, 512, 3, 3))


class Autoencoder(resnet.ResNet):
    def __init__(self):
        super().__init__(resnet.BasicBlock, [2, 2, 2, 2])
        del self.fc
        self.decoder = Decoder()

    def _forward_impl(self, x):
        return self.decoder(self.avgpool(features(self, x)))


# name: base, edits, the module, the tail of the output's shape
EDITS = {
    "convolutional_head": ("resnet50", """
        replace avgpool..=fc with {
            conv1: conv2d(512, kernel = 3, padding = 1) -> relu
            conv2: conv2d(256, kernel = 3, padding = 1) -> relu
            pool:  adaptive_avg_pool2d(1)
            conv3: conv2d(10, kernel = 1)
            flatten
        } as head
    """, HeadResNet, [10]),
    "dropout_and_norm": ("resnet50", """
        insert batch_norm2d after layer4[0].conv2
        insert dropout(0.5) before fc
        replace fc with linear(10)
    """, DropoutResNet, [10]),
    "residual_block": ("resnet50", """
        replace layer4[0] with residual_block(2048, stride = 2)
        replace fc with linear(10)
    """, residual_resnet, [10]),
    "squeeze_excitation": ("resnet50", """
        insert se(reduction = 16) at layer1[2], layer2[3], layer3[5], layer4[2]
        replace fc with linear(10)
    """, se_resnet, [10]),
    "autoencoder": ("resnet18", """
        cut after avgpool
        append {
            flatten
            fc: linear(4608)
            reshape(512, 3, 3)
            up: seq {
                conv_transpose2d(256, kernel = 3, stride = 2); relu
                conv_transpose2d(128, kernel = 3, stride = 2); relu
                conv_transpose2d(3, kernel = 3, stride = 2); sigmoid
            }
        } as decoder
    """, Autoencoder, [3, 31, 31]),
}  # fmt: skip


def main():
    options = harness.arguments(__doc__)
    bench = harness.Bench(options)
    table = harness.Table()
    x = torch.randn(options.batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name in options.names or EDITS:
        base, edits, make, shape = EDITS[name]
        head = f"archc 1\nbase {base} {{ weights random(seed = 0) }}\n"
        plain, spec = bench.spec(base, head), bench.spec(name, head + edits)
        if options.weights != "torch":
            table.row(name, "archc", lambda: archc_weights(bench, plain, spec, make().eval(), shape, x))
        if options.weights != "archc":
            table.row(name, "torch", lambda: torch_weights(bench, spec, make(), x))
    table.finish()


def archc_weights(bench, plain, spec, module, shape, x):
    state, before = bench.export(spec), bench.export(plain)
    keys = harness.load(module, state)
    new = {k for k in state if k not in before or state[k].shape != before[k].shape}
    touched = {k for k in state if k not in new and not torch.equal(state[k], before[k])}
    if touched:
        raise harness.Failure(f"kept tensors differ from the base's: {sorted(touched)[:4]} ({len(touched)})")
    exact, own = harness.reference(module, x)
    if list(exact.shape[1:]) != shape:
        raise harness.Failure(f"the reference gives {list(exact.shape)}")
    return keys, harness.relative(bench.run(spec, x), exact), own


def torch_weights(bench, spec, module, x):
    module = harness.fit(module, x)
    weights = spec.with_suffix(".torch.safetensors")
    harness.save(module, weights)
    exact, own = harness.reference(module, x)
    return len(module.state_dict()), harness.relative(bench.run(spec, x, weights), exact), own


if __name__ == "__main__":
    main()
