"""The first example of Opacus's README, with what it leaves to its reader filled in."""

import torch
from opacus import PrivacyEngine
from torch import nn, optim

model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = optim.SGD(model.parameters(), lr=0.05)
dataset = torch.utils.data.TensorDataset(torch.randn(512, 20), torch.randint(0, 2, (512,)))
data_loader = torch.utils.data.DataLoader(dataset, batch_size=32)
criterion = nn.CrossEntropyLoss()

privacy_engine = PrivacyEngine()
model, optimizer, data_loader = privacy_engine.make_private(
    module=model,
    optimizer=optimizer,
    data_loader=data_loader,
    noise_multiplier=1.1,
    max_grad_norm=1.0,
)
for x, y in data_loader:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
print(privacy_engine.get_epsilon(delta=1e-5))
