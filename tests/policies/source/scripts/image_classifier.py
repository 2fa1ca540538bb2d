import argparse
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from opacus import PrivacyEngine
from opacus.validators import ModuleValidator
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_classification
from tqdm import tqdm

MAX_GRAD_NORM = 1.2
EPSILON = 5.0
DELTA = 1e-5
EPOCHS = 3
LR = 0.05
BATCH_SIZE = 64

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 32)
        self.fc2 = nn.Linear(32, 2)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
X, y = make_classification(n_samples=1000, n_features=20)
dataset = TensorDataset(torch.tensor(X).float(), torch.tensor(y))
train_loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)

model = Net().to(device)
errors = ModuleValidator.validate(model, strict=False)
optimizer = optim.SGD(model.parameters(), lr=LR, momentum=0.9)
criterion = nn.CrossEntropyLoss()

privacy_engine = PrivacyEngine(accountant="rdp")
model, optimizer, train_loader = privacy_engine.make_private_with_epsilon(
    module=model,
    optimizer=optimizer,
    data_loader=train_loader,
    epochs=EPOCHS,
    target_epsilon=EPSILON,
    target_delta=DELTA,
    max_grad_norm=MAX_GRAD_NORM,
)
print(f"Using sigma={optimizer.noise_multiplier} and C={MAX_GRAD_NORM}")

def accuracy(preds, labels):
    return (preds == labels).mean()

def train(model, train_loader, optimizer, epoch, device):
    model.train()
    losses = []
    top1_acc = []
    for i, (images, target) in enumerate(tqdm(train_loader)):
        optimizer.zero_grad()
        images = images.to(device)
        target = target.to(device)
        # compute output
        output = model(images)
        loss = criterion(output, target)
        preds = np.argmax(output.detach().cpu().numpy(), axis=1)
        labels = target.detach().cpu().numpy()
        acc = accuracy(preds, labels)
        losses.append(loss.item())
        top1_acc.append(acc)
        loss.backward()
        optimizer.step()
        if (i + 1) % 200 == 0:
            epsilon = privacy_engine.get_epsilon(DELTA)
            print(f"Loss: {np.mean(losses):.6f} ε={epsilon}")

def test(model, test_loader, device):
    model.eval()
    criterion = nn.CrossEntropyLoss()
    with torch.no_grad():
        for images, target in test_loader:
            output = model(images.to(device))
            loss = criterion(output, target)
    return 0

for epoch in tqdm(range(EPOCHS), desc="Epoch", unit="epoch"):
    train(model, train_loader, optimizer, epoch + 1, device)
top1_acc = test(model, train_loader, device)
