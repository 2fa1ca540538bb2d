"""The demonstration's study: the model as a researcher writes it, and what is asked of each hospital.

Nothing was tuned on the demonstration's patients, and no hospital's budget was spent on it: the training is what
`researcher.Training.suggest` gives for the published numbers of patients. `make bench-utility` says what it comes to on
populations of other seeds, and on tables of real patients.
"""

from __future__ import annotations

from torch import Tensor, nn, relu, sigmoid

from policies.privacy.mechanisms import KaplanMeier, Regression

DELTA = 1e-5
POPULATION_EPSILON = 6.0
COUNT_EPSILON = 0.1
EVALUATION_EPSILON = 0.5
EVALUATION_BINS = 20
STATISTICS_EPSILON = 0.15
STATISTICS_BINS = 9
SURVIVAL_EPSILON = 0.07
REGRESSION_EPSILON = 0.4

TRAINING_EPSILON = 2.0
ROUNDS = 50
"""At most so many: a study of more takes longer than a demonstration may. The hospitals' policy allows 200."""


SURVIVAL = KaplanMeier(time="days_away", event="returned", by="influenza", epsilon=SURVIVAL_EPSILON)
"""How long patients stay away from their usual activities, with influenza and without."""

REGRESSION = Regression(
    outcome="influenza",
    terms=("temperature", "cough", "vaccinated", "exposure"),
    family="binomial",
    epsilon=REGRESSION_EPSILON,
    delta=DELTA,
)
"""What goes with influenza, as odds ratios. Noise hides 7 of 100 simulated answers of the smallest hospital."""


class FluPredictor(nn.Module):
    """Ten features of a visit in, the chance of influenza out.

    What features say one by one is learnt directly, and fast; the hidden layer has what they say together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.direct = nn.Linear(10, 1)
        self.hidden = nn.Linear(10, 64)
        self.output = nn.Linear(64, 1)

    def forward(self, features: Tensor) -> Tensor:
        return sigmoid(self.direct(features) + self.output(relu(self.hidden(features))))


class FluCoursePredictor(nn.Module):
    """The variant that reads the first five days of the illness (`inputs="course"`: temperature and cough per day)."""

    def __init__(self) -> None:
        super().__init__()
        self.course = nn.LSTM(2, 16, batch_first=True)
        self.output = nn.Linear(16, 1)

    def forward(self, days: Tensor) -> Tensor:
        states, _ = self.course(days)
        return sigmoid(self.output(states[:, -1]))


class MalignancyPredictor(nn.Module):
    """Ten mean features of a breast mass in, the chance that it is malignant out."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(10, 8)
        self.output = nn.Linear(8, 1)

    def forward(self, features: Tensor) -> Tensor:
        return sigmoid(self.output(relu(self.hidden(features))))
