"""As Opacus's examples for a command line: options, functions, a memory manager, a main of its own."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from opacus import PrivacyEngine
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch.utils.data import DataLoader


class SampleConvNet(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.fc = nn.Linear(20, classes)

    def forward(self, x):
        return self.fc(F.relu(x))


def train(args, model, device, train_loader, optimizer, privacy_engine, epoch):
    model.train()
    criterion = nn.CrossEntropyLoss()
    losses = []
    with BatchMemoryManager(data_loader=train_loader, max_physical_batch_size=64, optimizer=optimizer) as loader:
        for _batch_idx, (data, target) in enumerate(loader):
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            output = model(data)
            loss = criterion(output, target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    epsilon = privacy_engine.get_epsilon(args.delta)
    print(f"Epoch {epoch} ε = {epsilon}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-b", "--batch-size", type=int, default=128)
    parser.add_argument("-n", "--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--sigma", type=float, default=1.3)
    parser.add_argument("-c", "--max-per-sample-grad_norm", type=float, default=1.5)
    parser.add_argument("--delta", type=float, default=1e-6)
    args = parser.parse_args()
    device = torch.device("cpu")
    train_loader = DataLoader(torch.load("rows.pt"), batch_size=args.batch_size)
    model = SampleConvNet().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    privacy_engine = PrivacyEngine(secure_mode=False)
    model, optimizer, train_loader = privacy_engine.make_private(
        module=model,
        optimizer=optimizer,
        data_loader=train_loader,
        noise_multiplier=args.sigma,
        max_grad_norm=args.max_per_sample_grad_norm,
    )
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, privacy_engine, epoch)


if __name__ == "__main__":
    main()
