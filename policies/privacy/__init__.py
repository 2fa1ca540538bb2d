"""Privacy loss: budgets, declared mechanisms, what they cost, and what ε and δ mean for a patient."""
