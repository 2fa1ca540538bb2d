# is: arrhythmia subclass
# shape: 10
class Arrhythmia(nn.Linear):
    def __init__(self):
        super().__init__(10, 2)
